"""From a ResolvedSpec to a RunRecord in one process. Knows no Ray."""

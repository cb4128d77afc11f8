"""From candidates to a decision: their features, their predicted scores, what to run."""

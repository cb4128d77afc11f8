"""Meta-features: numbers that describe a run before it is run. Pure functions; no Ray here."""

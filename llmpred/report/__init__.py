"""Reports: what a run's evaluation says, for people."""

"""Ray Tune runs what the ledger does not have."""

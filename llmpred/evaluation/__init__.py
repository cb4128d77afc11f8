"""Evaluation: what finished runs say, from their records and predictions alone."""

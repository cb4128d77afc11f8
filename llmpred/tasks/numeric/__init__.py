"""Quantities in texts, read and predicted by one token."""

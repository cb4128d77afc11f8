"""Asking trained models: of kept weights, of a run in a ledger, or of an untouched base."""

from llmpred.inference.predictor import Answer, Predictor

__all__ = ["Answer", "Predictor"]

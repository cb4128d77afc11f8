"""MLflow: every run of a sweep side by side, in a browser. Never in the way of a sweep."""

from llmpred.tracking.locations import default_uri, ui
from llmpred.tracking.tracker import Outcome, Synced, Tracker, sync

__all__ = ["Outcome", "Synced", "Tracker", "default_uri", "sync", "ui"]

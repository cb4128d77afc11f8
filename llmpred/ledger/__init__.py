"""The ground-truth store: every run that was paid for, in a folder or a bucket."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmpred.ledger.claims import Claim as Claim
    from llmpred.ledger.claims import Heartbeat as Heartbeat
    from llmpred.ledger.claims import Owner as Owner
    from llmpred.ledger.claims import claim as claim
    from llmpred.ledger.claims import release as release
    from llmpred.ledger.claims import renew as renew
    from llmpred.ledger.claims import status as status
    from llmpred.ledger.claims import this_process as this_process
    from llmpred.ledger.difference import Difference as Difference
    from llmpred.ledger.difference import diff as diff
    from llmpred.ledger.exchange import Imported as Imported
    from llmpred.ledger.exchange import export as export
    from llmpred.ledger.exchange import import_table as import_table
    from llmpred.ledger.ledger import AlreadyRecorded as AlreadyRecorded
    from llmpred.ledger.ledger import Compaction as Compaction
    from llmpred.ledger.ledger import Finding as Finding
    from llmpred.ledger.ledger import Ledger as Ledger
    from llmpred.ledger.ledger import opened as opened
    from llmpred.ledger.record import RunRecord as RunRecord
    from llmpred.ledger.storage import DamagedFolder as DamagedFolder
    from llmpred.ledger.storage import Storage as Storage
    from llmpred.ledger.storage import safe_name as safe_name

DEFAULT_STORAGE = "~/llmpred"

_HOMES = {
    "claims": "Claim Heartbeat Owner claim release renew status this_process",
    "difference": "Difference diff",
    "exchange": "Imported export import_table",
    "ledger": "AlreadyRecorded Compaction Finding Ledger opened",
    "record": "RunRecord",
    "storage": "DamagedFolder Storage safe_name",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: records bring pydantic and the spec."""
    for module, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

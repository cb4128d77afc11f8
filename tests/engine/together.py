"""Carry out runs as one of several processes; the first one writes what came out of each.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 python together.py FOLDER STOP …

Each folder holds the run's spec.json; STOP is the step after which it is asked to stop, or 0.
"""

import pickle
import sys
from pathlib import Path

from llmpred.bases.resolve import resolve
from llmpred.engine import parallel
from llmpred.engine.models import Interrupted, LoadedBases
from llmpred.engine.run import Outcome, execute
from llmpred.spec.run import RunSpec


def carry_out(folder: Path, last: int) -> Outcome | None:
    """Carry out the run in a folder; None if it was stopped."""
    spec = RunSpec.model_validate_json((folder / "spec.json").read_text())
    asked = 0

    def stop() -> str | None:
        nonlocal asked
        asked += 1
        return "enough for today" if asked == last else None

    try:
        return execute(resolve(spec), LoadedBases(), folder, keep_adapter=True, stop=stop)
    except Interrupted:
        return None


if __name__ == "__main__":
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    for path, last in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        unset_hf_deepspeed_config()  # in a sweep each run has processes of its own
        outcome = carry_out(Path(path), int(last))
        if parallel.first():
            (Path(path) / "outcome.pickle").write_bytes(pickle.dumps(outcome))
    parallel.barrier()
    torch.distributed.destroy_process_group()

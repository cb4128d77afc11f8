"""Carry out a run as one of several processes; the first one writes what came out.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 python together.py SPEC.json FOLDER STOP

STOP is the step after which it is asked to stop, or 0.
"""

import pickle
import sys
from pathlib import Path

from llmpred.bases.resolve import resolve
from llmpred.engine import parallel
from llmpred.engine.models import Interrupted, LoadedBases
from llmpred.engine.run import execute
from llmpred.spec.run import RunSpec

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
    folder, last = Path(sys.argv[2]), int(sys.argv[3])
    asked = 0

    def stop() -> str | None:
        global asked
        asked += 1
        return "enough for today" if asked == last else None

    try:
        outcome = execute(resolve(spec), LoadedBases(), folder, keep_adapter=True, stop=stop)
    except Interrupted:
        sys.exit(3)
    if parallel.first():
        (folder / "outcome.pickle").write_bytes(pickle.dumps(outcome))
    parallel.barrier()
    torch.distributed.destroy_process_group()

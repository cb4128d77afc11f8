"""Carry out a run in a process of its own that kills itself, as `kill -9` would, after a step.

python killed.py SPEC.json FOLDER STEP
"""

import os
import signal
import sys
from pathlib import Path

from llmpred.bases.resolve import resolve
from llmpred.engine.models import LoadedBases
from llmpred.engine.run import execute
from llmpred.spec.run import RunSpec

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
    steps = 0

    def stop() -> None:
        global steps
        steps += 1
        if steps == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

    execute(resolve(spec), LoadedBases(), Path(sys.argv[2]), stop=stop)

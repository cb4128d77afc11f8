"""Probe a run and die: `killed.py SPEC FOLDER within|after`."""

import os
import signal
import sys
from pathlib import Path

import torch

from llmpred.bases.resolve import resolve
from llmpred.engine.models import LoadedBases
from llmpred.features.probe import probe
from llmpred.spec.run import RunSpec

torch.set_num_threads(1)
spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
if sys.argv[3] == "within":
    step = torch.optim.AdamW.step
    left = 2

    def last_step(*args, **kwargs):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)

    torch.optim.AdamW.step = last_step
probe(resolve(spec), LoadedBases(), Path(sys.argv[2]), steps=3)
os.kill(os.getpid(), signal.SIGKILL)

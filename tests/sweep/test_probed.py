"""A probe beside a run's checkpoints in a bucket, which the worker has to bring and to keep."""

import json
import math
from pathlib import Path

import pytest

from llmpred.bases.resolve import resolve
from llmpred.engine.models import LoadedBases
from llmpred.features.store import get_many
from llmpred.ledger import Storage
from llmpred.spec.run import RunSpec
from llmpred.sweep import features
from llmpred.sweep.features import jobs_for
from tests.runs import carry_out, run_spec


def probed(spec: RunSpec, bucket: str, tmp_path: Path) -> dict[str, float]:
    """Take the probe of a run as a worker does; return its measurement as kept."""
    [(at, job)] = jobs_for([resolve(spec)], ["probe"], None).items()
    orders = features._Orders(bucket, str(Path.cwd()), tmp_path / "cache", None, readers=1)
    assert not features._carry_out(job, orders).error
    return get_many(Storage(bucket), [at])[at].facts


def test_a_run_that_is_further_keeps_its_checkpoint(
    tiny_causal: Path, bucket: str, tmp_path: Path
) -> None:
    spec = run_spec(tiny_causal, execution={"checkpoints": {"every": 5, "keep": 1}})
    carry_out(spec, tmp_path / "run", keep_adapter=True)
    manifest = f"checkpoints/{resolve(spec).key}/manifest.json"
    Storage(bucket).put_folder(tmp_path / "run", f"checkpoints/{resolve(spec).key}")
    before = Storage(bucket).read_bytes(manifest)
    assert b"checkpoint-6" in before
    probed(spec, bucket, tmp_path)
    assert json.loads(Storage(bucket).read_bytes(manifest)) == json.loads(before)


def test_a_probe_that_diverges_is_kept(
    tiny_causal: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = run_spec(tiny_causal)
    bases = LoadedBases()
    model = bases.get(resolve(spec), None).model
    model.lm_head.register_forward_hook(
        lambda module, args, output: output * math.nan if module.training else output
    )
    monkeypatch.setattr(features, "_bases", lambda: bases)
    assert probed(spec, bucket, tmp_path)["diverged"] == 1
    assert not Storage(bucket).list(f"checkpoints/{resolve(spec).key}/")

"""What comparisons and runs leave on disk."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest

from llmpred.errors import InputError, StorageError
from llmpred.ledger import safe_name
from llmpred.report import run_folder
from llmpred.report.comparison import Latency
from llmpred.report.comparison_folder import Asked, write
from llmpred.report.latency import measure
from llmpred.report.pages import html, markdown
from llmpred.report.tables import Column, Page, Section, Table, written
from llmpred.spec.space import Published

from .conftest import ZERO_SHOT, group_of, scheme_of, spec_of, with_records_of

RIGHT = [i % 10 > 0 for i in range(120)]
WRONG = [i % 3 > 0 for i in range(120)]
EVIL = "<script>alert(1)</script>"


def three():
    return (
        scheme_of("LoRA, tuned", RIGHT, WRONG),
        scheme_of("zero-shot", WRONG, spec=spec_of(method=ZERO_SHOT)),
        scheme_of("gone"),
    )


def test_a_comparison_leaves_its_files(keep, tmp_path):
    schemes = three()
    ledger = keep(*schemes)
    out = tmp_path / "out"
    group = with_records_of(ledger, group_of(*schemes))
    published = [
        Published(method="zero-shot", base="B", data="D", metrics={"accuracy": 0.88}, source="S")
    ]
    asked = Asked({"zero-shot": Latency(0.01, 0.02, 5)}, warnings=("LoRA could not be asked",))
    found = write(
        out, "T", [group], ledger, published=published, notes=["2 left out"], ask=lambda g: asked
    )
    tuned = out / safe_name("LoRA, tuned")
    assert {p.name for p in out.iterdir()} == {
        *("report.md", "report.html", "baseline_comparison.json", "comparison.json", "plots"),
        *(".llmpred-comparison.json", tuned.name, "zero-shot"),
    }
    assert {p.name for p in tuned.iterdir()} == {
        *("lora_adapter", "train_results.json", "test_results.json", "predictions.parquet"),
        *("metrics.json", "confidence_analysis.json", "seed-1"),
    }
    assert (tuned / "lora_adapter" / "adapter_model.safetensors").read_bytes() == b"x" * 64
    assert not (out / "zero-shot" / "train_results.json").exists()

    baselines = json.loads((out / "baseline_comparison.json").read_text())
    assert set(baselines) == {tuned.name, "zero-shot", "gone"}
    assert set(baselines["zero-shot"]) == {"name", "description", "metrics", "status"}
    assert baselines["zero-shot"]["metrics"]["accuracy"] == found[0].rows[1].score

    metrics = json.loads((tuned / "metrics.json").read_text())
    assert {"accuracy", "precision", "recall", "f1", "auc", "confusion_matrix"} <= set(metrics)
    sure = json.loads((tuned / "confidence_analysis.json").read_text())
    assert {
        *("avg_confidence", "high_confidence_ratio", "low_confidence_samples"),
        "confidence_distribution",
    } <= set(sure)

    [told] = json.loads((out / "comparison.json").read_text())["groups"]
    assert told["reference"] == "LoRA, tuned"
    assert told["rows"][0]["weights_bytes"] == 64
    assert told["rows"][1]["published"] == 0.88
    assert "LoRA could not be asked" in told["warnings"]
    assert {p.name for p in (out / "plots").iterdir()} >= {
        *("scores.png", "latency.png", "reliability.png", "confusion-zero-shot.png"),
    }

    text = (out / "report.md").read_text()
    assert text.rstrip().splitlines()[-1].startswith("**Take ")
    assert "Published, not rerun: B on D (S)." in text
    for link in re.findall(r"\]\(<(.*?)>\)", text):
        assert (out / link).is_file()


def test_published_figures_stand_beside_their_own_data_alone(keep, tmp_path):
    schemes = three()
    ledger = keep(*schemes)
    group = with_records_of(ledger, group_of(*schemes))
    published = [
        Published(method="zero-shot", base="B", data="D", metrics={"accuracy": 0.88}, source="S")
    ]
    for own, shown in [({"reviews"}, True), ({"another"}, False)]:
        out = tmp_path / str(shown)
        [found] = write(out, "T", [group], ledger, published=published, own=own)
        assert (found.rows[1].published == 0.88) is shown
        text = (out / "report.md").read_text()
        assert ("Published, not rerun" in text) is shown
        assert ("Published figures are left out" in text) is not shown


def test_labels_that_are_never_predicted_are_told(keep, tmp_path):
    schemes = (scheme_of("constant", [i % 2 == 0 for i in range(120)]),)
    ledger = keep(*schemes)
    [found] = write(tmp_path / "o", "T", [with_records_of(ledger, group_of(*schemes))], ledger)
    assert "Labels that are never predicted: good (by constant)." in found.warnings


def test_a_folder_of_others_is_not_overwritten(keep, tmp_path):
    schemes = three()
    ledger = keep(*schemes)
    group = with_records_of(ledger, group_of(*schemes))
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        write(out, "T", [group], ledger)
    (out / "thesis.txt").unlink()

    write(out, "T", [group], ledger)
    write(out, "Another", [group], ledger)  # what it made it may replace
    assert "Another" in (out / "report.md").read_text()
    (out / "zero-shot" / "mine.txt").write_text("a note")
    with pytest.raises(InputError, match=r"mine\.txt"):
        write(out, "T", [group], ledger)
    (out / "zero-shot" / "mine.txt").unlink()
    (out / "report.md").write_text("changed by hand")
    with pytest.raises(InputError, match=r"report\.md"):
        write(out, "T", [group], ledger)
    assert (out / "report.md").read_text() == "changed by hand"
    assert not list(tmp_path.glob(".out-*"))


def test_nothing_is_compared_without_a_score(keep, tmp_path):
    with pytest.raises(InputError, match="needs a run with a score"):
        write(tmp_path / "out", "T", [group_of(scheme_of("gone"))], keep())
    assert not (tmp_path / "out").exists()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))


def test_labels_and_names_are_escaped(keep, tmp_path):
    labels = {EVIL: EVIL, 'b"|x': "b"}
    schemes = (scheme_of(f"a {EVIL}", RIGHT, spec=spec_of(labels)),)
    ledger = keep(*schemes)
    write(tmp_path / "out", EVIL, [with_records_of(ledger, group_of(*schemes))], ledger)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in (tmp_path / "out" / "report.md").read_text()
    found = _Tags()
    found.feed(page)
    assert all((a.get("src") or "data:").startswith("data:") for _, a in found.tags)
    assert not any(name.startswith("on") for _, a in found.tags for name in a)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in found.tags}


def test_markdown_cells_do_not_break_their_table(tmp_path):
    table = Table("t", (Column("a|b"), Column("n", "count")), (("x|y\nz", 1234), ("*", None)))
    text = markdown(Page("p", (), (Section("s", tables=(table,)),)), tmp_path)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        r"| a\|b | n |",
        "| --- | ---: |",
        r"| x\|y z | 1,234 |",
        r"| \* | – |",
    ]
    assert html(Page("p", (), (Section("s", tables=(table,)),))).count("<tr>") == 3


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (None, "score", "–"),
        (0.12345, "score", "0.123"),
        (-0.021, "signed", "-2.1 pt"),
        ((0.1, 0.25), "interval", "0.100 to 0.250"),
        (1e-7, "p", "< 0.001"),
        (0.00012, "share", "0.012 %"),
        (0.0123, "time", "12.3 ms"),
        (400.0, "time", "7 min"),
        (51_200, "bytes", "51.2 kB"),
    ],
)
def test_values_are_written(value, kind, text):
    assert written(value, kind) == text


# --- a run's folder -------------------------------------------------------------------------------


def test_a_run_folder_says_how_it_was_trained_and_scores(keep, tmp_path):
    scheme = scheme_of("tuned", RIGHT)
    ledger = keep(scheme)
    record = ledger.get(scheme.runs[0].record.key)
    told = run_folder.write(ledger, record, tmp_path / "run")
    trained = json.loads((tmp_path / "run" / "train_results.json").read_text())
    assert trained == json.loads(json.dumps(told["train_results.json"]))
    assert trained["loss"] == {
        "first": 2.0,
        "last": 1.6,
        "lowest": 1.6,
        "mean_of_last_tenth": 1.6,
    }
    assert (trained["steps"], trained["examples"], trained["seconds"]) == (5, 40, 8.0)
    assert trained["tokens"] == {"train": 500, "target": 40}
    assert (trained["trainable_parameters"], trained["trainable_share"]) == (20, 0.02)
    assert trained["weights_bytes"] == 64
    assert trained["hyperparameters"]["lr"] == 1e-3
    assert trained["seed"] == 0
    tested = json.loads((tmp_path / "run" / "test_results.json").read_text())
    assert tested["accuracy_r"] == pytest.approx(0.9)
    assert tested["milliseconds_an_example"] == pytest.approx(2000 / 120)
    assert pq.read_table(tmp_path / "run" / "predictions.parquet").num_rows == 120
    with pytest.raises(InputError, match="new or empty"):
        run_folder.write(ledger, record, tmp_path / "run")


def test_weights_of_a_sibling_are_told_by_whom_they_were_trained(keep, tmp_path):
    first = scheme_of("first", RIGHT)
    trainer = first.runs[0].record
    second = scheme_of(
        "second",
        RIGHT,
        wall_seconds={"evaluate": 1.0, "total": 1.5},
        provenance={"trained_by": trainer.key},
    )
    ledger = keep(first, second)
    record = ledger.get(second.runs[0].record.key)
    told = run_folder.write(ledger, record, tmp_path / "run")["train_results.json"]
    assert (told["seconds"], told["trained_by"]) == (8.0, trainer.key)


@pytest.mark.parametrize(("kind", "name"), [("full", "model"), ("none", "head")])
def test_weights_lie_in_a_folder_of_their_kind(keep, tmp_path, kind, name):
    spec = spec_of(method={"head": "classifier", "adapter": {"kind": kind}})
    scheme = scheme_of("x", RIGHT, spec=spec)
    ledger = keep(scheme)
    run_folder.write(ledger, ledger.get(scheme.runs[0].record.key), tmp_path / "run")
    assert (tmp_path / "run" / name / "adapter_model.safetensors").is_file()


def test_weights_that_are_gone_are_told(keep, tmp_path):
    scheme = scheme_of("x", RIGHT)
    ledger = keep(scheme)
    record = ledger.get(scheme.runs[0].record.key)
    ledger.storage.delete_folder(str(record.adapter))
    with pytest.raises(StorageError, match="are gone"):
        run_folder.write(ledger, record, tmp_path / "run")


# --- latency --------------------------------------------------------------------------------------


def test_schemes_answer_in_turns_that_rotate():
    order: list[tuple[str, int]] = []
    answers = {name: lambda one, name=name: order.append((name, one)) for name in "ab"}
    found = measure(answers, [1, 2, 3, 4])
    assert order[6:] == [  # after three of each to warm up
        *(("a", 1), ("b", 1), ("b", 2), ("a", 2)),
        *(("a", 3), ("b", 3), ("b", 4), ("a", 4)),
    ]
    assert {one.texts for one in found.values()} == {4}
    assert all(0 <= one.median <= one.p90 for one in found.values())

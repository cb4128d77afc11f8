from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def check(llmpred: Run, *args: Any) -> dict[str, Any]:
    ran = llmpred("data", "check", *args, "--json")
    assert ran.code == 0, ran.err
    (found,) = json.loads(ran.out)
    return dict(found)


def test_the_target_is_marked_on_plain_output(
    write_reviews: Callable[..., Path], tiny_causal: Path, llmpred: Run
):
    ran = llmpred(
        "data", "check", write_reviews("a.tsv"), "--task", "sentiment", "--base", tiny_causal
    )
    assert ran.code == 0, ran.err
    assert ran.out.count("Sentiment:⟦ ") == 3
    assert "⟦ negative⟧" in ran.out
    assert "⟦ positive⟧" in ran.out
    assert "0.0% above 512 tokens" in ran.out


def test_a_classifier_is_shown_its_class(
    write_reviews: Callable[..., Path], tiny_encoder: Path, llmpred: Run
):
    found = check(llmpred, write_reviews("a.tsv"), "--task", "sentiment", "--base", tiny_encoder)
    assert found["head"] == "classifier"
    assert found["samples"][0]["target"] == "0"
    assert found["samples"][0]["prompt"].startswith("[CLS]")
    assert "Sentiment:" not in found["samples"][0]["prompt"]


def test_figures_are_those_of_the_data(tmp_path: Path, tiny_causal: Path, llmpred: Run):
    from transformers import AutoTokenizer

    texts = [f"film {i} is fine" if i % 4 else f"film {i} is dull and slow " * 9 for i in range(60)]
    labels = [str(int(i % 10 != 0)) for i in range(60)]
    rows = [{"text": t, "label": y} for t, y in zip(texts, labels, strict=True)]
    rows += rows[:20]  # exact copies
    rows.append({"text": texts[1], "label": "0"})  # contradicts row 1
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = tmp_path / "e.jsonl"
    evaluation.write_text(
        json.dumps(rows[3]) + "\n" + json.dumps({"text": "unseen words here", "label": "1"}) + "\n"
    )
    found = check(
        *(llmpred, data, "--task", "sentiment", "--base", tiny_causal, "--eval", evaluation),
        *("--max-length", "40"),
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_causal)
    words = {"0": " negative", "1": " positive"}
    longest = max(len(tokenizer(w, add_special_tokens=False)["input_ids"]) for w in words.values())
    lengths = sorted(
        len(tokenizer(f"Review: {row['text']}\nSentiment:")["input_ids"]) + longest for row in rows
    )
    assert found["lengths"]["unit"] == "tokens"
    assert (found["lengths"]["minimum"], found["lengths"]["maximum"]) == (lengths[0], lengths[-1])
    assert found["lengths"]["median"] == lengths[40]
    assert found["truncated"] == pytest.approx(sum(n > 40 for n in lengths) / len(lengths))
    assert found["labels"] == Counter(row["label"] for row in rows)
    assert found["duplicates"]["exact"] == pytest.approx(21 / 81)
    assert found["duplicates"]["evaluation_exact"] == 0.5
    copies = sum(row["text"] == texts[1] for row in rows)
    assert found["contradictory"] == pytest.approx(copies / 81)
    said = " / ".join(found["warnings"])
    for part in (
        "duplicates of an earlier row",
        "evaluation rows",
        "truncated",
        "answer differently",
    ):
        assert part in said


def test_truncated_examples_keep_the_question(tmp_path: Path, tiny_causal: Path, llmpred: Run):
    data = tmp_path / "a.jsonl"
    rows = [{"text": "a very long film " * 50, "label": i % 2} for i in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [data, "--task", "sentiment", "--base", tiny_causal, "--max-length", "32"]
    found = check(llmpred, *command)
    assert all(sample["truncated"] for sample in found["samples"])
    assert all(sample["prompt"].endswith("Sentiment:") for sample in found["samples"])
    found = check(llmpred, *command, "--set", "task.truncation=error")
    assert "stop the run" in " ".join(found["warnings"])


def test_without_any_other_base_the_one_that_comes_with_llmpred_counts(
    write_reviews: Callable[..., Path],
    llmpred: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    found = check(llmpred, write_reviews("a.tsv"), "--task", "sentiment")
    assert (found["base"], found["lengths"]["unit"], found["truncated"]) == ("proxy", "tokens", 0)


def test_chinese_is_read_as_gb18030(llmpred: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLMPRED_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "评论.csv"
    rows = [f"房间很干净，第{i}次来,1" if i % 2 else f"又脏又吵，第{i}次来,0" for i in range(60)]
    data.write_bytes(("review,label\n" + "\n".join(rows)).encode("gb18030"))
    found = check(llmpred, data, "--task", "sentiment")
    assert found["language"] == "zh"
    assert found["samples"][0]["target"] == "负面"
    assert "GB18030" in " ".join(found["notes"])


def test_bad_rows_are_skipped_where_asked(tmp_path: Path, tiny_causal: Path, llmpred: Run):
    data = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": f"film {i}", "label": i % 2}) for i in range(10)]
    lines[6] = lines[6][:-3]
    data.write_text("\n".join(lines))
    command = ["data", "check", data, "--task", "sentiment", "--base", tiny_causal]
    assert llmpred(*command).code == 2
    found = check(llmpred, *command[2:], "--set", "dataset.on_bad_row=skip")
    assert found["rows"] == 9
    assert "a.jsonl:7" in " ".join(found["notes"])


def test_show_maps_the_columns(tmp_path: Path, llmpred: Run):
    data = tmp_path / "a.csv"
    data.write_text("body,stars,other\nfine film,1,x\ndull film,0,y\n")
    command = ["data", "show", data, "--task", "sentiment", "--columns", "text=body,label=stars"]
    shown = json.loads(llmpred(*command, "-n", "1", "--json").out)
    assert shown["examples"] == [{"text": "fine film", "label": "1"}]
    assert shown["rows"] == 2
    ran = llmpred(*command)
    assert ran.code == 0
    assert "text from body" in ran.out


def test_each_dataset_of_a_space_is_checked(
    tmp_path: Path, write_reviews: Callable[..., Path], tiny_encoder: Path, llmpred: Run
):
    space = tmp_path / "s.yaml"
    source = write_reviews("a.tsv", 80)
    space.write_text(
        f"""
samples: 3
task: {{name: sentiment}}
datasets:
  - {{name: plain, source: {source}}}
  - {{name: padded, source: {source}, recipe: [{{duplicate: {{share: {{choice: [0.5, 0.9]}}}}}}]}}
bases: [{tiny_encoder}]
methods: [{{head: classifier}}]
optim: {{max_steps: 2}}
evaluation: {{holdout: 0.25}}
"""
    )
    ran = llmpred("data", "check", space, "--json")
    assert ran.code == 0, ran.err
    plain, padded = json.loads(ran.out)
    assert (plain["name"], plain["rows"], plain["evaluation_rows"]) == ("plain", 60, 20)
    assert plain["duplicates"]["exact"] == 0
    assert padded["duplicates"]["exact"] > 0.3
    assert llmpred("data", "check", space).code == 0
    assert llmpred("data", "check", space, "--task", "qa").code == 2


def test_a_space_to_search_is_checked_too(
    tmp_path: Path, write_reviews: Callable[..., Path], tiny_encoder: Path, llmpred: Run
):
    space = tmp_path / "s.yaml"
    space.write_text(
        f"""
mode: search
samples: 4
task: {{name: sentiment}}
datasets: [{{name: plain, source: {write_reviews("a.tsv")}}}]
bases: [{tiny_encoder}]
methods: [{{head: classifier, adapter: {{r: {{choice: [4, 8]}}}}}}]
optim: {{max_steps: 2, lr: {{loguniform: [1e-4, 1e-2]}}}}
evaluation: {{holdout: 0.25}}
"""
    )
    assert check(llmpred, space)["rows"] == 30


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "task"),
    [
        ("sentiment/sst2_test.tsv", "sentiment"),
        ("qa/squad_v1.1_20_articles.json", "qa"),
        ("summarization/scitldr_dev.jsonl", "summarization"),
        ("multiple_choice/mmlu_dev.json", "multiple_choice"),
    ],
)
def test_real_files(shared_data: Path, file: str, task: str, tiny_causal: Path, llmpred: Run):
    found = check(llmpred, shared_data / file, "--task", task, "--base", tiny_causal)
    assert found["rows"] > 200
    assert len(found["samples"]) == 3

import pytest

from llmpred.tracking import entries


def test_spec_is_flattened_to_dotted_names(a_record):
    params = entries.params(a_record(1))
    assert params["optim.lr"] == "0.0002"
    assert params["method.adapter.r"] == "8"
    assert params["optim.betas"] == "[0.9, 0.999]"
    assert params["task.labels"] == '{"1": "好评", "0": "差评"}'
    assert params["dataset.recipe"].startswith('[{"subsample": {"n": 100')
    assert "optim.epochs" not in params  # None is not set


def test_only_chosen_provenance_is_told(a_record):
    record = a_record(1, provenance={"git_commit": "abc", "host": "me", "env": {"TOKEN": "s3cr3t"}})
    params = entries.params(record)
    assert params["provenance.git_commit"] == "abc"
    assert "s3cr3t" not in str(params)
    assert "me" not in params.values()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/a.jsonl", "https://***@host/a.jsonl"),
        ("https://host/a?X-Amz-Signature=abc&n=1", "https://host/a?X-Amz-Signature=***&n=1"),
        ("https://host/a?token=abc", "https://host/a?token=***"),
        ("s3://bucket/a@b.csv", "s3://bucket/a@b.csv"),
        ("data/reviews.jsonl", "data/reviews.jsonl"),
    ],
)
def test_credentials_in_addresses_are_hidden(text, shown):
    assert entries.redact(text) == shown


def test_limits_and_names(a_record):
    record = a_record(1, fields={"学习率 (%)": 3, "note": "长" * 9000, "x" * 300: 1})
    params = entries.params(record)
    assert params["fields.学习率 ___"] == "3"
    assert len(params["fields.note"]) == entries.PARAM_LENGTH
    assert max(map(len, params)) == entries.KEY_LENGTH


def test_metrics_leave_out_what_is_unknown(a_record):
    metrics = entries.metrics(a_record(1, metrics={"f1": None, "em": 0.5}))
    assert metrics["eval/em"] == 0.5
    assert "eval/f1" not in metrics
    assert metrics["wall_seconds/total"] == 12.5
    assert all(isinstance(value, float) for value in metrics.values())


def test_attempts_and_outcomes_have_their_own_ids(a_record):
    outcome, attempt = a_record(1), a_record(1, status="failed", error="no memory")
    later = a_record(1, status="failed", error="no disk")
    assert len({entries.record_id(r) for r in (outcome, attempt, later)}) == 3
    assert entries.record_id(outcome) == entries.record_id(a_record(1, wall_seconds={}))
    assert entries.record_id(outcome) != entries.record_id(a_record(1, revision=1))


@pytest.mark.parametrize("said", [None, 7, "yesterday"])
def test_end_of_run_is_unknown_rather_than_wrong(a_record, said):
    assert entries.ended(a_record(1, provenance={"finished": said})) is None

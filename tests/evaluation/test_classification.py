import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from llmpred.engine.run import predictions_table
from llmpred.errors import DataError, InputError
from llmpred.evaluation.classification import Classified, bootstrap, classified, metrics
from llmpred.tasks.base import Prediction
from llmpred.tasks.registry import get

LABELS = ("bad", "fine", "good")


def generated(targets: str, answers: str, labels: str = "abc") -> Classified:
    """One letter an example; a letter that is no label is an answer that is none."""
    rows = [Prediction(str(i), t, a) for i, (t, a) in enumerate(zip(targets, answers, strict=True))]
    return classified(rows, [*labels])


def random(n: int, labels: tuple[str, ...], seed: int = 0) -> list[Prediction]:
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(n, len(labels)))
    targets = [int((row + draw.gumbel(size=len(labels))).argmax()) for row in scores]
    return [
        Prediction(f"q{i}", labels[t], labels[int(row.argmax())], tuple(row.tolist()))
        for i, (t, row) in enumerate(zip(targets, scores, strict=True))
    ]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("labels", [LABELS[:2], LABELS, tuple(f"label {i}" for i in range(12))])
def test_figures_are_those_of_scikit_learn(labels: tuple[str, ...]):
    rows = random(400, labels)
    found = metrics(classified(rows, labels))
    y, z = [row.target for row in rows], [row.prediction for row in rows]
    p = softmax(np.array([row.scores for row in rows]))
    report = sk.classification_report(y, z, output_dict=True, zero_division=0)
    assert found["accuracy"] == pytest.approx(report["accuracy"])
    for mine, theirs in (("macro", "macro avg"), ("weighted", "weighted avg")):
        assert found[mine]["precision"] == pytest.approx(report[theirs]["precision"])
        assert found[mine]["recall"] == pytest.approx(report[theirs]["recall"])
        assert found[mine]["f1"] == pytest.approx(report[theirs]["f1-score"])
    for i, label in enumerate(labels):
        row, is_label = found["per_label"][label], np.array(y) == label
        assert row["precision"] == pytest.approx(report[label]["precision"])
        assert row["recall"] == pytest.approx(report[label]["recall"])
        assert row["f1"] == pytest.approx(report[label]["f1-score"])
        assert row["support"] == report[label]["support"]
        assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(is_label, p[:, i]))
        assert row["pr_auc"] == pytest.approx(sk.average_precision_score(is_label, p[:, i]))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, z))
    assert found["matthews_correlation"] == pytest.approx(sk.matthews_corrcoef(y, z))
    assert found["confusion_matrix"] == sk.confusion_matrix(y, z, labels=labels).tolist()
    if len(labels) == 2:
        assert (found["averaging"], found["positive"]) == ("binary", "fine")
        assert found["f1"] == pytest.approx(sk.f1_score(y, z, pos_label="fine"))
        assert found["auc"] == pytest.approx(sk.roc_auc_score(np.array(y) == "fine", p[:, 1]))
    else:
        assert (found["averaging"], found["positive"]) == ("macro", None)
        assert found["f1"] == found["macro"]["f1"]
        order = np.argsort(labels)  # scikit-learn's
        ovr = sk.roc_auc_score(y, p[:, order], multi_class="ovr", labels=sorted(labels))
        assert found["auc"] == found["roc_auc"] == pytest.approx(ovr)
    assert found["undefined"] == {}


def test_figures_by_hand():
    found = metrics(generated("aaabbc", "aabbac"))
    assert found["confusion_matrix"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert [row["f1"] for row in found["per_label"].values()] == pytest.approx([2 / 3, 1 / 2, 1])
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert (found["majority"], found["majority_share"]) == ("a", 0.5)


def test_an_answer_that_is_no_label_is_wrong_and_has_a_column():
    found = metrics(generated("aabb", "a?bx", "ab"))
    assert found["accuracy"] == 0.5
    assert found["confusion_matrix"] == [[1, 0, 1], [0, 1, 1]]
    assert found["confusion_columns"] == ["a", "b", "other"]
    assert found["no_label"] == 2
    theirs = sk.precision_recall_fscore_support([*"aabb"], [*"a?bx"], labels=["a", "b"])
    assert found["per_label"]["a"]["recall"] == theirs[1][0] == 0.5
    assert found["macro"]["precision"] == theirs[0].mean() == 1.0
    assert found["matthews_correlation"] == pytest.approx(
        sk.matthews_corrcoef([*"aabb"], [*"a?b?"])
    )
    assert metrics(generated("aabb", "abba", "ab"))["confusion_columns"] == ["a", "b"]
    rows = [Prediction("0", "other", None), Prediction("1", "b", ["b"])]
    assert metrics(classified(rows, ["b", "other"]))["confusion_columns"][2] == "no label (other)"


def test_absent_labels_are_left_out_of_averages_as_scikit_learn_does():
    found = metrics(generated("aabb", "abab", "abcd"))
    assert found["per_label"]["c"]["f1"] is None
    assert found["macro"]["f1"] == pytest.approx(sk.f1_score([*"aabb"], [*"abab"], average="macro"))
    # c is answered though it is no target: its F1 of 0 counts, and it has no recall to balance.
    found = metrics(generated("aabb", "acab", "abcd"))
    assert found["per_label"]["c"]["f1"] == 0
    y, z = [*"aabb"], [*"acab"]
    assert found["macro"]["f1"] == pytest.approx(sk.f1_score(y, z, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx((0.5 + 0.5) / 2)
    scored = metrics(classified(random(60, LABELS[:2]), LABELS[:2]))
    wider = [
        Prediction(row.id, row.target, row.prediction, (*row.scores, -60.0))
        for row in random(60, LABELS[:2])
    ]
    assert metrics(classified(wider, LABELS))["auc"] == pytest.approx(scored["auc"])


def test_figures_are_those_that_the_task_stores():
    from llmpred.spec.run import TaskSpec

    spec = TaskSpec(name="sentiment", labels={label: label for label in "abcd"})
    rows = [Prediction(str(i), t, a) for i, (t, a) in enumerate(zip("aabbc", "a?cbc", strict=True))]
    stored, found = get("sentiment").score(rows, spec), metrics(classified(rows, spec.labels))
    assert found["accuracy"] == stored["accuracy"]
    assert found["macro"]["f1"] == pytest.approx(stored["macro_f1"])
    for label in "abc":
        assert found["per_label"][label]["f1"] == pytest.approx(stored[f"f1_{label}"])


def test_what_is_not_defined_is_null_with_a_reason():
    found = metrics(generated("aab", "aba", "ab"))
    assert found["auc"] is found["pr_auc"] is None
    assert "generated" in found["undefined"]["auc"]
    rows = [Prediction("0", "a", "a", (0.0, -1.0)), Prediction("1", "a", "b", (-1.0, 0.0))]
    found = metrics(classified(rows, "ab"))
    assert found["roc_auc"] is None
    assert found["undefined"]["pr_auc"] == "all targets are 'a'"
    found = metrics(classified(rows[:1], "ab"))
    assert found["f1"] is None
    assert "'b' is neither" in found["undefined"]["f1"]
    json.dumps(found, allow_nan=False)


def test_a_label_that_is_never_predicted_is_told():
    found = metrics(generated("aab", "aaa", "ab"))
    assert found["precision"] == 0
    assert found["never_predicted"] == ["b"]
    assert "0/0" in found["undefined"]["per_label.b.precision"]
    found = metrics(generated("aab", "aab", "abc"))  # c is no target either: it has no precision
    assert found["never_predicted"] == []
    assert not any("precision" in figure for figure in found["undefined"])


def test_one_row_and_one_cell_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metrics(generated("a", "a"))
        assert found["accuracy"] == found["macro"]["f1"] == 1
        assert found["matthews_correlation"] == 0
        assert metrics(generated("a", "?"))["accuracy"] == 0
        assert bootstrap(generated("a", "a"))["accuracy"] == {"value": 1, "lower": 1, "upper": 1}


def test_log_odds_tell_apart_what_rounds_to_one():
    gaps = [(60, "b"), (50, "a"), (45, "b"), (41, "a")]
    rows = [Prediction(str(gap), target, "b", (0.0, float(gap))) for gap, target in gaps]
    found = classified(rows, "ab")
    assert (found.probabilities[:, 1] == 1).all()
    assert metrics(found)["auc"] == 0.75


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        ({"0": "negative", "1": "positive"}, "1"),
        ({"0": "正面", "1": "负面"}, "0"),
        ({"positive": "good", "negative": "bad"}, "positive"),
        ({"no": "no", "yes": "yes"}, "yes"),
        (["1", "2"], "1"),
        (["Positive", "Zero"], "Positive"),
    ],
)
def test_the_positive_label_is_found(labels: dict[str, str], positive: str):
    names = [*labels]
    rows = [Prediction("0", names[0], names[0]), Prediction("1", names[1], names[0])]
    found = classified(rows, labels)
    assert metrics(found)["positive"] == positive
    other = next(name for name in names if name != positive)
    assert metrics(found, other)["positive"] == other


def test_the_positive_label_can_be_named_by_its_word():
    found = classified([Prediction("0", "0", "0")], {"0": "negative", "1": "positive"})
    assert metrics(found, "negative")["positive"] == "0"
    with pytest.raises(InputError, match=r"got 'negativ'"):
        metrics(found, "negativ")
    with pytest.raises(InputError, match="one of two labels is positive, but there are 3"):
        metrics(generated("abc", "abc"), "a")


def test_a_stored_table_says_the_same():
    rows = [*random(50, LABELS)]
    one, other = classified(rows, LABELS), classified(predictions_table(rows), LABELS)
    assert metrics(one) == metrics(other)
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    texts = [Prediction("a", "好", "好", None), Prediction("b", "坏", 'odd "text"', None)]
    assert metrics(classified(predictions_table(texts), ["坏", "好"]))["no_label"] == 1


def test_scores_need_not_be_normalised():
    rows = [Prediction("0", "a", "a", (-3.0, -4.0)), Prediction("1", "b", "b", (-900.0, -899.0))]
    found = classified(rows, "ab").probabilities
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert found[0, 0] == found[1, 1] == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize(
    ("rows", "labels", "law"),
    [
        ([], "ab", "no predictions to measure"),
        ([Prediction("7", "c", "a")], "ab", r"this one is 'c' \(id 7\)"),
        ([Prediction("7", "a", "a", (0.0,))], "ab", "each of the 2 labels, but got 1"),
        ([Prediction("7", "a", "a", (0.0, float("nan")))], "ab", "a score is a finite number"),
        ([Prediction("7", "a", "?", (0.0, 0.0))], "ab", "chosen by scores is one of the labels"),
        (
            [Prediction("0", "a", "a", (0.0, -1.0)), Prediction("1", "a", "a")],
            "ab",
            "1 of 2 have",
        ),
        ([Prediction("0", "a", "a")], "a", "at least two labels"),
        ([Prediction("0", "a", "a")], "aba", "each once"),
    ],
)
def test_what_does_not_fit_is_refused(rows: list[Prediction], labels: str, law: str):
    with pytest.raises(DataError, match=law):
        classified(rows, labels)
    if rows:
        with pytest.raises(DataError, match=law):
            classified(predictions_table(rows), labels)


def test_a_table_of_something_else_is_refused():
    with pytest.raises(DataError, match=r"\['prediction', 'scores'\] are missing"):
        classified(predictions_table(random(2, LABELS)).select(["id", "target"]), LABELS)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc?")), min_size=1))
def test_every_figure_stays_in_range(pairs: list[tuple[str, str]]):
    found = metrics(generated(*map("".join, zip(*pairs, strict=True))))
    json.dumps(found, allow_nan=False)
    assert sum(map(sum, found["confusion_matrix"])) == found["n"] == len(pairs)
    assert -1 <= found["matthews_correlation"] <= 1
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1"):
        assert 0 <= found[name] <= 1


def macro_f1(y: np.ndarray, z: np.ndarray) -> float:
    """A second implementation, quick enough to resample rows with."""
    each = [
        2 * ((y == i) & (z == i)).sum() / ((y == i).sum() + (z == i).sum())
        for i in {*y.tolist(), *z.tolist()}
    ]
    return float(np.mean(each))


def test_the_bootstrap_is_that_of_resampled_rows():
    rows = [
        *random(120, LABELS),
        *(Prediction(f"x{i}", "bad", "fine", (0, 1, 0)) for i in range(9)),
    ]
    found = classified(rows, LABELS)
    mine = bootstrap(found, draws=4000)
    draw = np.random.default_rng(1)
    drawn = []
    for _ in range(1500):
        chosen = draw.integers(0, len(rows), len(rows))
        y, z = found.targets[chosen], found.predicted[chosen]
        drawn.append((np.mean(y == z), macro_f1(y, z)))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    for i, name in enumerate(("accuracy", "macro_f1")):
        assert mine[name]["lower"] == pytest.approx(low[i], abs=0.012)
        assert mine[name]["upper"] == pytest.approx(high[i], abs=0.012)
    assert mine["macro_f1"]["value"] == pytest.approx(metrics(found)["macro"]["f1"])
    assert mine == bootstrap(found, draws=4000)
    assert mine != bootstrap(found, draws=4000, seed=1)


def test_the_bootstrap_leaves_out_labels_that_a_draw_does_not_have():
    # One c among six: a draw without it has the macro-F1 of what is left, 1, and so has one with.
    assert bootstrap(generated("aaabbc", "aaabbc"))["macro_f1"]["lower"] == 1
    # What is no label is no class: a draw of the first row alone has the F1 of a alone, 1.
    assert bootstrap(generated("ab", "a?"))["macro_f1"] == {"value": 0.5, "lower": 0, "upper": 1}


def test_bootstrap_intervals_hold_as_often_as_they_say():
    draw = np.random.default_rng(0)
    inside = 0
    for seed in range(300):
        right = draw.random(200) < 0.8
        answers = "".join("b" if hit else "a" for hit in right)
        found = bootstrap(generated("b" * 200, answers, "ab"), draws=500, seed=seed)["accuracy"]
        inside += found["lower"] <= 0.8 <= found["upper"]
    assert 0.91 <= inside / 300 <= 0.98

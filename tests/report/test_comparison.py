"""Numbers, warnings and advice of comparisons, checked by hand and against scikit-learn."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from llmpred.report.classification import part
from llmpred.report.comparison import (
    Latency,
    compare,
    difference,
    interval,
    reference_of,
)

from .conftest import ZERO_SHOT, group_of, scheme_of, spec_of

N = 200
GOOD = [i >= 20 for i in range(N)]  # 180 right
FAIR = [i >= 40 for i in range(N)]  # 160 right, all of them right in GOOD too
UNTRAINED = spec_of(method=ZERO_SHOT)


def test_interval_is_wilsons_of_right_answers():
    found = interval(scheme_of("a", GOOD))
    z, p = 1.959963984540054, 0.9
    middle = (p + z * z / (2 * N)) / (1 + z * z / N)
    half = z * np.sqrt(p * (1 - p) / N + z * z / (4 * N * N)) / (1 + z * z / N)
    assert found == pytest.approx((middle - half, middle + half))


def test_difference_is_mcnemars_on_the_same_examples():
    apart = difference(scheme_of("good", GOOD), scheme_of("fair", FAIR))
    assert apart is not None
    assert apart.value == pytest.approx(0.1)
    # 20 examples that only the first has right, none that only the second has.
    assert apart.p == pytest.approx(2 / 2**20)
    assert apart.test == "McNemar"
    assert apart.lower < 0.1 < apart.upper
    assert apart.is_clear

    one, other = [True] * 6 + [False] * 14, [False] * 4 + [True] * 3 + [False] * 13
    apart = difference(scheme_of("one", one), scheme_of("other", other))
    assert apart is not None
    assert apart.p == pytest.approx(2 * sum(comb(5, k) for k in (0, 1)) / 2**5)
    assert not apart.is_clear


def test_p_values_are_corrected_for_the_schemes():
    close = [i >= 14 for i in range(N)]
    group = group_of(scheme_of("good", GOOD), scheme_of("fair", FAIR), scheme_of("close", close))
    good, fair, near = compare(group).rows
    assert good.apart is None
    assert near.apart is not None
    assert fair.apart is not None
    assert fair.apart.adjusted == pytest.approx(2 * fair.apart.p)  # the smallest of two
    assert near.apart.adjusted == pytest.approx(near.apart.p)


def test_other_examples_are_not_tested():
    elsewhere = scheme_of("there", GOOD, hashes={"evaluation": "other", "weights": "w"})
    group = group_of(scheme_of("here", GOOD), elsewhere)
    found = compare(group)
    assert found.rows[1].apart is None
    assert any("for want of answers to the same rows" in text for text in found.warnings)


def test_seeds_are_taken_together():
    group = group_of(scheme_of("two", GOOD, FAIR), scheme_of("one", FAIR))
    two, one = compare(group).rows
    assert two.seeds == 2
    assert two.score == pytest.approx(0.85)
    assert two.sd == pytest.approx(np.std([0.9, 0.8], ddof=1))
    assert two.metrics["accuracy"] == pytest.approx(0.85)
    assert one.sd is None
    assert one.apart is not None
    assert one.apart.test == "paired bootstrap"  # a mean of two runs is neither right nor wrong
    assert one.apart.value == pytest.approx(-0.05)


def test_costs_are_those_of_the_records():
    group = group_of(scheme_of("tuned", GOOD), scheme_of("zero-shot", FAIR, spec=UNTRAINED))
    tuned, untrained = compare(group, latency={"tuned": Latency(0.02, 0.03, 50)}).rows
    assert tuned.train_seconds == 8.0
    assert tuned.evaluation_seconds == pytest.approx(2.0 / N)
    assert (tuned.trainable, tuned.share) == (20, 0.02)
    assert tuned.latency == Latency(0.02, 0.03, 50)
    assert untrained.latency is None
    assert not untrained.trains


def test_figures_of_a_classification_are_scikit_learns(tmp_path):
    scheme = scheme_of("tuned", GOOD)
    added = part(group_of(scheme), tmp_path, True)
    predictions = scheme.runs[0].predictions
    targets = [p.target == "good" for p in predictions]
    answered = [p.prediction == "good" for p in predictions]
    odds = [p.scores[1] - p.scores[0] for p in predictions if p.scores]
    f1, auc, ece = added.values["tuned"]
    assert f1 == pytest.approx(f1_score(targets, answered, average="macro"))
    assert auc == pytest.approx(roc_auc_score(targets, odds))
    assert ece == added.files["tuned"]["confidence_analysis.json"]["ece"]
    told = added.files["tuned"]["metrics.json"]
    assert told["accuracy"] == pytest.approx(0.9)
    assert told["f1"] == pytest.approx(f1_score(targets, answered))
    assert added.majority == ("bad", 0.5)
    without = part(group_of(scheme), tmp_path, False)
    assert [column.name for column in without.columns] == ["macro-F1", "AUC"]
    assert set(without.files["tuned"]) == {"metrics.json"}


def test_a_metric_that_is_no_mean_is_resampled(monkeypatch):
    from llmpred.tasks.sentiment import Sentiment

    whole = Sentiment.score

    def squared(self, predictions, spec):
        found = whole(self, predictions, spec)
        return found | {"accuracy": found["accuracy"] ** 2}

    monkeypatch.setattr(Sentiment, "score", squared)
    good, fair = scheme_of("good", GOOD[:60]), scheme_of("fair", FAIR[:60])
    assert good.values is None
    apart = difference(good, fair)
    assert apart is not None
    assert apart.test == "paired bootstrap"
    assert apart.value == pytest.approx((40 / 60) ** 2 - (20 / 60) ** 2)
    low, high = interval(good) or (0, 0)
    assert low < (40 / 60) ** 2 < high


# --- warnings -------------------------------------------------------------------------------------


def test_warnings_of_a_small_and_even_comparison():
    few = [i % 3 > 0 for i in range(30)]
    group = group_of(scheme_of("a", few), scheme_of("b", few))
    said = " ".join(compare(group, majority=("bad", 0.6)).warnings)
    assert "Only 30 evaluation rows" in said
    assert "Not distinguishable from a at 95 %, on 30 rows: b" in said
    assert "Always answering bad has 0.600; not clearly better than that: a; b" in said
    assert "One seed only" in said


def test_a_clear_comparison_of_seeds_is_not_warned_of():
    group = group_of(scheme_of("a", GOOD, GOOD), scheme_of("b", FAIR, FAIR))
    assert compare(group, majority=("bad", 0.5)).warnings == ()


def test_a_head_that_falls_without_its_adapter_is_told():
    off = spec_of(
        method={"head": "classifier"}, evaluation={"data": {"source": "t"}, "adapter_off": True}
    )
    chance = [i % 4 < 2 for i in range(N)]
    whole = scheme_of("head", GOOD, train_key="t", spec=spec_of(method={"head": "classifier"}))
    part_of = scheme_of("head, off", chance, train_key="t", spec=off)
    found = compare(group_of(whole, part_of), majority=("bad", 0.5))
    assert any("head and adapter are bound" in text for text in found.warnings)
    assert "head, off" not in found.advice
    held = scheme_of("head, off", GOOD, train_key="t", spec=off)
    found = compare(group_of(whole, held), majority=("bad", 0.5))
    assert not any("bound" in text for text in found.warnings)


def test_texts_that_are_cut_or_of_other_lengths_are_told():
    counts = {"evaluation": N, "evaluation_truncated": 50}
    short = scheme_of("short", GOOD, spec=spec_of(task={"max_length": 32}), counts=counts)
    said = " ".join(compare(group_of(scheme_of("long", GOOD), short)).warnings)
    assert "(max_length): long 512; short 32" in said
    assert "long 0%; short 25%" in said


def test_a_run_without_a_score_is_told():
    found = compare(group_of(scheme_of("here", GOOD), scheme_of("gone")))
    assert "gone has no score: missing." in found.warnings
    assert found.rows[1].score is None


# --- advice ---------------------------------------------------------------------------------------


def test_the_best_is_advised_with_what_it_costs():
    group = group_of(scheme_of("tuned", GOOD), scheme_of("zero-shot", FAIR, spec=UNTRAINED))
    latency = {"tuned": Latency(0.03, 0.04, 9), "zero-shot": Latency(0.02, 0.03, 9)}
    advice = compare(group, latency=latency, majority=("bad", 0.5)).advice
    assert advice == (
        "Take tuned (0.900): +10.0 points over zero-shot (p < 0.001) at 1.5 times the latency and "
        "8 s of training more; zero-shot (0.800) if nothing may be trained."
    )


def test_the_cheapest_of_equals_is_advised():
    close = [i >= 21 for i in range(N)]
    group = group_of(scheme_of("tuned", GOOD), scheme_of("zero-shot", close, spec=UNTRAINED))
    advice = compare(group, majority=("bad", 0.5)).advice
    assert advice.startswith("Take zero-shot (0.895): the best, tuned (0.900), is not disting")
    assert "p = 1" in advice


def test_none_is_advised_where_none_beats_the_majority():
    group = group_of(scheme_of("tuned", GOOD))
    advice = compare(group, majority=("bad", 0.93)).advice
    assert advice.startswith("Take none yet")
    assert "always answering bad (0.930)" in advice
    near = compare(group, majority=("bad", 0.84))  # the interval begins within 0.02 of it
    assert any("not clearly better than that: tuned" in text for text in near.warnings)
    assert near.advice.startswith("Take none yet: the best, tuned (0.900), is not clearly better")
    assert compare(group_of(scheme_of("gone"))).advice.startswith("Take none yet")


def test_the_reference_is_the_first_that_trains():
    zero, tuned = scheme_of("zero-shot", GOOD, spec=UNTRAINED), scheme_of("tuned", GOOD)
    assert reference_of([zero, tuned]) == "tuned"
    assert reference_of([zero, tuned], "zero-shot") == "zero-shot"
    assert reference_of([zero]) == "zero-shot"


def test_what_is_no_better_than_the_commonest_answer_is_not_advised():
    wide, narrow = [i >= 18 for i in range(60)], [i >= 28 for i in range(60)]  # 0.70, 0.53
    group = group_of(scheme_of("tuned", wide), scheme_of("zero-shot", narrow, spec=UNTRAINED))
    found = compare(group, majority=("bad", 0.5))
    assert found.advice.startswith("Take tuned (0.700)")
    assert any("not clearly better than that: zero-shot" in text for text in found.warnings)


def test_what_diverged_is_not_advised_whatever_it_scored():
    group = group_of(scheme_of("tuned", GOOD, status="diverged"), scheme_of("other", FAIR))
    found = compare(group)
    assert [row.status for row in found.rows] == ["diverged", "ok"]
    assert found.advice.startswith("Take other (0.800)")
    assert any(text.startswith("tuned diverged in training") for text in found.warnings)

"""robustness() on classifiers whose behaviour under each kind is known beforehand."""

import json
import re
import statistics

import numpy as np
import pytest

from llmpred.errors import InputError
from llmpred.evaluation.perturbations import STRENGTHS, kinds_of, perturb
from llmpred.evaluation.perturbations.words import table
from llmpred.evaluation.robustness import _score, robustness

ENGLISH = [
    ("The room was clean.", "1"),
    ("This is a good camera.", "1"),
    ("the acting is awful .", "0"),
    ("A charming film, and my kids loved every minute of it.", "1"),
    ("The soup was really disgusting. We left hungry.", "0"),
    ("I enjoyed this book from page 1 to page 300!", "1"),
    ("We hated the hotel: the staff were rude.", "0"),
    ("Boring and pretentious, with a confusing plot.", "0"),
]
CHINESE = [
    ("房间很干净。", "1"),
    ("服务非常周到，WIFI也快。", "1"),
    ("早餐很难吃，等了20分钟。", "0"),
    ("这本书很精彩！", "1"),
    ("情节很枯燥。", "0"),
    ("设施陈旧，走廊吵闹。", "0"),
]
FIGURES = {"n", "accuracy", "baseline_accuracy", "score", "interval", "flip_rate", "changed"}


def bag_of_words(texts, *, fold=str.lower):
    """Answer by opinion words, blind to case and order, and so to negations."""
    words = table("en")
    found = [{fold(w) for w in re.findall("[A-Za-z]+", text)} for text in texts]
    return ["1" if len(f & words.positive) > len(f & words.negative) else "0" for f in found]


def by_length(texts):
    return ["1" if len(text) % 2 else "0" for text in texts]


def run(answer, examples=ENGLISH, **more):
    texts, targets = zip(*examples, strict=True)
    more = {"language": "en"} | more
    return robustness(texts, targets, answer, **more)


def flips(report, kind):
    return [
        block["flip_rate"] for block in report["perturbation_tests"][kind]["strengths"].values()
    ]


def test_words_stand_up_to_all_that_leaves_words():
    report = run(bag_of_words)
    assert report["original_accuracy"] == 1.0
    for kind in (
        "synonym_replace",
        "punctuation_change",
        "casing",
        "emoji",
        "whitespace",
        "filler",
    ):
        test = report["perturbation_tests"][kind]
        assert test["n"] > 0, kind
        assert (test["score"], test["interval"]) == (1.0, [1.0, 1.0]), kind
        assert flips(report, kind) == [0.0] * len(STRENGTHS)
    for kind in ("typo_insertion", "width"):  # these take words away
        assert report["perturbation_tests"][kind]["score"] < 1, kind
        assert max(flips(report, kind)) > 0
    assert report["robustness_score"] < 1
    assert report["interval"][0] <= report["robustness_score"] <= report["interval"][1]


def test_words_in_one_case_alone_fall_to_casing():
    report = run(lambda texts: bag_of_words(texts, fold=str), kinds=["casing", "whitespace"])
    assert report["perturbation_tests"]["casing"]["score"] < 1
    assert report["perturbation_tests"]["whitespace"]["score"] == 1


def test_length_is_blind_to_case_and_width_and_falls_to_whitespace():
    examples = [(text, by_length([text])[0]) for text, _ in ENGLISH]
    report = run(by_length, examples)
    assert flips(report, "casing") == flips(report, "width") == [0.0] * 3
    assert max(flips(report, "whitespace")) > 0.3
    examples = [(text, by_length([text])[0]) for text, _ in CHINESE]
    report = run(by_length, examples, language="zh")
    assert flips(report, "script") == flips(report, "width") == [0.0] * 3


def test_a_bag_of_words_does_not_see_a_negation_and_a_reader_does():
    blind = run(bag_of_words, kinds=["negation"])["perturbation_tests"]["negation"]
    # "awful" and "not awful" are the same bag; "charming film" has more opinions and is left out.
    assert blind["n"] >= 3
    assert not blind["keeps_label"]
    assert blind["baseline_accuracy"] == 1
    assert blind["accuracy"] == blind["flip_rate"] == 0
    assert list(blind["strengths"]) == ["all"]
    assert len(blind["strengths"]["all"]["worst"]) == blind["n"]
    shown = blind["strengths"]["all"]["worst"][0]
    assert shown["target"] != shown["before"] == shown["after"]

    def reader(texts):
        words = bag_of_words(texts)
        turned = [bool(re.search(r"\bnot\b", text)) for text in texts]
        return [str(int(w) ^ t) for w, t in zip(words, turned, strict=True)]

    seen = run(reader, kinds=["negation"])["perturbation_tests"]["negation"]
    assert seen["accuracy"] == seen["score"] == seen["flip_rate"] == 1


@pytest.mark.parametrize(("language", "examples"), [("en", ENGLISH), ("zh", CHINESE)])
def test_the_report_is_json_with_the_keys_that_scripts_expect(language, examples):
    report = run(by_length, examples, language=language)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {
        "original_accuracy",
        "perturbed_accuracy",
        "robustness_score",
        "perturbation_tests",
    } <= {*report}
    assert tuple(report["perturbation_tests"]) == kinds_of(language)
    for kind, test in report["perturbation_tests"].items():
        assert {*test} >= FIGURES | {"about", "keeps_label", "strengths"}
        expected = ["all"] if kind == "negation" else ["0.1", "0.3", "0.5"]
        assert list(test["strengths"]) == expected
        for block in test["strengths"].values():
            assert {*block} >= FIGURES | {"worst"}


def test_figures_are_those_counted_by_hand():
    texts, targets = zip(*ENGLISH, strict=True)
    report = run(by_length, seed=4, strengths=[0.3])
    keeping = [kind for kind in kinds_of("en") if kind != "negation"]
    before = by_length(texts)
    right = [b == t for b, t in zip(before, targets, strict=True)]
    over_all = []
    for kind in keeping:
        changed = [perturb(text, kind, 0.3, seed=4) for text in texts]
        after = by_length(changed)
        touched = [i for i in range(len(texts)) if changed[i] != texts[i]]
        block = report["perturbation_tests"][kind]["strengths"]["0.3"]
        held = [after[i] == targets[i] for i in touched]
        assert block["n"] == len(touched)
        assert block["changed"] == len(touched) / len(texts)
        assert block["accuracy"] == statistics.fmean(held)
        assert block["baseline_accuracy"] == statistics.fmean(right[i] for i in touched)
        assert block["score"] == sum(held) / sum(right[i] for i in touched)
        assert block["flip_rate"] == statistics.fmean(before[i] != after[i] for i in touched)
        over_all.append(statistics.fmean(a == t for a, t in zip(after, targets, strict=True)))
        lost = [i for i in touched if right[i] and after[i] != targets[i]]
        assert {row["id"] for row in block["worst"]} <= {str(i) for i in lost}
        assert len(block["worst"]) == min(5, len(lost))
    assert report["original_accuracy"] == statistics.fmean(right)
    assert report["perturbed_accuracy"] == pytest.approx(statistics.fmean(over_all))
    score = report["perturbed_accuracy"] / report["original_accuracy"]
    assert report["robustness_score"] == pytest.approx(score)


def test_each_distinct_text_is_asked_about_once_and_in_batches():
    asked = []

    def answer(texts):
        assert isinstance(texts, list)
        assert 0 < len(texts) <= 7
        asked.append(texts)
        return bag_of_words(texts)

    doubled = ENGLISH + ENGLISH[:3] + [("good", "1"), ("1234", "0")]
    report = run(answer, doubled, batch_size=7, strengths=[0.1, 0.2])
    texts = [text for batch in asked for text in batch]
    assert len(texts) == len(set(texts)) == report["asked"]
    expected = {text for text, _ in doubled}
    for kind in kinds_of("en"):
        for strength in [1.0] if kind == "negation" else [0.1, 0.2]:
            expected |= {perturb(text, kind, strength) for text, _ in doubled} - {None}
    assert set(texts) == expected
    assert all(len(batch) == 7 for batch in asked[:-1])


def test_what_an_example_gets_does_not_hang_on_the_others():
    one = run(by_length, ENGLISH, kinds=["whitespace"], ids=[f"r{i}" for i in range(8)])
    two = run(by_length, ENGLISH[::-1], kinds=["whitespace"], ids=[f"r{7 - i}" for i in range(8)])
    for key in ("accuracy", "score", "flip_rate"):
        assert (
            one["perturbation_tests"]["whitespace"][key]
            == two["perturbation_tests"]["whitespace"][key]
        )
    assert run(by_length) == run(by_length)
    assert run(by_length, seed=1) != run(by_length)


def test_confidences_are_averaged():
    def answer(texts):
        return bag_of_words(texts), [0.5 if text.isupper() else 0.75 for text in texts]

    test = run(answer, kinds=["filler"])["perturbation_tests"]["filler"]
    assert test["confidence"] == test["baseline_confidence"] == 0.75
    assert "confidence" not in run(bag_of_words, kinds=["filler"])["perturbation_tests"]["filler"]


def test_where_nothing_changes_nothing_is_claimed():
    report = run(bag_of_words, [("1234", "0"), ("5678", "0")], kinds=["casing", "emoji"])
    assert report["original_accuracy"] == 1
    assert report["robustness_score"] is report["perturbed_accuracy"] is report["interval"] is None
    assert report["reason"] == "no label-preserving kind changed a text"
    for test in report["perturbation_tests"].values():
        assert test["n"] == test["changed"] == 0
        assert test["reason"] == "no text has a place for this change"
        for block in (test, *test["strengths"].values()):
            assert all(block[key] is None for key in FIGURES - {"n", "changed"})
    mixed = run(bag_of_words, [("1234", "0"), ("good", "1")], kinds=["casing"])
    assert mixed["perturbation_tests"]["casing"]["strengths"]["0.1"]["changed"] == 0.5


def test_a_classifier_that_is_always_wrong_has_no_score():
    report = run(lambda texts: ["?"] * len(texts))
    assert report["original_accuracy"] == report["perturbed_accuracy"] == 0
    assert report["robustness_score"] is report["interval"] is None
    assert report["reason"] == "no unperturbed text was answered right"
    casing = report["perturbation_tests"]["casing"]
    assert casing["accuracy"] == 0
    assert casing["score"] is None
    assert casing["reason"] == report["reason"]


def test_negation_needs_opposites():
    three = [(text, str(i % 3)) for i, (text, _) in enumerate(ENGLISH)]
    assert "negation" not in run(bag_of_words, three)["perturbation_tests"]
    with pytest.raises(InputError, match="negation needs the opposite of each label"):
        run(bag_of_words, three, kinds=["negation"])
    opposite = {"0": "1", "1": "0", "2": "2"}
    assert "negation" in run(bag_of_words, three, opposite=opposite)["perturbation_tests"]


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(InputError) as caught:
        robustness(
            ["a"],
            [],
            bag_of_words,
            language="en",
            kinds=["script", "casng"],
            strengths=[0, 2],
            ids=[],
        )
    text = str(caught.value)
    for part in ("`targets`", "`ids`", "'script'", "Did you mean `casing`?", "got 0", "got 2"):
        assert part in text
    with pytest.raises(InputError, match="at least one text"):
        robustness([], [], bag_of_words, language="en")
    with pytest.raises(InputError, match="at least one strength"):
        run(bag_of_words, strengths=[])


@pytest.mark.parametrize("answers", [lambda t: t[1:], lambda t: (t, [0.5])])
def test_an_answer_needs_a_label_a_text(answers):
    with pytest.raises(InputError, match="an answer needs one"):
        run(answers)


def test_the_interval_covers_the_ratio_as_often_as_it_says():
    draw = np.random.default_rng(0)
    # Right before in 80 of 100 texts; after in 85 % of those, and in 20 % of the others.
    truth = (0.8 * 0.85 + 0.2 * 0.2) / 0.8
    covered = 0
    for i in range(400):
        before = draw.random(200) < 0.8
        after = draw.random(200) < np.where(before, 0.85, 0.2)
        pairs = [*zip(after.astype(int).tolist(), before.astype(int).tolist(), strict=True)]
        _, (low, high) = _score(pairs, i, 1000, 0.95)
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_interval_is_that_of_a_bootstrap_over_examples():
    draw = np.random.default_rng(1)
    before = draw.integers(0, 4, 150)
    after = np.minimum(before, draw.integers(0, 5, 150))
    pairs = [*zip(after.tolist(), before.tolist(), strict=True)]
    score, (low, high) = _score(pairs, 0, 20_000, 0.9)
    rows = draw.integers(0, 150, (20_000, 150))
    ratios = after[rows].sum(1) / before[rows].sum(1)
    assert score == after.sum() / before.sum()
    assert [low, high] == pytest.approx(np.quantile(ratios, [0.05, 0.95]), abs=0.004)


@pytest.mark.shared
def test_real_reviews(shared_data):
    rows = (shared_data / "sentiment" / "sst2_test.tsv").read_text(encoding="utf-8").splitlines()
    examples = [tuple(row.rsplit("\t", 1)) for row in rows[1:201]]
    report = run(bag_of_words, examples, strengths=[0.3])
    tests = report["perturbation_tests"]
    assert 0.5 < report["original_accuracy"] < 0.95
    assert all(tests[kind]["n"] > 80 for kind in tests if kind != "negation")
    assert tests["whitespace"]["score"] == 1
    assert tests["width"]["score"] < 1

import math
import random
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from llmpred.data import duplicates as in_memory
from llmpred.features.base import compute
from llmpred.features.scan import text_stats
from llmpred.features.text import (
    BLOCK,
    FEATURES,
    KINDS,
    Lengths,
    Row,
    bucket,
    count,
    merge,
    mtld_factors,
    quantile,
)
from llmpred.spec.run import RunSpec
from llmpred.tasks.prepare import prepare

HEADS = {"sentiment": "label_scoring", "multiple_choice": "label_scoring"}
NAMES = [feature.name for feature in FEATURES]


def prepared(source, options, recipe=(), rows=60):
    alike = {name: options[name] for name in ("language", "length") if name in options}
    test = {"n": rows, "part": "test", **alike}
    return prepare(
        RunSpec.model_validate(
            {
                "task": {"name": source},
                "dataset": {
                    "source": f"synthetic:{source}",
                    "options": options,
                    "recipe": list(recipe),
                },
                "base": {"name": "proxy"},
                "method": {"head": HEADS.get(source, "causal_lm")},
                "optim": {"max_steps": 1},
                "evaluation": {"data": {"source": f"synthetic:{source}", "options": test}},
            }
        )
    )


@pytest.fixture
def measure(tmp_path):
    """Return the features of a generated dataset, its training rows leaked into the evaluation."""

    def measured(source, *recipe, leak=0, **options):
        data = prepared(source, {"n": 300, **options}, recipe)
        asked = pa.concat_tables([data.evaluation, data.train.slice(0, leak)])
        stats = text_stats(data.train, data.task, data.spec, scratch=tmp_path, evaluation=asked)
        return compute(FEATURES, stats).values

    return measured


@pytest.fixture
def features(tmp_path):
    """Return the features of (text, label) rows of a classification."""

    def found(rows, evaluation=("a text to evaluate on",), workers=1):
        table = {
            "text": pa.array([text for text, _ in rows], pa.large_string()),
            "label": pa.array([label for _, label in rows], pa.large_string()),
        }
        asked = {
            "text": pa.array(evaluation, pa.large_string()),
            "label": pa.array([rows[0][1]] * len(evaluation), pa.large_string()),
        }
        data = prepared("sentiment", {"n": 20})
        labels = {label: label for label in sorted({*"ab", *(label for _, label in rows)})}
        stats = text_stats(
            pa.table(table),
            data.task,
            data.spec.model_copy(update={"labels": labels}),
            scratch=tmp_path,
            evaluation=pa.table(asked),
            workers=workers,
        )
        return compute(FEATURES, stats).values

    return found


# --- definitions -----------------------------------------------------------------------------


def test_mtld_of_the_paper():
    # McCarthy & Jarvis (2010), section on the calculation: "of the people by the people for the
    # people" has the ratios 1, 1, 1, 1, .8, .667: a factor; then `for the people` is left over.
    text = ["of", "the", "people", "by", "the", "people"]
    assert mtld_factors(text) == 1
    assert mtld_factors([*text, "for", "the", "people"]) == 1
    # A rest whose ratio is .887 counts .113 / .28 = .404 of a factor: 340 words hold 4.404 factors.
    rest = [*range(47), 0, 1, 2, 3, 4, 5]
    assert mtld_factors(rest) == pytest.approx((1 - 47 / 53) / 0.28)
    assert round(mtld_factors(rest), 3) == 0.404


def test_mtld_is_pooled_over_directions():
    words = re.findall(r"\w+", "the cat sat on the mat and the dog lay on the mat by the door")
    counted = count([Row(" ".join(words), "")])
    both = mtld_factors(words) + mtld_factors(words[::-1])
    assert (counted.mtld, counted.factors) == (2 * len(words), pytest.approx(both))


def test_quantiles_are_within_their_error():
    draw = random.Random(0)
    lengths = [int(draw.lognormvariate(5, 1.5)) for _ in range(5000)]
    histogram: dict[int, int] = {}
    for length in lengths:
        histogram[bucket(length)] = histogram.get(bucket(length), 0) + 1
    for share in (0.1, 0.5, 0.9):
        right = np.quantile(lengths, share, method="inverted_cdf")
        assert quantile(Lengths(histogram), share) == pytest.approx(right, rel=0.0115)


def test_counts_of_a_hand_counted_text():
    rows = [
        Row("Red, red WINE: 12 glasses!", "red wine", "0"),
        Row("to be or not to be or not to be", "", "1"),
        Row("红酒很好 ok", "好", "1"),
    ]
    counted = count(rows)
    assert counted.rows == 3
    assert (counted.inputs.total, counted.inputs.squares) == (20, 25 + 100 + 25)
    assert (counted.outputs.total, counted.outputs.histogram) == (3, {0: 1, 1: 1, 2: 1})
    assert sorted(counted.times) == [1] * 8 + [2] * 3 + [3] * 2
    assert (counted.repeated.count, counted.repeated.of) == (4, 3 + 8 + 3)
    assert (counted.copied.count, counted.copied.of) == (3, 3)
    assert counted.labels == {"0": 1, "1": 2}
    kinds = dict(zip(KINDS, counted.kinds, strict=True))
    assert kinds["latin"] == 17 + 7 + 22 + 2
    assert (kinds["han"], kinds["digit"], kinds["space"], kinds["special"]) == (5, 2, 15, 3)


# --- merging ---------------------------------------------------------------------------------


def test_counts_of_shards_are_those_of_the_whole():
    data = prepared("qa", {"n": 700, "foreign": 0.3})
    rows = [
        Row(row["context"], row["answers"][0], str(i % 3))
        for i, row in enumerate(data.train.to_pylist())
    ]
    whole = count(rows)
    parts = [count(rows[at : at + 2 * BLOCK]) for at in range(0, 700, 2 * BLOCK)]
    for merged in (merge(merge(*parts[:2]), parts[2]), merge(parts[0], merge(*parts[1:]))):
        assert merged.factors == pytest.approx(whole.factors)
        for name, value in vars(whole).items():
            if name != "factors":
                assert np.array_equal(getattr(merged, name), value), name
    assert merge(whole, count([])).words.tolist() == whole.words.tolist()


def test_processes_and_files_do_not_matter(tmp_path):
    import pyarrow.parquet as pq

    data = prepared("summarization", {"n": 1500}, [{"near_duplicate": {"share": 0.1}}])
    parquet, arrow = tmp_path / "train.parquet", tmp_path / "train.arrow"
    pq.write_table(data.train, parquet, row_group_size=400)
    with pa.OSFile(str(arrow), "wb") as file, pa.ipc.new_file(file, data.train.schema) as writer:
        writer.write_table(data.train, max_chunksize=300)
    given = {"evaluation": data.evaluation, "scratch": tmp_path}
    found = [
        compute(FEATURES, text_stats(source, data.task, data.spec, workers=workers, **given))
        for source, workers in ((data.train, 1), (parquet, 1), (arrow, 1), (data.train, 2))
    ]
    for other in found[1:]:
        assert other.values == pytest.approx(found[0].values, nan_ok=True)
    assert {path.name for path in tmp_path.iterdir()} == {"train.parquet", "train.arrow"}


def test_processes_import_neither_torch_nor_ray():
    code = (
        "import sys, llmpred.features.scan, llmpred.features.text, llmpred.tasks.registry\n"
        "import pyarrow, pyarrow.parquet\n"
        "print({'torch', 'ray', 'transformers', 'pandas'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("set()\n", "")


# --- conformance -----------------------------------------------------------------------------


def worlds():
    """Yield 48 datasets of differing kind; the evaluations of some hold (nearly) training rows."""
    draw = random.Random(0)
    ways = {
        "language": lambda: "zh",
        "foreign": lambda: draw.uniform(0.1, 0.9),
        "entities": lambda: draw.choice([8, 30]),
        "phrasings": lambda: draw.choice([1, 2, 4]),
        "format_drift": lambda: draw.uniform(0.2, 1),
        "shift": lambda: draw.uniform(0.2, 1),
        "length": lambda: draw.choice(["short", "long"]),
    }
    steps = ("duplicate", "near_duplicate", "label_noise", "shuffle_answers")
    for place in range(48):
        options = {"n": draw.choice([60, 120, 250, 500]), "seed": place}
        options |= {name: way() for name, way in ways.items() if draw.random() < 0.3}
        recipe = [{s: {"share": draw.uniform(0.05, 0.6)}} for s in steps if draw.random() < 0.3]
        if draw.random() < 0.15:
            recipe.append({"truncate": {"words": draw.randint(8, 30)}})
        source = ("sentiment", "qa", "summarization", "multiple_choice")[place % 4]
        data = prepared(source, options, recipe)
        leaked = data.train.slice(0, draw.choice([0, 0, 5, 20]))
        field = data.task.long_field
        near = data.train.slice(30, draw.choice([0, 0, 5, 15]))
        texts = [f"{text} {text[:4]}" for text in near[field].to_pylist()]
        near = near.set_column(
            near.schema.get_field_index(field),
            near.schema.field(field),
            pa.array(texts, pa.large_string()),
        )
        yield data, pa.concat_tables([data.evaluation, leaked, near])


def test_no_feature_is_constant_or_another_one(tmp_path):
    from scipy.stats import spearmanr

    rows = []
    for data, asked in worlds():
        stats = text_stats(data.train, data.task, data.spec, scratch=tmp_path, evaluation=asked)
        found = compute(FEATURES, stats)
        assert not found.warnings
        rows.append([found.values[name] for name in NAMES])
    table = np.array(rows)
    for first, name in enumerate(NAMES):
        known = table[~np.isnan(table[:, first]), first]
        assert len(known) >= 20, name
        assert len(set(known)) >= 4, name
        for second in range(first):
            both = ~np.isnan(table[:, [first, second]]).any(axis=1)
            rho = spearmanr(table[both, first], table[both, second]).statistic
            assert abs(rho) < 0.995, (name, NAMES[second])


def test_only_the_answers_of_the_evaluation_are_not_read(tmp_path):
    data = prepared("multiple_choice", {"n": 100})
    place = data.evaluation.schema.get_field_index("answer")
    turned = pa.array([(1 + answer) % 2 for answer in data.evaluation["answer"].to_pylist()])
    other = data.evaluation.set_column(place, data.evaluation.schema.field(place), turned)
    first, second = (
        compute(
            FEATURES, text_stats(data.train, data.task, data.spec, scratch=tmp_path, evaluation=e)
        )
        for e in (data.evaluation, other)
    )
    assert first.values == pytest.approx(second.values, nan_ok=True)
    assert not any(feature.reads_eval_labels for feature in FEATURES)


# --- what raises a feature raises it ---------------------------------------------------------

TALK = [("The room was clean and the staff friendly", "a"), ("It broke on the second day", "b")]
LONG = [
    (f"{text}, {' '.join(f'w{i}x{j}' for j in range(30))}", label)
    for i, (text, label) in enumerate(TALK * 40)
]
WORDS = [f"{ten}{one}" for ten in ("twenty", "thirty") for one in ("one", "two", "three", "four")]


def lines(make, count=80):
    draw = random.Random(0)
    return [(make(draw, i), "ab"[i % 2]) for i in range(count)]


def drawn(draw, words, length):
    return " ".join(draw.choices(words, k=length))


def plain(draw, i):
    return f"{drawn(draw, WORDS, 12)} {drawn(draw, WORDS, 6)}"


RAISED = {
    "size_di": (lines(plain, 80), lines(plain, 160)),
    "words": (lines(plain, 80), lines(plain, 160)),
    "input_words_mean": (lines(plain), lines(lambda d, i: drawn(d, WORDS, 40))),
    "input_words_sd": (lines(plain), lines(lambda d, i: drawn(d, WORDS, 1 + i))),
    "input_words_p10": (lines(plain), lines(lambda d, i: drawn(d, WORDS, 40))),
    "input_words_p50": (lines(plain), lines(lambda d, i: drawn(d, WORDS, 40))),
    "input_words_p90": (lines(plain), lines(lambda d, i: drawn(d, WORDS, 60 if i % 4 else 2))),
    "input_mtld": (
        lines(plain),
        lines(lambda d, i: drawn(d, [f"w{j}" for j in range(500)], 18)),
    ),
    "input_repetition": (lines(plain), lines(lambda d, i: "on and on " * 6)),
    "word_entropy": (lines(lambda d, i: "on and on " * 6), lines(plain)),
    "vocabulary": (lines(plain), lines(lambda d, i: f"{plain(d, i)} fresh{i}")),
    "word_length": (lines(plain), lines(lambda d, i: drawn(d, ["incomprehensibilities"], 18))),
    "compression_ratio": (
        lines(lambda d, i: "".join(d.choices("abcdefghijklmnopqrstuvwxyz ", k=100))),
        lines(plain),
    ),
    "special_share": (lines(plain), lines(lambda d, i: plain(d, i).replace(" ", " & #"))),
    "digit_share": (lines(plain), lines(lambda d, i: f"{plain(d, i)} 1234567890")),
    "cjk_share": (lines(plain), lines(lambda d, i: f"{plain(d, i)} 房间很干净")),
    "script_entropy": (lines(plain), lines(lambda d, i: f"{plain(d, i)} где мой дом 房间很干净")),
    "label_entropy": (
        lines(plain),
        [(text, "abcd"[i % 4]) for i, (text, _) in enumerate(lines(plain))],
    ),
    "label_imbalance": (
        lines(plain),
        [(text, "b" if i % 10 == 0 else "a") for i, (text, _) in enumerate(lines(plain))],
    ),
    "output_words_mean": (TALK, [(text, label * 2 + " c d") for text, label in TALK]),
    "output_words_p10": (TALK, [(text, label * 2 + " c d") for text, label in TALK]),
    "output_words_p50": (TALK, [(text, label * 2 + " c d") for text, label in TALK]),
    "output_words_p90": (TALK, [TALK[0], (TALK[1][0], "b c d")]),
    "output_words_sd": (TALK, [TALK[0], (TALK[1][0], "b c d")]),
    "length_ratio": (TALK, [(text, label * 2 + " c d") for text, label in TALK]),
    "output_distinct_2": (
        TALK * 40,
        [(text, f"{label}{i}") for i, (text, label) in enumerate(TALK * 40)],
    ),
    "output_copied": (TALK, [(text, text.split()[1]) for text, _ in TALK]),
    "duplicate_share": (LONG[:60], LONG[:60] + LONG[:20]),
    "near_duplicate_share": (
        LONG[:60],
        LONG[:60] + [(text.replace("x7", "y7"), label) for text, label in LONG[:20]],
    ),
    "conflict_share": (LONG[:60], LONG[:60] + [(text, "c") for text, _ in LONG[:20]]),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_is_built_to_raise_a_feature_raises_it(features, name):
    low, high = RAISED[name]
    assert features(high)[name] > features(low)[name]


RAISED_BY_EVALUATION = {
    "contamination": ([LONG[0][0] + " " + LONG[9][0]], [LONG[0][0]]),
    "near_contamination": (["never met before"], [LONG[0][0] + " indeed"]),
    "unseen_words": ([LONG[0][0]], ["never met before, but the room"]),
    "word_divergence": ([text for text, _ in LONG], ["never met before, but the room"]),
    "length_shift": (["the room"], ["the room and the staff"]),
}


@pytest.mark.parametrize("name", RAISED_BY_EVALUATION)
def test_what_is_built_to_raise_a_feature_of_the_evaluation_raises_it(features, name):
    low, high = RAISED_BY_EVALUATION[name]
    assert features(LONG, high)[name] > features(LONG, low)[name]


def test_every_feature_has_a_test_that_raises_it():
    assert {*RAISED, *RAISED_BY_EVALUATION} == set(NAMES)


def test_recipes_and_options_move_what_they_should(measure):
    base = measure("qa")
    assert measure("qa", {"duplicate": {"share": 0.5}})["duplicate_share"] == pytest.approx(1 / 3)
    near = measure("qa", {"near_duplicate": {"share": 0.5}}, length="long")
    assert near["near_duplicate_share"] > 0.25 + base["near_duplicate_share"]
    assert (
        measure("qa", {"shuffle_answers": {"share": 1.0}})["output_copied"]
        < 0.8 * base["output_copied"]
    )
    assert measure("qa", length="long")["input_words_mean"] > 1.3 * base["input_words_mean"]
    assert measure("qa", entities=8)["unseen_words"] > base["unseen_words"]
    assert measure("qa", leak=20)["contamination"] == 0.25
    assert measure("qa", phrasings=1)["compression_ratio"] > base["compression_ratio"]
    assert measure("qa", shift=1.0)["word_divergence"] > base["word_divergence"]
    assert measure("qa", foreign=0.5)["script_entropy"] > 0.5 > base["script_entropy"]


# --- what is special -------------------------------------------------------------------------


def test_chinese_words_are_characters(measure):
    found = measure("sentiment", language="zh")
    assert found["cjk_share"] > 0.9
    assert found["input_words_mean"] > 15
    assert found["label_entropy"] == pytest.approx(1, abs=0.01)
    assert not math.isnan(found["input_mtld"])


def test_open_answers_have_no_label_entropy(measure):
    found = measure("qa")
    assert math.isnan(found["label_entropy"])
    assert math.isnan(found["label_imbalance"])
    assert measure("multiple_choice")["label_entropy"] > 1.9


def test_one_row_and_empty_outputs(features):
    found = features([("a single row of a dataset", "a")])
    assert found["size_di"] == 1
    assert found["input_words_p90"] == 6
    assert found["input_words_sd"] == 0
    assert found["duplicate_share"] == found["near_duplicate_share"] == 0
    assert math.isnan(found["label_imbalance"])  # one label is neither balanced nor not
    assert not any(map(math.isinf, found.values()))
    empty = count([Row("some words", ""), Row("", "")])
    assert (empty.copied.of, empty.distinct_rest.of, empty.outputs.total) == (0, 0, 0)


def test_no_evaluation_is_unknown_with_a_reason(tmp_path):
    data = prepared("sentiment", {"n": 50})
    found = compute(FEATURES, text_stats(data.train, data.task, data.spec, scratch=tmp_path))
    assert set(found.warnings) == set(RAISED_BY_EVALUATION)
    assert all(math.isnan(found.values[name]) for name in RAISED_BY_EVALUATION)


def test_a_row_of_a_million_characters(features):
    text = "".join(random.Random(0).choices("abcdefgh ,1", k=1_000_000))
    found = features([(text, "a"), ("short", "b")])
    assert found["input_words_p90"] > 50_000
    assert found["near_duplicate_share"] == 0


@pytest.mark.shared
def test_known_duplicates_of_chnsenticorp(shared_data, tmp_path):
    folder = shared_data / "sentiment"
    spec = RunSpec.model_validate(
        {
            "task": {"name": "sentiment"},
            "dataset": {"source": str(folder / "chnsenticorp_train.tsv")},
            "base": {"name": "proxy"},
            "method": {"head": "label_scoring"},
            "optim": {"max_steps": 1},
            "evaluation": {"data": {"source": str(folder / "chnsenticorp_dev.tsv")}},
        }
    )
    data = prepare(spec, cache=tmp_path)
    given = {"scratch": tmp_path, "evaluation": data.evaluation}
    found = compute(FEATURES, text_stats(data.train, data.task, data.spec, **given)).values
    stats = in_memory(data.train, data.evaluation)
    assert found["contamination"] == stats.evaluation_exact
    assert found["near_contamination"] == pytest.approx(stats.evaluation_near, abs=0.003)
    assert found["near_duplicate_share"] == pytest.approx(stats.near, abs=0.001)
    # Of the rows whose input came before, a few have the other label.
    assert stats.exact - found["conflict_share"] < found["duplicate_share"] < stats.exact

import itertools
import re
from collections import Counter

import pytest

from llmpred.data import apply_recipe, characters
from llmpred.data.synthetic import (
    SOURCES,
    generate,
    multiple_choice,
    numeric,
    qa,
    quantities,
    statements,
    world,
)
from llmpred.data.synthetic import complexity as reasoning
from llmpred.data.synthetic import sentiment as reviews
from llmpred.data.synthetic import summarization as news
from llmpred.data.synthetic.options import OPTIONS
from llmpred.errors import DataError
from llmpred.spec.canonical import digest
from llmpred.spec.run import RecipeStep, TaskSpec
from llmpred.tasks import registry
from llmpred.tasks.base import perfect

LANGUAGES = ("en", "zh")
TASKS = ("sentiment", "qa", "summarization", "multiple_choice")
SETS = [name for name in SOURCES if name != "documents"]
KNOBS = [name for name in SETS if set(SOURCES[name].options) == set(OPTIONS)]
PINS = {
    ("documents", "en"): "65fa6f24e3a6",
    ("documents", "zh"): "c69390179ee7",
    ("sentiment", "en"): "ac73cf6c07b8",
    ("sentiment", "zh"): "d4883d355864",
    ("qa", "en"): "0999732f75a7",
    ("qa", "zh"): "27a698793c2d",
    ("summarization", "en"): "016f9b1a778f",
    ("summarization", "zh"): "8cac00560510",
    ("multiple_choice", "en"): "29b8c41dd276",
    ("multiple_choice", "zh"): "771d70856e41",
    ("numeric", "en"): "18a0c8e8d2b3",
    ("numeric", "zh"): "b9775ee165db",
    ("complexity", "en"): "d3f659c34f3f",
    ("complexity", "zh"): "1485b4c59baf",
    ("quantities", "en"): "20cb421323dd",
    ("quantities", "zh"): "d3ca267974b7",
}


def rows(name, n=300, **options):
    return generate(name, {"n": n, **options})


def tokens(text, language):
    return characters(text) if language == "zh" else re.findall(r"\w+", text.lower())


def texts(row):
    """Return what a row reads and answers, without its labels."""
    values = [row[key] for key in row.keys() - {"label", "kind", "unit"}]
    values = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [value for value in values if isinstance(value, str)]


def length(some, language="en"):
    return sum(len(tokens(text, language)) for row in some for text in texts(row)) / len(some)


# --- the same everywhere -----------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_the_same_everywhere(name, language):
    found = digest(rows(name, 40, seed=3, language=language))[:12]
    assert found == PINS[name, language]
    assert digest(rows(name, 40, seed=4, language=language))[:12] != found


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_distinct_and_whole(name):
    for language in LANGUAGES:
        some = rows(name, 500, language=language)
        assert len({repr(row) for row in some}) >= 490
        assert not re.search(r"[{}]", "".join(text for row in some for text in texts(row)))


def test_facts_are_of_one_closed_world():
    for part in world.PARTS:
        for kind in world.KINDS:
            for index in (0, 5, 99, 999):
                for attribute, fact in world.entity(kind, part, index).facts.items():
                    if attribute in world.QUANTITIES:
                        assert str(fact.number) in fact.words["en"]
                        assert str(fact.number) in fact.words["zh"]
                    if fact.other:
                        assert fact.other[1] < max(index, world.FEWEST)
                        assert world.name(fact.other[0], part, fact.other[1])[0] == fact.words


def test_the_smallest_world_has_rivals_for_every_question():
    for part in world.PARTS:
        for kind, attributes in world.ATTRIBUTES.items():
            first = [world.entity(kind, part, index) for index in range(world.FEWEST)]
            for attribute in attributes:
                values = {who.facts[attribute].words["en"] for who in first}
                most = 2 + numeric.OTHERS["long"] if attribute in world.NUMBERS[kind] else 0
                assert len(values) >= max(multiple_choice.CHOICES, most)


# --- the two parts -----------------------------------------------------------------------------


def test_no_name_is_in_both_parts_or_twice():
    for language in LANGUAGES:
        names = {
            part: [
                world.name(kind, part, index)[0][language]
                for kind in world.KINDS
                for index in range(world.MOST)
            ]
            for part in world.PARTS
        }
        assert not set(names["train"]) & set(names["test"])
        for kind in world.KINDS:
            own = [world.name(kind, "train", i)[0][language] for i in range(world.MOST)]
            assert len(set(own)) == world.MOST


def flat(table):
    """Return all frames of a table."""
    if isinstance(table, str):
        return set(statements.frames(table))
    values = table.values() if isinstance(table, dict) else table
    return {frame for value in values for frame in flat(value)}


def test_no_frame_is_in_both_parts():
    tables = [statements.STATEMENTS, statements.QUESTIONS, news.EVENTS, numeric.STATED]
    tables += [qa.OF, qa.SHIFT, qa.SHIFT_QUESTIONS, *numeric.SHIFTED.values(), reasoning.PROMPTS]
    tables += [change.frames for change in numeric.CHANGES.values()]
    tables += [multiple_choice.SORT, multiple_choice.ODD, multiple_choice.SUMS]
    tables += [multiple_choice.SERIES, reasoning.THOUGHTS, reasoning.ANSWERS]
    tables += [quantities.SAY, quantities.JOIN, quantities.SO, quantities.NOTED]
    tables += [quantities.CONVERT, quantities.FORMS, *quantities.PUZZLES.values()]
    tables += [*quantities.WORD.values(), *quantities.ASK.values()]
    for table in tables:
        for language in LANGUAGES:
            train, test = (flat(table[part, language]) for part in world.PARTS)
            assert not train & test
    for words in reviews.LEXICONS.values():
        for said in (words.plain, words.negated, words.hedges, words.opening, words.turns):
            assert not flat(said["train"]) & flat(said["test"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_run_of_words_is_in_both_parts(language):
    # Twelve Chinese characters are about eight words.
    size = {"en": 8, "zh": 12}[language]

    def runs(some):
        found = set()
        for row in some:
            for text in texts(row):
                words = tokens(text, language)
                found |= {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
        return found

    pretraining = runs(rows("documents", 2000, language=language, entities=1000))
    for name in SETS:
        asked = rows(name, 200, language=language, part="test")
        if name == "quantities":  # one of its sets alone is told in other words
            asked = [row for row in asked if row["set"] == "phrasings"]
        evaluation = runs(asked)
        assert evaluation
        training = runs(rows(name, 600, language=language))
        if name in KNOBS:
            training |= runs(rows(name, 300, language=language, shift=0.5, format_drift=0.5))
        assert not evaluation & (training | pretraining), name


# --- the tasks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", TASKS)
def test_rows_map_to_their_task(read, name, language):
    task = registry.get(name)
    settings = {"n": 40, "language": language}
    for knobs in ({"part": "test"}, {"format_drift": 0.5, "shift": 0.5}):
        table = read(f"synthetic:{name}", task.fields, task.parse, options=settings | knobs).table
        examples = table.to_pylist()
        spec = task.settle(TaskSpec(name=name), examples)
        assert spec.language == language
        right = [perfect(task, example, spec) for example in examples]
        assert registry.score(task, spec, right)[task.metric] == 1.0


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_short(language):
    most = {"sentiment": 40, "qa": 100, "summarization": 90, "multiple_choice": 80, "numeric": 50}
    for name, limit in most.items():
        some = rows(name, language=language)
        words = [len(tokens(texts(row)[0], language)) for row in some]
        # Two Chinese characters are about a word.
        assert max(words) <= limit * (2 if language == "zh" else 1), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentiment_is_learnable_but_not_by_words_alone(language):
    counts = {n: learned(language, n=n) for n in (100, 600)}
    assert counts[100] < counts[600] - 0.02
    assert 0.8 <= counts[600] <= 0.92
    labels = Counter(row["label"] for row in rows("sentiment", 600, language=language))
    assert labels == {"negative": 300, "positive": 300}


def learned(language, **options):
    """Return the accuracy of a TF-IDF logistic regression on the test part."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    parts = [rows("sentiment", **{"n": 600} | options, language=language)]
    parts += [rows("sentiment", 600, part="test", language=language)]
    (train, answers), (test, truth) = (
        ([row["text"] for row in part], [row["label"] for row in part]) for part in parts
    )
    grams = {"en": ("word", (1, 2)), "zh": ("char", (1, 3))}[language]
    vectors = TfidfVectorizer(analyzer=grams[0], ngram_range=grams[1], sublinear_tf=True)
    return make_pipeline(vectors, LogisticRegression(C=10)).fit(train, answers).score(test, truth)


def test_wrong_labels_come_from_a_recipe(read):
    task = registry.get("sentiment")
    table = read("synthetic:sentiment", task.fields, task.parse, options={"n": 400}).table
    step = RecipeStep.model_validate({"label_noise": {"share": 0.25}})
    noisy = apply_recipe(table, (step,), task.fields, seed=0, load_part=lambda part: table)
    assert noisy["text"] == table["text"]
    pairs = zip(table["label"].to_pylist(), noisy["label"].to_pylist(), strict=True)
    assert sum(before != after for before, after in pairs) == 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_are_spans_among_rivals(language):
    some = rows("qa", language=language)
    for row in some:
        [answer] = row["answers"]
        assert answer in row["context"]
        assert len(tokens(answer, "en")) <= 4
    assert Counter(row["kind"] for row in some).keys() == set(qa.FAMILIES)


def test_summaries_take_selection():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    first, best = [], []
    for row in rows("summarization", part="test"):
        sentences = re.split(r"(?<=\.) ", row["document"])
        scores = [scorer.score(row["summary"], s)["rougeL"].fmeasure for s in sentences]
        first.append(scores[0])
        best.append(max(scores))
    assert sum(first) / len(first) < 0.2 < 0.3 < sum(best) / len(best) < 0.5


@pytest.mark.parametrize("language", LANGUAGES)
def test_choices_are_fair(language):
    some = rows("multiple_choice", 400, language=language)
    assert Counter(row["answer"] for row in some) == dict.fromkeys(range(4), 100)
    for row in some:
        assert len(set(row["choices"])) == 4
        if row["kind"] != "sort":
            assert all(choice.lower() in row["question"].lower() for choice in row["choices"])
    assert {row["kind"] for row in some} == set(multiple_choice.FAMILIES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_follow_from_the_text(language):
    follows = {
        "sum": lambda a, b: a + b,
        "difference": lambda a, b: a - b,
        "product": lambda a, b: a * b,
        "age": lambda a, b: b - a,
        "weather": lambda a, b: a + b,
        "road": lambda a, b: a + b,
    }
    for row in rows("numeric", language=language, length="short", shift=0.2):
        numbers = [int(number) for number in re.findall(r"\d+", row["text"])]
        if row["kind"] == "stated":
            assert row["value"] in numbers
        else:
            assert row["value"] == follows[row["kind"]](*numbers)


@pytest.mark.parametrize("language", LANGUAGES)
def test_reasoning_is_longer_where_it_is_harder(language):
    some = rows("complexity", 600, language=language)
    assert Counter(row["kind"] for row in some) == dict.fromkeys(reasoning.KINDS, 100)
    whole = [row for row in some if "</think>" in row["response"]]
    assert all(row["response"].startswith("<think>") for row in some)
    assert 0.9 < len(whole) / len(some) < 0.99
    lengths = {
        hard: [len(tokens(row["response"], language)) for row in whole if row["hard"] == hard]
        for hard in (False, True)
    }
    plain, hard = (sum(found) / len(found) for found in lengths.values())
    assert hard > 1.7 * plain
    assert max(lengths[False]) > min(lengths[True])
    for marker in ("Wait", "Hmm", "Alternatively") if language == "en" else ("等等", "不对"):
        assert sum(marker in row["response"] for row in some) > 20


# --- the knobs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KNOBS)
def test_shares_are_exact_and_grow(name):
    clean = rows(name, 100)
    for knob in ("foreign", "format_drift", "shift"):
        changed = []
        for share in (0.2, 0.6):
            other = rows(name, 100, **{knob: share})
            changed.append({i for i in range(100) if other[i] != clean[i]})
            assert share * 80 <= len(changed[-1]) <= share * 100
        assert changed[0] <= changed[1]
    chinese = [re.search("[一-龥]", "".join(texts(row))) for row in rows(name, 100, foreign=0.3)]
    assert sum(map(bool, chinese)) == 30
    assert sum(map(bool, (re.search("[一-龥]", str(row)) for row in clean))) == 0


@pytest.mark.parametrize("name", KNOBS)
def test_length_entities_and_phrasings(name):
    short, normal, long = (length(rows(name, length=size)) for size in ("short", "normal", "long"))
    assert short < 0.95 * normal < 0.95 * 0.95 * long

    def names(some):
        return len(
            set(re.findall(r"[A-Z][a-z]{3,}", " ".join(t for row in some for t in texts(row))))
        )

    few, many = (names(rows(name, entities=count)) for count in (10, 500))
    assert few < 0.75 * many

    def pairs(some):
        """Return how many pairs of common words follow each other, names and numbers aside."""
        words = (re.findall(r"\b[a-z]+\b", text) for row in some for text in texts(row))
        return len({pair for found in words for pair in itertools.pairwise(found)})

    one, all_ = (pairs(rows(name, phrasings=count, entities=8)) for count in (1, 24))
    assert one < 0.8 * all_


def test_less_diversity_and_another_domain_hurt():
    for language in LANGUAGES:
        full = learned(language, n=300)
        assert learned(language, n=300, phrasings=3) < full - 0.05
        assert learned(language, n=300, shift=1.0) < full - 0.2
        assert learned(language, n=300, foreign=0.9) < full - 0.1


@pytest.mark.parametrize(
    ("options", "laws"),
    [
        ({"n": 0, "language": "fr", "part": "dev"}, ["at least 1", "`en` or `zh`", "or `test`"]),
        ({"n": True, "seed": 0.5}, ["`options.n`", "`options.seed` must be a whole number"]),
        ({"entities": 7}, ["from 8 to 1000, but got 7"]),
        ({"entities": 1001, "phrasings": 0}, ["1001", "`options.phrasings`"]),
        ({"foreign": 1.5, "shift": -0.1, "format_drift": "all"}, ["1.5", "-0.1", "'all'"]),
        ({"shift": float("nan"), "length": "huge"}, ["nan", "`short` or `normal` or `long`"]),
        ({"phrasing": 1, "label_noise": 0.1}, ["Did you mean `phrasings`", "Valid names"]),
    ],
)
def test_bad_options(options, laws):
    with pytest.raises(DataError) as caught:
        generate("qa", options)
    assert len(caught.value.problems) == len(laws)
    for law in laws:
        assert law in str(caught.value)


def test_unknown_sources_and_options_of_others(read):
    with pytest.raises(DataError, match="Did you mean `sentiment`"):
        read("synthetic:sentimnt")
    with pytest.raises(DataError, match=r"`options.part` must be one that exists \(synthetic:doc"):
        generate("documents", {"part": "test"})

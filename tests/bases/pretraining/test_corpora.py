import json
from pathlib import Path

import pytest

from llmpred.bases.pretraining import corpora as c
from llmpred.errors import DataError, SpecError


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def test_documents_of_a_text_file_stand_between_empty_lines(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\r\n\n \n three \n\none\ntwo\n\n", "utf-8")
    assert c.documents(c.Texts(source=str(path))) == ["one\ntwo", "three"]


def test_fields_are_joined_and_nested_rows_unfolded(tmp_path: Path):
    rows = [{"instruction": "Add", "input": "", "output": "2"}]
    path = jsonl(tmp_path / "a.jsonl", rows)
    assert c.documents(c.Texts(source=str(path), fields=("prompt", "response"))) == ["Add\n2"]
    path = jsonl(tmp_path / "b.jsonl", [{"source": ["A.", "B."]}])
    assert c.documents(c.Texts(source=str(path), fields=("source",))) == ["A. B."]
    qas = [{"id": i, "question": "?", "answers": []} for i in "ab"]
    squad = {"data": [{"paragraphs": [{"context": "Once.", "qas": qas}]}]}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(squad))
    assert c.documents(c.Texts(source=str(path), fields=("context",))) == ["Once."]


def test_skip_and_take_are_shares_of_the_documents(tmp_path: Path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": f"t{i}"} for i in range(10)])
    first = c.documents(c.Texts(source=str(path), take=0.8))
    rest = c.documents(c.Texts(source=str(path), skip=0.8))
    assert first == [f"t{i}" for i in range(8)]
    assert rest == ["t8", "t9"]


def test_a_synthetic_source():
    made = c.documents(c.Texts(source="synthetic:documents", options={"n": 5, "language": "zh"}))
    assert 0 < len(made) <= 5


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("absent.txt", r"no such file"),
        ("a.doc", r"must be a .txt file or a file of rows .* a\.doc"),
        ("a.jsonl", r"must have the field text, but has \['title'\]"),
        ("empty.txt", r"must hold text"),
    ],
)
def test_a_source_that_does_not_hold(tmp_path: Path, name: str, law: str):
    jsonl(tmp_path / "a.jsonl", [{"title": "x"}])
    (tmp_path / "a.doc").touch()
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match=law):
        c.documents(c.Texts(source=str(tmp_path / name)))


def test_corpora_of_the_command_line():
    mixture = c.parse_corpora(["a/b.jsonl:q+answer@2.5", "c.txt", "synthetic:documents@3"])
    assert [m.name for m in mixture.corpora] == ["b.jsonl", "c.txt", "synthetic:documents"]
    assert mixture.corpora[0].fields == ("q", "answer")
    assert [m.weight for m in mixture.corpora] == [2.5, 1.0, 3.0]
    assert mixture.corpora[2].fields == ("text",)


def test_mistakes_are_named_together(tmp_path: Path):
    path = tmp_path / "m.yaml"
    path.write_text("corpora:\n  - {name: a, source: a.txt, weigth: 2}\n  - {name: b, take: 2}\n")
    with pytest.raises(SpecError) as raised:
        c.read_mixture(path)
    text = str(raised.value)
    assert "weigth" in text
    assert "Did you mean `weight`?" in text
    assert "corpora[1].source" in text
    assert "corpora[1].take" in text
    with pytest.raises(SpecError, match=r"different names, but a\.txt comes twice"):
        c.parse_corpora(["a.txt", "b/a.txt"])


def test_what_repeats_or_leaks_is_left_out(tmp_path: Path):
    long = " ".join(f"w{i}" for i in range(30))
    a = jsonl(
        tmp_path / "a.jsonl",
        [
            {"text": "a whole sentence of seven words here"},
            {"text": "sentence of seven words"},
            {"text": "too short"},
            {"text": f"before {long} after"},
            {"text": "this one stays and is long enough"},
        ],
    )
    b = jsonl(tmp_path / "b.jsonl", [{"text": "this one stays and is long enough"}, {"text": "b"}])
    out = jsonl(tmp_path / "out.jsonl", [{"text": " ".join(f"w{i}" for i in range(5, 18))}])
    mixture = c.Mixture(
        corpora=(
            c.Corpus(name="a", source=str(a), least=3, whole=True),
            c.Corpus(name="b", source=str(b)),
        ),
        exclude=(c.Excluded(source=str(out)),),
    )
    first, second = c.gather(mixture)
    assert first.dropped == {
        "part of another": 1,
        "short": 1,
        "shares text with an excluded set": 1,
    }
    assert second.dropped == {"in another corpus": 1}
    assert len(first.train) + len(first.validation) == 2


def test_one_document_in_100_is_held_out_by_its_content():
    texts = [f"document {i}" for i in range(20_000)]
    held_out = [text for text in texts if c.held_out(text)]
    assert 150 < len(held_out) < 250
    assert held_out == [text for text in reversed(texts) if c.held_out(text)][::-1]


@pytest.mark.shared
def test_the_shipped_mixture_reads(shared_data: Path, monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).resolve().parents[3]
    monkeypatch.chdir(root)
    mixture = c.read_mixture(root / "jobs" / "pretrain_proxy.yaml")
    corpora = {corpus.name: corpus for corpus in mixture.corpora}
    only = ("SQuAD paragraphs", "CMRC 2018 paragraphs")
    some = c.Mixture(corpora=tuple(corpora[n] for n in only), exclude=mixture.exclude[:2])
    gathered = c.gather(some)
    for made, excluded in zip(gathered, some.exclude, strict=True):
        kept = set(made.train) | set(made.validation)
        assert kept
        assert kept.isdisjoint(c.documents(excluded))

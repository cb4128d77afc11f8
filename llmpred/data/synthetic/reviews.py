"""Product, hotel and film reviews, English or Chinese, whose verdict no single word gives away.

A review speaks of two to four aspects. Opinions are negated ("never disappointing"), hedged and
mixed; where they are mixed, the verdict is on the side that the review comes down on, after its
"but". Opinion words follow a long-tailed distribution, so that some are rare in training. Sentence
frames of the `train` and `test` parts are disjoint: no test sentence occurs in training.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from llmpred.data.seeds import below, generator
from llmpred.errors import DataError, Problem

LABELS = ("negative", "positive")
MIXED = 0.2  # share of reviews that first say the opposite of their verdict
NEGATED = 0.1  # share of opinions expressed by denying the opposite


class Lexicon(NamedTuple):
    """The words of one language; frames are given for (train, test)."""

    aspects: dict[str, tuple[str, ...]]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    plain: tuple[tuple[str, ...], tuple[str, ...]]
    negated: tuple[tuple[str, ...], tuple[str, ...]]
    hedges: tuple[tuple[str, ...], tuple[str, ...]]
    opening: tuple[tuple[str, ...], tuple[str, ...]]
    turns: tuple[tuple[str, ...], tuple[str, ...]]
    join: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENGLISH = Lexicon(
    aspects={
        "hotel": ("room", "bed", "breakfast", "reception", "view", "pool", "shower", "location"),
        "laptop": ("screen", "keyboard", "battery", "fan", "hinge", "touchpad", "speaker", "case"),
        "film": ("plot", "acting", "ending", "score", "dialogue", "pacing", "camera work", "cast"),
    },
    positive=_words(
        "good great excellent lovely solid superb delightful reliable impressive charming "
        "flawless pleasant generous memorable refined splendid satisfying polished brilliant "
        "outstanding wonderful inviting graceful exquisite"
    ),
    negative=_words(
        "bad poor terrible dull flimsy awful disappointing shoddy tedious dreary dreadful "
        "unpleasant stingy forgettable clumsy mediocre annoying sloppy lousy appalling "
        "miserable grubby wooden horrid"
    ),
    plain=(
        ("the {a} was {w}", "I found the {a} {w}", "the {a} turned out {w}", "the {a} seemed {w}"),
        (
            "the {a} felt {w}",
            "we thought the {a} {w}",
            "the {a} proved {w}",
            "the {a} was so {w}",
        ),
    ),
    negated=(
        ("the {a} was not {w}", "I would not call the {a} {w}", "the {a} was never {w}"),
        ("the {a} was hardly {w}", "nobody could call the {a} {w}", "the {a} was far from {w}"),
    ),
    hedges=(
        ("to be fair,", "I suppose", "more or less,", "for the price,"),
        ("admittedly,", "I would say", "on most days,", "as these things go,"),
    ),
    opening=(
        ("Stayed with it for a week.", "Bought on a whim.", "My second time.", "A gift."),
        ("Tried it last month.", "Came by chance.", "A friend insisted.", "Had high hopes."),
    ),
    turns=(
        ("but", "and yet", "however,", "in the end, though,"),
        ("still,", "all the same,", "even so,", "when all is said,"),
    ),
    join=" ",
)

CHINESE = Lexicon(
    aspects={
        "hotel": ("房间", "床铺", "早餐", "前台", "景色", "泳池", "淋浴", "位置"),
        "laptop": ("屏幕", "键盘", "电池", "风扇", "转轴", "触控板", "音响", "外壳"),
        "film": ("剧情", "演技", "结局", "配乐", "对白", "节奏", "摄影", "选角"),
    },
    positive=_words(
        "好 棒 出色 舒服 扎实 一流 讨喜 可靠 惊艳 迷人 完美 宜人 "
        "大方 难忘 精致 漂亮 过瘾 细腻 优秀 顶尖 精彩 贴心 优雅 考究"
    ),
    negative=_words(
        "差 烂 糟糕 难受 单薄 三流 讨厌 靠不住 失望 乏味 可怕 刺眼 "
        "小气 平庸 粗糙 丑 烦人 马虎 拙劣 恶劣 沉闷 敷衍 笨拙 廉价"
    ),
    plain=(
        ("{a}很{w}", "{a}让人觉得{w}", "我觉得{a}{w}", "{a}确实{w}"),
        ("{a}相当{w}", "大家都说{a}{w}", "{a}给我的印象是{w}", "{a}真{w}"),
    ),
    negated=(
        ("{a}不算{w}", "{a}一点也不{w}", "不能说{a}{w}"),
        ("{a}谈不上{w}", "{a}并不{w}", "没人会说{a}{w}"),
    ),
    hedges=(
        ("说实话，", "总的来看，", "以这个价格，", "老实讲，"),
        ("平心而论，", "个人感觉，", "按这个档次，", "客观地说，"),
    ),
    opening=(
        ("用了一个星期。", "一时冲动买的。", "第二次来。", "朋友送的。"),
        ("上个月试过。", "偶然碰到。", "同事推荐的。", "本来期待很高。"),
    ),
    turns=(
        ("但是", "可是", "不过", "然而"),
        ("只是", "话说回来，", "即便如此，", "可到头来"),
    ),
    join="",
)

LEXICONS = {"en": ENGLISH, "zh": CHINESE}


def reviews(
    *,
    n: int = 600,
    seed: int = 0,
    language: str = "en",
    part: str = "train",
    label_noise: float = 0.0,
) -> list[dict[str, Any]]:
    """Return `n` reviews with `text`, `label` (negative, positive) and `topic`.

    Args:
        n: how many; both labels as often as can be.
        seed: of the draws.
        language: `en` or `zh`.
        part: `train` or `test`, whose sentence frames are disjoint.
        label_noise: share of the rows whose label is turned over.

    Raises:
        DataError: naming every option that does not hold.
    """
    laws = {
        "n": (type(n) is int and n >= 1, "a whole number of at least 1", n),
        "seed": (type(seed) is int, "a whole number", seed),
        "language": (language in LEXICONS, "`en` or `zh`", language),
        "part": (part in ("train", "test"), "`train` or `test`", part),
        "label_noise": (
            isinstance(label_noise, int | float) and 0 <= label_noise <= 1,
            "a share from 0 to 1",
            label_noise,
        ),
    }
    problems = [
        Problem(f"`options.{name}` must be {law}, but got {value!r}", "synthetic:reviews")
        for name, (holds, law, value) in laws.items()
        if not holds
    ]
    if problems:
        raise DataError(problems)
    rng = generator("reviews", seed, language, part)
    noise = generator("reviews", seed, language, part, "label_noise")
    side = ("train", "test").index(part)
    rows = []
    for i in range(n):
        label = i % 2
        topic, text = _review(LEXICONS[language], label, side, rng)
        if noise.random() < label_noise:
            label = 1 - label
        rows.append({"text": text, "label": LABELS[label], "topic": topic})
    order = np.argsort(rng.random(n), kind="stable")
    return [rows[i] for i in order]


def _review(words: Lexicon, label: int, side: int, rng: np.random.Generator) -> tuple[str, str]:
    """Write one review that comes down on the side of `label`."""
    topic = _pick(tuple(words.aspects), rng)
    count = 2 + below(rng, 3)
    aspects = [words.aspects[topic][i] for i in np.argsort(rng.random(8), kind="stable")[:count]]
    mixed = rng.random() < MIXED
    turn = 1 + below(rng, count - 1) if mixed else 0
    clauses = []
    for i, aspect in enumerate(aspects):
        good = label if i >= turn else 1 - label
        clause = _clause(words, aspect, bool(good), side, rng)
        if mixed and i == turn:
            clause = _pick(words.turns[side], rng) + words.join + clause
        clauses.append(clause)
    comma, stop = ("，", "。") if words is CHINESE else (", ", ".")
    sentence = comma.join(clauses) + stop
    sentence = sentence[0].upper() + sentence[1:]
    if rng.random() < 0.5:
        sentence = _pick(words.opening[side], rng) + words.join + sentence
    return topic, sentence


def _clause(words: Lexicon, aspect: str, good: bool, side: int, rng: np.random.Generator) -> str:
    """Say something good or bad of an aspect, plainly or by denying the opposite."""
    negated = rng.random() < NEGATED
    opinions = words.positive if good != negated else words.negative
    rank = int(len(opinions) * rng.random() ** 1.7)  # long-tailed: early words are frequent
    frame = _pick((words.negated if negated else words.plain)[side], rng)
    clause = frame.format(a=aspect, w=opinions[rank])
    if rng.random() < 0.2:
        clause = _pick(words.hedges[side], rng) + words.join + clause
    return clause


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[below(rng, len(options))]

"""Reviews of hotels, laptops and films, whose verdict no single word gives away.

A review speaks of two to four aspects. Opinions are negated ("never disappointing"), hedged and
mixed; where they are mixed, the verdict is on the side that the review comes down on, after its
"but". Opinion words follow a long-tailed distribution, so that some are rare in training. Sentence
frames of the `train` and `test` parts are disjoint: no test sentence occurs in training. Another
domain is meals and games, praised and blamed in other words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llmpred.data.synthetic.draw import Draw, capital
from llmpred.data.synthetic.statements import frames

LABELS = ("negative", "positive")
MIXED = 0.2  # share of reviews that first say the opposite of their verdict
NEGATED = 0.1  # share of opinions expressed by denying the opposite
ASPECTS = {"short": (1, 2), "normal": (2, 4), "long": (4, 6)}  # fewest and most in a review


class Lexicon(NamedTuple):
    """The words of one language: topics and their aspects, opinions, and frames by part."""

    aspects: dict[str, tuple[str, ...]]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    plain: dict[str, str]
    negated: dict[str, str]
    hedges: dict[str, str]
    opening: dict[str, str]
    turns: dict[str, str]
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
    plain={
        "train": "the {a} was {w} | I found the {a} {w} | the {a} turned out {w} | "
        "the {a} seemed {w}",
        "test": "the {a} felt {w} | we thought the {a} {w} | the {a} proved {w} | "
        "the {a} was so {w}",
    },
    negated={
        "train": "the {a} was not {w} | I would not call the {a} {w} | the {a} was never {w}",
        "test": "the {a} was hardly {w} | nobody could call the {a} {w} | the {a} was far from {w}",
    },
    hedges={
        "train": "to be fair, | I suppose | more or less, | for the price,",
        "test": "admittedly, | I would say | on most days, | as these things go,",
    },
    opening={
        "train": "Tried it in {town}. | Bought on a whim. | My second time. | "
        "A gift from {person}.",
        "test": "On a trip to {town}. | Came by chance. | {person} insisted. | Had high hopes.",
    },
    turns={
        "train": "but | and yet | however, | in the end, though,",
        "test": "still, | all the same, | even so, | when all is said,",
    },
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
    plain={
        "train": "{a}很{w} | {a}让人觉得{w} | 我觉得{a}{w} | {a}确实{w}",
        "test": "{a}相当{w} | 大家都说{a}{w} | {a}给我的印象是{w} | {a}真{w}",
    },
    negated={
        "train": "{a}不算{w} | {a}一点也不{w} | 不能说{a}{w}",
        "test": "{a}谈不上{w} | {a}并不{w} | 没人会说{a}{w}",
    },
    hedges={
        "train": "说实话， | 总的来看， | 以这个价格， | 老实讲，",
        "test": "平心而论， | 个人感觉， | 按这个档次， | 客观地说，",
    },
    opening={
        "train": "在{town}试过。 | 一时冲动买的。 | 第二次来。 | {person}送的。",
        "test": "去{town}的路上。 | 偶然碰到。 | {person}推荐的。 | 本来期待很高。",
    },
    turns={
        "train": "但是 | 可是 | 不过 | 然而",
        "test": "只是 | 话说回来， | 即便如此， | 可到头来",
    },
    join="",
)

LEXICONS = {"en": ENGLISH, "zh": CHINESE}
SHIFTED = {
    "en": ENGLISH._replace(
        aspects={
            "meal": ("soup", "sauce", "rice", "waiter", "dessert", "salad", "menu", "fish"),
            "game": ("keeper", "captain", "referee", "coach", "pitch", "attack", "crowd", "pass"),
        },
        positive=_words("tasty fresh crisp juicy quick strong fair fit sharp lively clever bold"),
        negative=_words("bland stale soggy greasy slow weak unfair lame blunt sleepy silly timid"),
    ),
    "zh": CHINESE._replace(
        aspects={
            "meal": ("汤", "酱汁", "米饭", "服务员", "甜点", "沙拉", "菜单", "鱼"),
            "game": ("门将", "队长", "裁判", "教练", "球场", "进攻", "观众", "传球"),
        },
        positive=_words("鲜美 新鲜 爽口 多汁 敏捷 强 公正 健壮 犀利 活跃 聪明 果断"),
        negative=_words("寡淡 变味 发软 油腻 迟缓 弱 偏心 无力 迟钝 困倦 糊涂 胆怯"),
    ),
}
# How the form of a review may drift from that of the evaluation.
DRIFT = (
    "{n} stars wanted! {text}",
    "<br />{text}<br />(read {n} times)",
    "Re: Re: {text} >> reply",
    "[{n}/11/2019] user{n}: {text} ...",
)


def row(draw: Draw) -> dict[str, Any]:
    """Return `text`, `label` (both as often as can be) and `kind`, what it reviews."""
    label = draw.place % 2
    topic, text = review(draw, bool(label))
    if draw.drifted:
        text = draw.phrase(DRIFT).format(text=text.upper(), n=1 + draw.below(28))
    return {"text": text, "label": LABELS[label], "kind": topic}


def review(draw: Draw, good: bool) -> tuple[str, str]:
    """Return topic and text of a review that comes down on the good side, or the bad one."""
    words = (SHIFTED if draw.shifted else LEXICONS)[draw.language]
    fewest, most = ASPECTS[draw.length]
    topic = draw.pick(tuple(words.aspects))
    aspects = draw.some(words.aspects[topic], fewest + draw.below(most - fewest + 1))
    mixed = len(aspects) > 1 and draw.chance(MIXED)
    turn = 1 + draw.below(len(aspects) - 1) if mixed else 0
    clauses = []
    for i, aspect in enumerate(aspects):
        clause = _clause(words, aspect, good if i >= turn else not good, draw)
        if mixed and i == turn:
            clause = draw.phrase(frames(words.turns[draw.part])) + words.join + clause
        clauses.append(clause)
    sentence = draw.sentence(("，" if draw.language == "zh" else ", ").join(clauses))
    if draw.chance(0.5):
        opening = draw.phrase(frames(words.opening[draw.part]))
        names = {kind: draw.name(draw.one(kind)) for kind in ("town", "person")}
        sentence = capital(opening.format(**names)) + words.join + sentence
    return topic, sentence


def _clause(words: Lexicon, aspect: str, good: bool, draw: Draw) -> str:
    """Say something good or bad of an aspect, plainly or by denying the opposite."""
    negated = draw.chance(NEGATED)
    opinions = (words.positive if good != negated else words.negative)[: draw.phrasings]
    rank = int(len(opinions) * draw.rng.random() ** 1.7)  # long-tailed: early words are frequent
    said = words.negated if negated else words.plain
    frame = draw.phrase(frames(said[draw.part]))
    clause = frame.format(a=aspect, w=opinions[rank])
    if draw.chance(0.2):
        clause = draw.phrase(frames(words.hedges[draw.part])) + words.join + clause
    return clause

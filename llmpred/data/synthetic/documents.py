"""Neutral text about the world, to pretrain a small language model on: `text` alone.

Articles, news, dialogues, reviews with what came of them, lists, and passages whose spans come
again: restated, recalled, looked up. The forms differ from the prompts of all tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmpred.data.synthetic.draw import Draw, capital
from llmpred.data.synthetic.sentiment import review
from llmpred.data.synthetic.statements import DAYS, frames
from llmpred.data.synthetic.world import ATTRIBUTES, KINDS, NOUNS, NUMBERS, SYLLABLES, WORDS, Entity

FRAMES = {
    "en": {
        "news": (
            "{company} opened a new shop in {town} on {day}. {n} people came to see it. {person}, "
            "a {trade}, said: “{remark}” | "
            "On {day} {person} left {company} after {n} months. “{remark}”, said {other}, who will "
            "take over the work in {town}. | "
            "A storm hit {town} on {day}. It broke {n} windows and closed {company}. {person} "
            "said: “{remark}” | "
            "{person} won the race of {town} in {n} minutes. {other} came second. “{remark}”, said "
            "the {trade} on {day}. | "
            "The price of {goods} rose by {n} crowns in {town}. {company} bought less of it. "
            "{person} said on {day}: “{remark}” | "
            "A {animal} was seen near {town} on {day}. {person} followed it for {n} minutes and "
            "then called {other}, the {trade} of {company}."
        ),
        "remark": (
            "We are very glad. | It was a sad day. | Nobody was hurt. | I did not expect that. | "
            "This will help the town. | We lost a lot of money. | It is good news for us all."
        ),
        "good": (
            "We will come again. | {person} was happy and told all friends to go. | "
            "So {person} recommends it to everyone. | Worth every coin, thank you. | "
            "I am glad that I chose it."
        ),
        "bad": (
            "Never again. | {person} was angry and asked for the money back. | "
            "So {person} warns everyone. | A waste of money, sadly. | I regret that I chose it."
        ),
        "asked": (
            "Asked about the {n} of {x}, {who} answered: {v}. | "
            "“And the {n} of {x}?” – “{v}”, said {who}. | {who} wrote down the {n} of {x}: {v}. | "
            "What we heard about the {n} of {x} was {v}. | The {n} of {x}? It is {v}."
        ),
        "asked back": (
            "Asked which {k} has the {n} {v}, {who} answered: {x}. | "
            "{who} looked for a {k} with the {n} {v} and found {x}. | "
            "The {k} with the {n} {v} is {x}."
        ),
        "again": "Once more: {s} | As I said, {s} | To repeat: {s} | In short: {s} | {s}",
        "dialogue": (
            "{a}: “{q}” {b}: “{s}” | {a} asked: “{q}” “{s}”, said {b}. | "
            "“{q}” {a} wanted to know. {b} thought for a moment. “{s}”"
        ),
        "list": (
            "Here are some {n}: {l}. Again, the {n}: {l}. | "
            "{l}: these {n} were on the list. The first was {f}, the last was {e}. | "
            "{who} bought {l}. At home {who} unpacked {l}. | "
            "From the end, {r} is {l} turned round. | {who} named {l}. After {f} came {g}."
        ),
        "kind": (
            "{l} are {k}. {o} is not; it is a {j}. | "
            "Among {m}, all but {o} are {k}. {o} is a {j}. | {f} is a {i}, and {o} is a {j}."
        ),
        "compare": (
            "The {n} of {x} is {v}, that of {y} is {w}. So {big} has the greater number, {small} "
            "the smaller. | {x}: {v}. {y}: {w}. The bigger number belongs to {big}. | "
            "Of {x} with {v} and {y} with {w}, {small} has less. | "
            "{big} has more than {small}: {a} against {b}."
        ),
        "blank": "{s} {c} The missing word is {v}. | {c} ({v}) {s} | {s} Fill in: {c} → {v}",
        "headline": "{h} *** {t} | {t} So the title reads: {h} | {t} That is: {h}",
    },
    "zh": {
        "news": (
            "{day}，{company}在{town}开了新店，来了{n}个人。{trade}{person}说：“{remark}” | "
            "{day}，{person}离开了工作{n}个月的{company}。接手{town}工作的{other}说：“{remark}” | "
            "{day}，暴风雨袭击{town}，打破了{n}扇窗户，{company}停业。{person}说：“{remark}” | "
            "{person}用{n}分钟赢得{town}的比赛，{other}得了第二。这位{trade}在{day}说：“{remark}” "
            "| {town}的{goods}涨了{n}克朗，{company}买得少了。{day}，{person}说：“{remark}” | "
            "{day}，有人在{town}附近看到一只{animal}。{person}跟了它{n}分钟，然后叫来了{company}"
            "的{trade}{other}。"
        ),
        "remark": (
            "我们非常高兴。 | 这是难过的一天。 | 没有人受伤。 | 我没有想到。 | 这对全镇有好处。 | "
            "我们亏了很多钱。 | 对大家来说这是好消息。"
        ),
        "good": (
            "下次还会来。 | {person}很高兴，叫朋友们都去。 | 所以{person}推荐给大家。 | "
            "花的每一分钱都值，谢谢。 | 很庆幸选了它。"
        ),
        "bad": (
            "再也不来了。 | {person}很生气，要求退钱。 | 所以{person}劝大家别买。 | "
            "可惜，白花了钱。 | 真后悔选了它。"
        ),
        "asked": (
            "有人问到{x}的{n}，{who}回答：{v}。 | “那{x}的{n}呢？”“{v}。”{who}说。 | "
            "{who}记下了{x}的{n}：{v}。 | 关于{x}的{n}，我们听到的是{v}。 | {x}的{n}？是{v}。"
        ),
        "asked back": (
            "有人问哪个{k}的{n}是{v}，{who}回答：{x}。 | {who}要找{n}是{v}的{k}，找到了{x}。 | "
            "{n}是{v}的{k}是{x}。"
        ),
        "again": "再说一遍：{s} | 我说过，{s} | 重复一下：{s} | 简单说：{s} | {s}",
        "dialogue": (
            "{a}：“{q}”{b}：“{s}” | {a}问：“{q}”{b}说：“{s}” | “{q}”{a}想知道。{b}想了想。“{s}”"
        ),
        "list": (
            "下面是一些{n}：{l}。再来一遍，{n}有：{l}。 | "
            "{l}，这些{n}都在单子上。第一个是{f}，最后一个是{e}。 | "
            "{who}买了{l}。到家后，{who}拿出了{l}。 | 倒过来，{l}就成了{r}。 | "
            "{who}说了{l}。{f}后面是{g}。"
        ),
        "kind": (
            "{l}都是{k}。{o}不是，{o}是{j}。 | {m}里面，除了{o}都是{k}。{o}是{j}。 | "
            "{f}是{i}，{o}是{j}。"
        ),
        "compare": (
            "{x}的{n}是{v}，{y}的是{w}。所以{big}的数大，{small}的数小。 | "
            "{x}：{v}。{y}：{w}。数更大的是{big}。 | {x}有{v}，{y}有{w}，{small}更少。 | "
            "{big}比{small}多：一个{a}，一个{b}。"
        ),
        "blank": "{s}{c}空格里是{v}。 | {c}（{v}）{s} | {s}填空：{c}→{v}",
        "headline": "{h}——{t} | {t}所以标题是：{h} | {t}也就是说：{h}",
    },
}
PLURALS = {
    "en": {
        "person": "people",
        "town": "towns",
        "company": "companies",
        "animal": "animals",
        "product": "products",
    },
    "zh": {kind: words["zh"] for kind, words in KINDS.items()},
}
BLANK = {"en": "____", "zh": "____"}


def row(draw: Draw) -> dict[str, Any]:
    """Return a document of one of the forms."""
    return {"text": draw.pick(FORMS)(draw)}


def _frame(draw: Draw, form: str) -> str:
    return draw.pick(frames(FRAMES[draw.language][form]))


def _who(draw: Draw) -> str:
    return draw.name(draw.one("person"))


# --- telling -----------------------------------------------------------------------------------


def article(draw: Draw) -> str:
    """Tell two to four facts of one entity."""
    who = draw.one(draw.pick(tuple(KINDS)))
    told = draw.attributes(who.kind, 2 + draw.below(3))
    facts = [draw.say(who, attribute, again=i > 0) for i, attribute in enumerate(told)]
    return draw.text([draw.sentence(fact) for fact in facts])


def news(draw: Draw) -> str:
    """Tell of an event, now and then with a headline."""
    names = {kind: draw.name(draw.one(kind)) for kind in ("company", "town", "animal")}
    who, other = draw.several("person", 2)
    remark = draw.pick(frames(FRAMES[draw.language]["remark"]))
    text = _frame(draw, "news").format(
        **names,
        person=draw.name(who),
        other=draw.name(other),
        trade=draw.value(who, "trade"),
        goods=draw.word(draw.pick(WORDS["goods"])),
        day=draw.pick(DAYS[draw.language]),
        n=2 + draw.below(98),
        remark=remark,
    )
    if draw.chance(0.3):
        first = text.split("。" if draw.language == "zh" else ". ")[0]
        headline = first + ("。" if draw.language == "zh" else ".")
        text = _frame(draw, "headline").format(h=headline, t=text)
    return text


def opinion(draw: Draw) -> str:
    """Give a review, and mostly what came of it."""
    good = draw.chance(0.5)
    text = review(draw, good)[1]
    after = _frame(draw, "good" if good else "bad").format(person=_who(draw))
    return draw.text([text, after] if draw.chance(0.8) else [text])


def dialogue(draw: Draw) -> str:
    """Let two people ask and answer about one or two facts."""
    who = draw.one(draw.pick(tuple(KINDS)))
    a, b = (draw.name(person) for person in draw.several("person", 2))
    turns = []
    for attribute in draw.attributes(who.kind, 1 + draw.below(2)):
        answer = draw.sentence(draw.say(who, attribute))
        frame = _frame(draw, "dialogue")
        turns.append(frame.format(a=a, b=b, q=draw.ask(who, attribute), s=answer))
    return draw.text(turns)


def sorts(draw: Draw) -> str:
    """Tell what some entities are, and which one is something else."""
    kind, other = draw.some(tuple(KINDS), 2)
    names = [draw.name(entity) for entity in draw.several(kind, 2 + draw.below(2))]
    odd = draw.name(draw.one(other))
    return capital(
        _frame(draw, "kind").format(
            l=draw.listed(names),
            m=draw.listed(draw.shuffled([*names, odd])),
            f=names[0],
            o=odd,
            i=draw.word(KINDS[kind]),
            j=draw.word(KINDS[other]),
            k=PLURALS[draw.language][kind],
        )
    )


def comparison(draw: Draw) -> str:
    """Compare two entities by a number."""
    kind = draw.pick(tuple(KINDS))
    attribute = draw.pick(NUMBERS[kind])
    pair = draw.several(kind, 2)
    if pair[0].facts[attribute].number == pair[1].facts[attribute].number:
        return article(draw)
    small, big = sorted(pair, key=lambda entity: entity.facts[attribute].number)
    x, y = pair
    return capital(
        _frame(draw, "compare").format(
            n=draw.word(NOUNS[attribute]),
            x=draw.name(x),
            y=draw.name(y),
            v=draw.value(x, attribute),
            w=draw.value(y, attribute),
            big=draw.name(big),
            small=draw.name(small),
            a=draw.value(big, attribute),
            b=draw.value(small, attribute),
        )
    )


# --- copying -----------------------------------------------------------------------------------


def _passage(draw: Draw) -> tuple[str, list[tuple[Entity, str]]]:
    """Return two to five facts of up to three entities of a kind, and which they are."""
    kind = draw.pick(tuple(KINDS))
    told = []
    for who in draw.several(kind, 1 + draw.below(3)):
        for attribute in draw.attributes(kind, 1 + draw.below(2)):
            told.append((who, attribute))
    text = draw.text([draw.sentence(draw.say(*fact)) for fact in told])
    return text, told


def recalled(draw: Draw) -> str:
    """Give a passage, then answer what was in it."""
    text, told = _passage(draw)
    parts = [text]
    for who, attribute in draw.some(told, min(len(told), 1 + draw.below(2))):
        frame = _frame(draw, "asked back" if draw.chance(0.3) else "asked")
        answered = frame.format(
            x=draw.name(who),
            v=draw.value(who, attribute),
            n=draw.word(NOUNS[attribute]),
            k=draw.word(KINDS[who.kind]),
            who=_who(draw),
        )
        parts.append(answered)
    return draw.text(parts)


def restated(draw: Draw) -> str:
    """Give a passage, then one of its facts in the same or other words."""
    text, told = _passage(draw)
    again = _frame(draw, "again").format(s=draw.say(*draw.pick(told)))
    return draw.text([text, draw.sentence(again)])


def cloze(draw: Draw) -> str:
    """Give a passage, a fact of it with a gap, and what belongs there."""
    text, told = _passage(draw)
    who, attribute = draw.pick(told)
    value = draw.value(who, attribute)
    gapped = draw.sentence(draw.say(who, attribute).replace(value, BLANK[draw.language]))
    return _frame(draw, "blank").format(s=text, c=gapped, v=value)


def table(draw: Draw) -> str:
    """Give a table in words or signs, then look one entry up."""
    kind = draw.pick(tuple(KINDS))
    attribute = draw.pick(ATTRIBUTES[kind])
    rows = {
        draw.name(who): draw.value(who, attribute) for who in draw.several(kind, 3 + draw.below(3))
    }
    sign, stop = draw.pick(((": ", "; "), (" = ", ", "), (" - ", " / "), (" → ", " | ")))
    asked = draw.pick(tuple(rows))
    entries = stop.join(f"{key}{sign}{value}" for key, value in rows.items())
    noun = capital(draw.word(NOUNS[attribute]))
    return f"{noun}: {entries}\n{asked}{sign}{rows[asked]}"


def codes(draw: Draw) -> str:
    """Give pairs of meaningless syllables and numbers, then some of them again."""
    keys = [syllable[draw.language] for syllable in draw.some(SYLLABLES, 3 + draw.below(4))]
    pairs = {key: draw.below(100) for key in keys}
    sign = draw.pick(("=", ":", " ", "->"))
    again = draw.some(keys, 2)
    return " ".join(f"{key}{sign}{pairs[key]}" for key in [*keys, *again])


def listing(draw: Draw) -> str:
    """Give a list of names or things, and all or part of it again."""
    if draw.chance(0.5):
        kind = draw.pick(tuple(KINDS))
        noun = PLURALS[draw.language][kind]
        items = [draw.name(entity) for entity in draw.several(kind, 3 + draw.below(3))]
    else:
        topic = draw.pick(("goods", "colour", "material", "diet"))
        noun = {"en": "things", "zh": "东西"}[draw.language]
        items = [draw.word(words) for words in draw.some(WORDS[topic], 3 + draw.below(3))]
    return capital(
        _frame(draw, "list").format(
            n=noun,
            l=draw.listed(items),
            r=draw.listed(items[::-1]),
            f=items[0],
            g=items[1],
            e=items[-1],
            who=_who(draw),
        )
    )


FORMS: tuple[Callable[[Draw], str], ...] = (
    article,
    article,
    news,
    news,
    opinion,
    opinion,
    dialogue,
    sorts,
    comparison,
    recalled,
    recalled,
    recalled,
    restated,
    restated,
    cloze,
    table,
    codes,
    listing,
)

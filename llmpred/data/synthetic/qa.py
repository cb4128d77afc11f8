"""Reading comprehension in SQuAD's fields: the answer is a span of the context.

A context tells facts of several entities of a kind, the asked attribute of each of them among
these. Questions ask for a fact (`fact`), for the entity that has it (`which`), for a fact of
something that is itself a fact (`chain`), or for the entity with the highest number (`most`).
Another domain is who put which thing where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmpred.data.synthetic.draw import Draw
from llmpred.data.synthetic.statements import frames
from llmpred.data.synthetic.world import (
    ATTRIBUTES,
    KINDS,
    NOUNS,
    NUMBERS,
    REFERENCES,
    Entity,
    entity,
    pairs,
)

SENTENCES = {"short": 3, "normal": 5, "long": 8}
CHAINS = [(k, a) for k, attributes in ATTRIBUTES.items() for a in attributes if a in REFERENCES]
OF = {
    ("train", "en"): "the {n} of {x}",
    ("test", "en"): "{x}'s {n}",
    ("train", "zh"): "{x}的{n}",
    ("test", "zh"): "{x}之{n}",
}
DRIFT = {
    "en": ("The answer is {a}.", "ANSWER >> {a}", "{a}, says the text", "It must be “{a}”, right?"),
    "zh": ("答案是{a}。", "答>>{a}", "{a}，文中说", "应该是“{a}”吧？"),
}
THINGS = pairs("ball=皮球, book=书, key=钥匙, cup=杯子, coat=外套, map=地图, hat=帽子, coin=硬币")
PLACES = pairs("kitchen=厨房, garden=花园, hall=大厅, cellar=地窖, office=办公室, barn=谷仓")
SHIFT = {
    ("train", "en"): ("{who} put the {o} in the {p} | the {o} went to the {p} with {who}"),
    ("test", "en"): ("{who} left the {o} in the {p} | the {o} is in the {p} because of {who}"),
    ("train", "zh"): ("{who}把{o}放进了{p} | {o}被{who}带到了{p}"),
    ("test", "zh"): ("{who}将{o}留在了{p} | {o}由{who}忘在{p}"),
}
SHIFT_QUESTIONS = {
    ("train", "en"): ("Where is the {o}? | In which place is the {o}?", "Who had the {o}?"),
    ("test", "en"): ("Find the {o}. | The {o}, where?", "The {o}, who moved it?"),
    ("train", "zh"): ("{o}在哪里？ | 哪里有{o}？", "谁拿过{o}？"),
    ("test", "zh"): ("找一找{o}。 | {o}放在何处？", "{o}是何人动的？"),
}
Asked = tuple[str, list[tuple[Entity, str]], str]  # question, facts that must be told, answer


def row(draw: Draw) -> dict[str, Any]:
    """Return `context`, `question`, `answers` and `kind`."""
    if draw.shifted:
        context, question, answer = _household(draw)
        kind = "household"
    else:
        kind = draw.pick(MIX)
        question, facts, answer = FAMILIES[kind](draw)
        context = _context(draw, facts)
        if answer not in context:  # a sentence begins with it
            answer = answer[:1].upper() + answer[1:]
    if draw.drifted:
        answer = draw.phrase(DRIFT[draw.language]).format(a=answer.upper())
    return {"context": context, "question": question, "answers": [answer], "kind": kind}


def _context(draw: Draw, facts: list[tuple[Entity, str]]) -> str:
    """Tell the facts and others of the same entities, one entity after the other."""
    told = dict.fromkeys(facts)
    owners = list(dict.fromkeys(who for who, _ in facts))
    others = [(who, a) for who in owners for a in ATTRIBUTES[who.kind] if (who, a) not in told]
    spare = max(0, SENTENCES[draw.length] - len(told))
    told.update(dict.fromkeys(draw.some(others, min(spare, len(others)))))
    sentences = []
    for who in draw.shuffled(owners):
        own = draw.shuffled([a for other, a in told if other is who])
        sentences += [draw.say(who, attribute, again=i > 0) for i, attribute in enumerate(own)]
    return draw.text([draw.sentence(sentence) for sentence in sentences])


def _count(draw: Draw) -> int:
    return 2 + draw.below(2) if draw.length != "long" else 3 + draw.below(2)


def _rivals(draw: Draw) -> tuple[Entity, str, list[tuple[Entity, str]]]:
    """Return whom and what to ask for, and the facts of all that could be confused with it."""
    kind = draw.pick(tuple(KINDS))
    attribute = draw.pick(ATTRIBUTES[kind])
    rivals = draw.rivals(kind, attribute, _count(draw))
    return draw.pick(rivals), attribute, [(rival, attribute) for rival in rivals]


def _fact(draw: Draw) -> Asked:
    who, attribute, facts = _rivals(draw)
    return draw.ask(who, attribute), facts, draw.value(who, attribute)


def _which(draw: Draw) -> Asked:
    who, attribute, facts = _rivals(draw)
    return draw.ask_which(who, attribute), facts, draw.name(who)


def _chain(draw: Draw) -> Asked:
    """Ask for a fact of an entity that is named only as a fact of another one."""
    kind, link = draw.pick(CHAINS)
    facts: list[tuple[Entity, str]] = []
    rivals = draw.rivals(kind, link, 2)
    attribute = draw.pick(ATTRIBUTES[REFERENCES[link]])
    for who in rivals:
        facts += [(who, link), (_named(draw, who, link), attribute)]
    who = rivals[0]
    description = OF[draw.part, draw.language].format(
        n=draw.word(NOUNS[link]), x=draw.word(who.subject)
    )
    other = _named(draw, who, link)
    return draw.ask(other, attribute, description), facts, draw.value(other, attribute)


def _named(draw: Draw, who: Entity, link: str) -> Entity:
    """Return the entity that a fact names."""
    other = who.facts[link].other
    if other is None:
        raise TypeError(f"{link} names no entity")
    return entity(other[0], draw.part, other[1])


def _most(draw: Draw) -> Asked:
    kind = draw.pick(tuple(KINDS))
    attribute = draw.pick(NUMBERS[kind])
    rivals = draw.rivals(kind, attribute, _count(draw))
    top = max(rivals, key=lambda who: who.facts[attribute].number)
    facts = [(rival, attribute) for rival in rivals]
    return draw.ask_most(kind, attribute), facts, draw.name(top)


FAMILIES: dict[str, Callable[[Draw], Asked]] = {
    "fact": _fact,
    "which": _which,
    "chain": _chain,
    "most": _most,
}
MIX = ("fact", "fact", "fact", "fact", "which", "which", "which", "chain", "chain", "most")


def _household(draw: Draw) -> tuple[str, str, str]:
    """Tell who put which thing where; ask for the place or the person."""
    count = min(SENTENCES[draw.length] - 1, len(PLACES))
    things, places = draw.some(THINGS, count), draw.some(PLACES, count)
    people = [draw.name(who) for who in draw.several("person", count)]
    where = [draw.word(place) for place in places]
    sentences = [
        draw.sentence(draw.frame(SHIFT).format(who=who, o=draw.word(thing), p=place))
        for who, thing, place in zip(people, things, where, strict=True)
    ]
    asked, by_whom = draw.below(count), draw.chance(0.4)
    questions = frames(SHIFT_QUESTIONS[draw.part, draw.language][by_whom])
    question = draw.phrase(questions).format(o=draw.word(things[asked]))
    return draw.text(sentences), question, (people if by_whom else where)[asked]

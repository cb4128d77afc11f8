"""One invented world in two languages: people, towns, companies, animals and products.

An entity is a pure function of its kind, part and index. Names are composed of syllables that each
have a Chinese character; the pairs of syllables that begin names are divided between `train` and
`test`, so no name is in both. Facts refer to entities of the same part and a lower index, so that
the first n entities of each kind are a closed world.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

from llmpred.data.seeds import below, generator, permutation

WORLD = 1  # the seed of everything in it
MOST = 1000  # entities of a kind and part
FEWEST = 8
LANGUAGES = ("en", "zh")
PARTS = ("train", "test")

Words = dict[str, str]  # language -> words


def pairs(text: str) -> tuple[Words, ...]:
    """Return English and Chinese words from `english=中文, …`."""
    halves = (pair.strip().split("=") for pair in text.split(","))
    return tuple({"en": english, "zh": chinese} for english, chinese in halves)


# A consonant begins each syllable, so a name falls into syllables in one way only.
SYLLABLES = pairs(
    "ba=巴, be=贝, bo=波, da=达, de=德, do=多, fa=法, fe=菲, go=戈, ka=卡, ke=克, ko=科, la=拉, "
    "le=勒, li=利, lo=洛, lu=卢, ma=玛, me=梅, mi=米, mo=莫, na=娜, ne=内, ni=尼, no=诺, pa=帕, "
    "pe=佩, po=坡, re=雷, ri=里, ro=罗, ru=鲁, sa=萨, se=塞, si=西, so=索, su=苏, ta=塔, te=特, "
    "ti=提, to=托, va=瓦, ve=维, vo=沃, ya=雅, yo=约, za=扎, zo=佐, ban=班, dan=丹, fen=芬, "
    "gan=甘, kin=金, lan=兰, len=伦, man=曼, mon=蒙, nan=楠, pan=潘, ren=仁, san=桑, tan=坦, "
    "tin=廷, wen=温"
)

# What follows the first two syllables of a name; of a person, one more syllable.
ENDINGS = {
    "town": pairs("ton=镇, ford=渡, dale=谷, port=港, burg=堡, mere=湖"),
    "company": pairs("Works=工厂, Mills=磨坊, Foods=食品, Motors=车行, Press=书局, Bank=银行"),
    "animal": pairs("fox=狐, bird=鸟, fish=鱼, frog=蛙, deer=鹿, bear=熊"),
    "product": pairs("lamp=灯, clock=钟, kettle=壶, radio=收音机, chair=椅, pen=笔"),
}
KINDS: dict[str, Words] = {
    "person": {"en": "person", "zh": "人"},
    "town": {"en": "town", "zh": "城镇"},
    "company": {"en": "company", "zh": "公司"},
    "animal": {"en": "animal", "zh": "动物"},
    "product": {"en": "product", "zh": "产品"},
}
WORDS = {
    "trade": pairs(
        "baker=面包师, teacher=教师, sailor=水手, painter=画家, doctor=医生, farmer=农夫, "
        "tailor=裁缝, miner=矿工, singer=歌手, gardener=园丁, driver=司机, weaver=织工"
    ),
    "hobby": pairs(
        "chess=下棋, swimming=游泳, fishing=钓鱼, dancing=跳舞, poetry=写诗, cooking=做饭, "
        "running=跑步, music=听音乐"
    ),
    "region": pairs(
        "north=北部, south=南部, east=东部, west=西部, hills=山区, valley=河谷, plain=平原, "
        "coast=海边"
    ),
    "goods": pairs(
        "cheese=奶酪, salt=食盐, wool=羊毛, glass=玻璃, paper=纸张, honey=蜂蜜, tea=茶叶, "
        "silk=丝绸, wine=葡萄酒, soap=肥皂, coal=煤炭, bread=面包"
    ),
    "colour": pairs(
        "red=红色, blue=蓝色, green=绿色, yellow=黄色, black=黑色, white=白色, brown=棕色, "
        "grey=灰色, pink=粉色, purple=紫色"
    ),
    "diet": pairs(
        "seeds=种子, fish=小鱼, leaves=树叶, insects=昆虫, fruit=水果, grass=青草, roots=树根, "
        "snails=蜗牛"
    ),
    "habitat": pairs(
        "forests=森林, rivers=河流, caves=山洞, meadows=草地, deserts=沙漠, marshes=沼泽, "
        "mountains=高山, lakes=湖泊"
    ),
    "material": pairs(
        "oak=橡木, brass=黄铜, steel=钢铁, clay=陶土, stone=石头, bamboo=竹子, leather=皮革, "
        "silver=白银"
    ),
}


class Quantity(NamedTuple):
    """A kind of number: first value, step, how many values, and how a value is written."""

    first: int
    step: int
    size: int
    words: Words


YEAR: Words = {"en": "{}", "zh": "{}年"}
QUANTITIES = {
    "born": Quantity(1900, 1, 90, YEAR),
    "founded": Quantity(1200, 1, 700, YEAR),
    "year": Quantity(1950, 1, 70, YEAR),
    "population": Quantity(300, 100, 90, {"en": "{} people", "zh": "{}人"}),
    "workers": Quantity(20, 10, 90, {"en": "{} workers", "zh": "{}名工人"}),
    "weight": Quantity(2, 1, 90, {"en": "{} kilos", "zh": "{}公斤"}),
    "price": Quantity(5, 5, 90, {"en": "{} crowns", "zh": "{}克朗"}),
}
# Attributes that name another entity, of this kind.
REFERENCES = {
    "town": "town",
    "employer": "company",
    "mayor": "person",
    "head": "person",
    "maker": "company",
}
ATTRIBUTES = {
    "person": ("born", "town", "trade", "employer", "hobby"),
    "town": ("founded", "population", "region", "goods", "mayor"),
    "company": ("founded", "town", "goods", "workers", "head"),
    "animal": ("colour", "diet", "habitat", "weight"),
    "product": ("price", "colour", "maker", "material", "year"),
}
NUMBERS = {
    kind: tuple(attribute for attribute in attributes if attribute in QUANTITIES)
    for kind, attributes in ATTRIBUTES.items()
}
NOUNS: dict[str, Words] = {
    "born": {"en": "birth year", "zh": "出生年份"},
    "founded": {"en": "founding year", "zh": "建立年份"},
    "year": {"en": "launch year", "zh": "上市年份"},
    "population": {"en": "population", "zh": "人口"},
    "workers": {"en": "staff", "zh": "工人人数"},
    "weight": {"en": "weight", "zh": "体重"},
    "price": {"en": "price", "zh": "价格"},
    "trade": {"en": "trade", "zh": "职业"},
    "hobby": {"en": "hobby", "zh": "爱好"},
    "region": {"en": "region", "zh": "地区"},
    "goods": {"en": "main product", "zh": "主要产品"},
    "colour": {"en": "colour", "zh": "颜色"},
    "diet": {"en": "food", "zh": "食物"},
    "habitat": {"en": "habitat", "zh": "栖息地"},
    "material": {"en": "material", "zh": "材料"},
    "town": {"en": "home town", "zh": "所在城镇"},
    "employer": {"en": "employer", "zh": "雇主"},
    "mayor": {"en": "mayor", "zh": "镇长"},
    "head": {"en": "director", "zh": "经理"},
    "maker": {"en": "maker", "zh": "制造商"},
}


class Fact(NamedTuple):
    """The value of an attribute.

    Attributes:
        words: the value as it stands in a sentence.
        number: of a quantity, else 0.
        other: kind and index of the entity that it names, if it names one.
    """

    words: Words
    number: int = 0
    other: tuple[str, int] | None = None


@dataclass(frozen=True, eq=False)
class Entity:
    """Somebody or something of the world.

    Attributes:
        kind: a key of KINDS.
        name: proper name.
        subject: the name as it stands in a sentence, with its article.
        pronoun: that takes its place at the head of the next sentence.
        ending: the last word of its name, which tells its sort.
        facts: attribute -> value.
    """

    kind: str
    name: Words
    subject: Words
    pronoun: Words
    ending: Words
    facts: dict[str, Fact]


@functools.cache
def stems(kind: str, part: str) -> list[tuple[int, int]]:
    """Return the pairs of syllables that begin the names of a kind and part, in random order."""
    size = len(SYLLABLES)
    test = part == "test"
    pool = [(a, b) for a in range(size) for b in range(size) if ((a + b) % 4 == 3) == test]
    return [pool[i] for i in permutation(generator("stems", WORLD, kind, part), len(pool))]


@functools.cache
def name(kind: str, part: str, index: int) -> tuple[Words, Words]:
    """Return an entity's name, and the ending of it."""
    rng = generator("name", WORLD, kind, part, index)
    first, second = (SYLLABLES[i] for i in stems(kind, part)[index])
    if kind == "person":
        last = SYLLABLES[below(rng, len(SYLLABLES))]
        ending = {**last, "en": last["en"].capitalize()}
    else:
        ending = ENDINGS[kind][below(rng, len(ENDINGS[kind]))]
    stem = first["en"] + second["en"]
    stem = stem if kind == "animal" else stem.capitalize()
    space = "" if kind == "town" else " "
    full = {"en": stem + space + ending["en"], "zh": first["zh"] + second["zh"] + ending["zh"]}
    return full, ending


@functools.cache
def entity(kind: str, part: str, index: int) -> Entity:
    """Return an entity with its facts."""
    rng = generator("facts", WORLD, kind, part, index)
    facts = {}
    for attribute in ATTRIBUTES[kind]:
        if attribute in QUANTITIES:
            first, step, size, words = QUANTITIES[attribute]
            number = first + step * below(rng, size)
            fact = Fact({tongue: words[tongue].format(number) for tongue in LANGUAGES}, number)
        elif attribute in REFERENCES:
            other = (REFERENCES[attribute], below(rng, max(index, FEWEST)))
            fact = Fact(name(other[0], part, other[1])[0], other=other)
        else:
            fact = Fact(WORDS[attribute][below(rng, len(WORDS[attribute]))])
        facts[attribute] = fact
    full, ending = name(kind, part, index)
    article = "the " if kind in ("animal", "product") else ""
    pronoun = {"en": "it", "zh": "它"}
    if kind == "person":
        pronoun = ({"en": "she", "zh": "她"}, {"en": "he", "zh": "他"})[below(rng, 2)]
    return Entity(kind, full, {**full, "en": article + full["en"]}, pronoun, ending, facts)

"""Prompts after which a number is due, or a word: `text`, `value`, `next`, `set`.

In two rows of three a number is due (`value`), in the others a word, after the same statements;
`next` is what follows the number, or the text. A set is `basic` (a stated quantity again), `qa`
(half of the answers stated, half reckoned), `extreme` (very large and very small), `boundary` (0,
1, -1, 100 and limits of machines), `units` (in another unit) and, in part `test` alone,
`magnitudes`, larger and smaller than any in part `train`, and `phrasings`.

Part `test` tells of other things, people and quantities in the words of part `train`, so that each
of its sets asks one thing; `phrasings` alone says all that the others do in words never met.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from llmpred.data.synthetic.draw import Draw, capital
from llmpred.data.synthetic.statements import frames
from llmpred.data.synthetic.world import KINDS, Words, pairs

SETS = {
    "train": ("basic", "qa", "extreme", "boundary", "units"),
    "test": ("basic", "qa", "extreme", "boundary", "units", "magnitudes", "phrasings"),
}
TURNS = ("stated", "follows", "word")  # a third of the rows of a set each
CUT = "~"  # where a prompt ends

# --- what is measured --------------------------------------------------------------------------

LARGE, SMALL = range(5, 12), range(-6, -3)
BEYOND = {LARGE: range(13, 18), SMALL: range(-9, -7)}  # the powers of ten of `magnitudes`


class Topic(NamedTuple):
    """What can be measured of some things.

    Attributes:
        things: a kind of the world, or a key of THINGS.
        noun, unit: of the quantity.
        more, less: how things compare by it.
        powers: of ten, of the first digit.
        signed: whether it can be negative.
        whole: whether it counts something.
    """

    things: str
    noun: Words
    unit: Words
    more: Words
    less: Words
    powers: range
    signed: bool = False
    whole: bool = False


def _topic(things: str, words: str, powers: range = range(0), **how: bool) -> Topic:
    """Return a topic whose noun, unit, more and less stand in `english=中文, …`."""
    noun, unit, more, less = pairs(words)
    return Topic(things, noun, unit, more, less, powers, **how)


TOPICS = {
    "weight": _topic("wares", "weight=重量, kg=公斤, heavier=重, lighter=轻", range(-1, 4)),
    "length": _topic("lines", "length=长度, m=米, longer=长, shorter=短", range(-1, 4)),
    "capacity": _topic("vessels", "capacity=容量, litres=升, bigger=大, smaller=小", range(-1, 4)),
    "duration": _topic("events", "duration=时长, min=分钟, longer=长, shorter=短", range(3)),
    "price": _topic(
        "product", "price=价格, crowns=克朗, more expensive=贵, cheaper=便宜", range(5)
    ),
    "population": _topic(
        "town", "population=人口, people=人, bigger=大, smaller=小", range(2, 6), whole=True
    ),
    "speed": _topic("animal", "speed=速度, m/s=米每秒, faster=快, slower=慢", range(-1, 2)),
    "temperature": _topic(
        "samples", "temperature=温度, °C=度, warmer=热, colder=冷", range(2), signed=True
    ),
    "balance": _topic(
        "person", "balance=余额, crowns=克朗, richer=富, poorer=穷", range(5), signed=True
    ),
    "mass": _topic("rocks", "mass=质量, kg=公斤, heavier=重, lighter=轻", LARGE),
    "distance": _topic("stars", "distance=距离, km=公里, farther=远, nearer=近", LARGE),
    "size": _topic("files", "size=大小, bytes=字节, bigger=大, smaller=小", LARGE, whole=True),
    "energy": _topic("storms", "energy=能量, J=焦耳, stronger=强, weaker=弱", LARGE),
    "fortune": _topic(
        "company", "balance=余额, crowns=克朗, richer=富, poorer=穷", LARGE, signed=True
    ),
    "grain": _topic("grains", "mass=质量, kg=公斤, heavier=重, lighter=轻", SMALL),
    "thickness": _topic("layers", "thickness=厚度, m=米, thicker=厚, thinner=薄", SMALL),
    "pulse": _topic("pulses", "duration=时长, s=秒, longer=长, shorter=短", SMALL),
    "deviation": _topic("clocks", "deviation=偏差, s=秒, faster=快, slower=慢", SMALL, signed=True),
    "reading": _topic("meters", "reading=读数, =, higher=高, lower=低"),
    "content": _topic("registers", "value=数值, =, higher=高, lower=低"),
    "stock": _topic("stalls", "stock=库存, pieces=个, bigger=大, smaller=小", range(3), whole=True),
    "area": _topic("fields", "area=面积, m²=平方米, bigger=大, smaller=小", range(-1, 3)),
}
BASIC = tuple(TOPICS)[:9]
SUMMABLE = BASIC[:5]
EXTREME = tuple(name for name, topic in TOPICS.items() if topic.powers in BEYOND)
THINGS = {
    "train": {
        "wares": pairs("box=箱子, barrel=木桶, sack=麻袋, table=桌子, anchor=船锚, cart=推车"),
        "lines": pairs("rope=绳子, fence=篱笆, tunnel=隧道, bridge=桥梁, pipe=管道, rail=铁轨"),
        "vessels": pairs("tank=水箱, jar=罐子, pot=锅子, bowl=木碗, pool=水池, drum=油桶"),
        "events": pairs("trip=旅行, course=课程, show=演出, repair=维修, trial=试验, walk=散步"),
        "samples": pairs("sample=样品, mixture=混合物, plate=铁板, rod=金属棒, gas=气体, wax=蜡块"),
        "rocks": pairs("mountain=山体, boulder=巨石, iceberg=冰山, dam=大坝, cliff=悬崖"),
        "stars": pairs("comet=彗星, probe=探测器, satellite=卫星, red star=红星, beacon=信标"),
        "files": pairs("file=文件, archive=压缩包, video=视频, backup=备份, folder=文件夹"),
        "storms": pairs("storm=风暴, blast=爆炸, flare=耀斑, wave=海浪, engine=发动机"),
        "grains": pairs("seed=种子, crumb=碎屑, snowflake=雪花, hair=毛发, ant=蚂蚁"),
        "layers": pairs("film=薄膜, foil=箔片, coating=涂层, glass fibre=玻璃丝, skin=表皮"),
        "pulses": pairs("pulse=脉冲, flash=闪光, click=咔嗒声, shock=电击, blink=眨眼"),
        "clocks": pairs("tower clock=塔钟, ship clock=船钟, wall clock=挂钟, pocket watch=怀表"),
        "meters": pairs("meter=仪表, sensor=传感器, dial=表盘, scanner=扫描仪, pump=水泵"),
        "registers": pairs("register=寄存器, counter=计数器, cell=单元格, buffer=缓冲区"),
        "stalls": pairs("kiosk=报亭, market stall=货摊, bakery=面包房, cellar=地窖"),
        "fields": pairs("field=田地, meadow=草地, forest=森林, vineyard=葡萄园"),
    },
    "test": {
        "wares": pairs(
            "suitcase=行李, parcel=包裹, bicycle=单车, stove=炉子, bench=长凳, bell=铜钟"
        ),
        "lines": pairs("cable=电缆, wall=围墙, canal=水渠, corridor=走廊, hose=软管, trail=小径"),
        "vessels": pairs("vat=大缸, flask=烧瓶, bucket=提桶, basin=脸盆, jug=陶罐, cistern=蓄水槽"),
        "events": pairs(
            "lecture=讲座, match=比赛, flight=飞行, drill=演练, search=搜寻, feast=宴会"
        ),
        "samples": pairs("liquid=液体, powder=粉末, brick=砖块, coin=硬币, resin=树脂, broth=肉汤"),
        "rocks": pairs("glacier=冰川, hill=山丘, island=小岛, pyramid=金字塔, reef=礁石"),
        "stars": pairs(
            "asteroid=小行星, spacecraft=飞船, blue star=蓝星, nebula=星云, galaxy=星系"
        ),
        "files": pairs("image=镜像, database=数据库, log=日志, recording=录音, library=资料库"),
        "storms": pairs("quake=地震, hurricane=飓风, eruption=喷发, rocket=火箭, avalanche=雪崩"),
        "grains": pairs("sand grain=砂粒, petal=花瓣, droplet=液滴, flea=跳蚤, feather=羽毛"),
        "layers": pairs("membrane=隔膜, varnish=漆层, thread=细线, scratch=划痕, leaf=叶片"),
        "pulses": pairs("echo=回声, burst=猝发信号, twitch=抽动, beep=提示音, tremor=微震"),
        "clocks": pairs("station clock=站钟, desk clock=座钟, church clock=教堂钟, stopwatch=秒表"),
        "meters": pairs("gauge=量表, detector=探头, display=显示屏, tracker=跟踪器, scale=磅秤"),
        "registers": pairs("slot=槽位, variable=变量, memory=内存, index=索引"),
        "stalls": pairs("warehouse=仓库, pharmacy=药房, canteen=食堂, attic=阁楼"),
        "fields": pairs("garden=花园, park=公园, orchard=果园, marsh=沼泽地"),
    },
}
FAMILIES = {
    "basic": BASIC,
    "qa": BASIC,
    "extreme": EXTREME,
    "boundary": ("reading", "content"),
    "magnitudes": EXTREME,
}
WHOLE_LIMITS = (0, 1, -1, 100, 127, 255, 1024, 32767, -32768, 65535, 2147483647, -2147483648)
LIMITS = {
    "train": (*map(Decimal, WHOLE_LIMITS), *map(Decimal, ("-273.15", "0.001", "0.000001"))),
    "test": (*map(Decimal, WHOLE_LIMITS), *map(Decimal, ("-273.15", "0.0001", "0.000000001"))),
}


class Conversion(NamedTuple):
    """How many of the smaller unit are one of the larger."""

    topic: str
    larger: Words
    smaller: Words
    factor: int


def _conversions(language: str, table: str) -> list[Conversion]:
    """Return the conversions in `topic larger smaller factor, …`."""
    rows = (row.split() for row in table.split(","))
    return [Conversion(t, {language: a}, {language: b}, int(f)) for t, a, b, f in rows]


CONVERSIONS = {
    "en": _conversions(
        "en",
        "length km m 1000, length m cm 100, length cm mm 10, length feet inches 12, "
        "weight kg g 1000, weight t kg 1000, weight pounds ounces 16, duration h min 60, "
        "duration min s 60, duration days h 24, duration weeks days 7, capacity litres ml 1000, "
        "area hectares m² 10000, stock dozen pieces 12, temperature °C °C 1",
    ),
    "zh": _conversions(
        "zh",
        "length 公里 米 1000, length 米 厘米 100, length 厘米 毫米 10, length 里 米 500, "
        "length 丈 尺 10, weight 公斤 克 1000, weight 吨 公斤 1000, weight 公斤 斤 2, "
        "weight 斤 克 500, duration 小时 分钟 60, duration 分钟 秒 60, duration 天 小时 24, "
        "capacity 升 毫升 1000, area 公顷 平方米 10000, area 公顷 亩 15, stock 打 个 12, "
        "temperature 摄氏度 摄氏度 1",
    ),
}

NAMES = {  # of units, where no number is before them
    "km": "kilometres",
    "m": "metres",
    "cm": "centimetres",
    "mm": "millimetres",
    "m²": "square metres",
    "m/s": "metres per second",
    "t": "tonnes",
    "kg": "kilograms",
    "g": "grams",
    "ml": "millilitres",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "J": "joules",
    "dozen": "dozens",
    "°C": "degrees Celsius",
    "个": "个数",
}

# --- how it is said ----------------------------------------------------------------------------
# {x} is a thing, {n} the noun, {q} the quantity. A prompt is cut before what is due.

SAY = {
    ("train", "en"): {
        "weight": "{x} weighs {q}",
        "length": "{x} is {q} long",
        "capacity": "{x} holds {q}",
        "duration": "{x} lasts {q}",
        "price": "{x} costs {q}",
        "population": "{x} has {q}",
        "speed": "{x} moves at {q}",
        "temperature": "{x} is at {q}",
        "balance": "the account of {x} shows {q}",
        "mass": "{x} weighs {q}",
        "distance": "{x} is {q} away",
        "size": "{x} takes up {q}",
        "energy": "{x} releases {q}",
        "fortune": "the books of {x} end at {q}",
        "grain": "{x} weighs {q}",
        "thickness": "{x} is {q} thick",
        "pulse": "{x} lasts {q}",
        "deviation": "{x} is off by {q}",
        "reading": "{x} reads {q}",
        "content": "{x} holds {q}",
        "stock": "{x} has {q} left",
        "area": "{x} covers {q}",
        "any": "the {n} of {x} is {q} | we found the {n} of {x} to be {q}",
    },
    ("test", "en"): {
        "weight": "{x} tips the scales at {q}",
        "length": "{x} stretches over {q}",
        "capacity": "{x} has room for {q}",
        "duration": "{x} goes on for {q}",
        "price": "{x} sells at {q}",
        "population": "{x} is home to {q}",
        "speed": "{x} reaches {q}",
        "temperature": "{x} was found at {q}",
        "balance": "the bank lists {x} with {q}",
        "mass": "scientists put {x} at {q}",
        "distance": "the way to {x} is {q}",
        "size": "{x} needs {q}",
        "energy": "{x} sets free {q}",
        "fortune": "{x} closed the year with {q}",
        "grain": "a balance puts {x} at {q}",
        "thickness": "{x} measures {q} across",
        "pulse": "{x} is over after {q}",
        "deviation": "{x} has drifted by {q}",
        "reading": "{x} shows {q}",
        "content": "{x} stores {q}",
        "stock": "{x} still keeps {q}",
        "area": "{x} extends over {q}",
        "any": "records put the {n} of {x} at {q} | {x} has a recorded {n} of {q}",
    },
    ("train", "zh"): {
        "weight": "{x}重{q}",
        "length": "{x}长{q}",
        "capacity": "{x}能装{q}",
        "duration": "{x}持续{q}",
        "price": "{x}卖{q}",
        "population": "{x}有{q}",
        "speed": "{x}能跑到{q}",
        "temperature": "{x}现在是{q}",
        "balance": "{x}的账上是{q}",
        "mass": "{x}重{q}",
        "distance": "{x}离我们{q}",
        "size": "{x}占{q}",
        "energy": "{x}放出{q}",
        "fortune": "{x}的账上是{q}",
        "grain": "{x}重{q}",
        "thickness": "{x}厚{q}",
        "pulse": "{x}持续{q}",
        "deviation": "{x}走偏了{q}",
        "reading": "{x}显示{q}",
        "content": "{x}里存着{q}",
        "stock": "{x}还有{q}",
        "area": "{x}占地{q}",
        "any": "{x}的{n}是{q} | {x}的{n}等于{q}",
    },
    ("test", "zh"): {
        "weight": "{x}称得{q}",
        "length": "{x}全长{q}",
        "capacity": "{x}可容{q}",
        "duration": "{x}历时{q}",
        "price": "{x}标价{q}",
        "population": "{x}住着{q}",
        "speed": "{x}最快可达{q}",
        "temperature": "{x}测得{q}",
        "balance": "{x}户头上为{q}",
        "mass": "估计{x}有{q}",
        "distance": "到{x}相距{q}",
        "size": "{x}需要{q}",
        "energy": "{x}释放了{q}",
        "fortune": "{x}年终结余{q}",
        "grain": "{x}称得{q}",
        "thickness": "{x}厚度达{q}",
        "pulse": "{x}历时{q}",
        "deviation": "{x}误差为{q}",
        "reading": "{x}指着{q}",
        "content": "{x}中写有{q}",
        "stock": "{x}尚存{q}",
        "area": "{x}方圆{q}",
        "any": "{x}的{n}为{q} | {x}的{n}记作{q}",
    },
}
JOIN = {
    ("train", "en"): "{one} and {two} | {one}, and {two}",
    ("test", "en"): "{one} while {two} | {one}; {two}",
    ("train", "zh"): "{one}，{two}",
    ("test", "zh"): "{one}，而{two} | {one}；{two}",
}
SO = {
    ("train", "en"): "so {s} | that is, {s} | to sum up, {s} | in short, {s}",
    ("test", "en"): "hence {s} | in brief, {s} | it follows that {s} | all in all, {s}",
    ("train", "zh"): "所以{s} | 也就是说，{s} | 总之，{s}",
    ("test", "zh"): "可见{s} | 简言之，{s} | 由此可知，{s}",
}
NOTED = {
    ("train", "en"): "{who} noted it | {who} wrote this down",
    ("test", "en"): "{who} kept the record | the figures are from {who}",
    ("train", "zh"): "这是{who}记下的 | {who}写下了这些",
    ("test", "zh"): "记录人是{who} | {who}做了记录",
}
# Where a word is due: {a} and {b} are compared, and {w} of them wins.
WORD = {
    "which": {
        ("train", "en"): "of {a} and {b}, the {c} one is ~{w} | "
        "the {c} one, if you compare {a} and {b}, is ~{w}",
        ("test", "en"): "between {a} and {b}, the {c} is ~{w} | "
        "put {a} beside {b}, and the {c} will be ~{w}",
        ("train", "zh"): "{a}和{b}当中，更{c}的是~{w} | 比较{a}和{b}，更{c}的是~{w}",
        ("test", "zh"): "{a}与{b}相比，较{c}的为~{w} | 若论{a}与{b}，较{c}者为~{w}",
    },
    "inverse": {
        ("train", "en"): "{q} is the {n} of ~{x} | the {n} of {q} is that of ~{x}",
        ("test", "en"): "the {n} of {q} belongs to ~{x} | the one listed at {q} is ~{x}",
        ("train", "zh"): "{n}是{q}的是~{x} | {n}等于{q}的是~{x}",
        ("test", "zh"): "{n}为{q}者，乃~{x} | {q}这个{n}属于~{x}",
    },
    "who": {
        ("train", "en"): "the one who noted it is ~{who} | it was written down by ~{who}",
        ("test", "en"): "the record was kept by ~{who} | the source of the figures is ~{who}",
        ("train", "zh"): "记下这些的人是~{who} | 写下这些的是~{who}",
        ("test", "zh"): "做记录的人叫~{who} | 负责记录的为~{who}",
    },
    "measured": {
        ("train", "en"): "the {n} of {x} is given in ~{u} | the unit here for {n} is called ~{u}",
        ("test", "en"): "the {n} of {x} has been recorded in ~{u} | "
        "as a unit for {n}, the record uses ~{u}",
        ("train", "zh"): "{x}的{n}用的单位是~{u} | 这里{n}的单位叫~{u}",
        ("test", "zh"): "{x}的{n}，计量单位为~{u} | 此处{n}所用单位为~{u}",
    },
}
CONVERT = {
    ("train", "en"): "in {u}, the {n} of {x} is {q} | converted to {u}, the {n} of {x} is {q}",
    ("test", "en"): "expressed in {u}, {x} has a recorded {n} of {q} | "
    "given in {u}, the {n} for {x} comes to {q}",
    ("train", "zh"): "换算成{u}，{x}的{n}是{q} | 用{u}来算，{x}的{n}是{q}",
    ("test", "zh"): "折合成{u}，{x}的{n}为{q} | 若以{u}计，{x}为{q}",
}
FORMS = {
    ("train", "en"): "{t}\nQuestion: {q}\nAnswer: | {t} {q} The answer is",
    ("test", "en"): "{t}\nQ: {q}\nA: | {q} {t} Reply:",
    ("train", "zh"): "{t}\n问题：{q}\n答案： | {t}{q}答案是",
    ("test", "zh"): "{t}\n问：{q}\n答： | {q}{t}回答：",
}
ASK = {
    "stated": {
        ("train", "en"): "What is the {n} of {x}? | Can you tell the {n} of {x}?",
        ("test", "en"): "Which {n} does {x} have? | {x} has what {n}?",
        ("train", "zh"): "{x}的{n}是多少？ | 你知道{x}的{n}吗？",
        ("test", "zh"): "请问{x}的{n}为多少？ | {x}有怎样的{n}？",
    },
    "sum": {
        ("train", "en"): "What is the {n} of {a} and {b} together? | "
        "What is the sum of the {n} of {a} and that of {b}?",
        ("test", "en"): "Adding {a} to {b}, which total {n} do we get? | "
        "Both {a} and {b} counted, which {n} results?",
        ("train", "zh"): "{a}和{b}的{n}加起来是多少？ | {a}的{n}加上{b}的{n}是多少？",
        ("test", "zh"): "{a}连同{b}，总{n}为多少？ | 请问{a}与{b}的{n}合计多少？",
    },
    "difference": {
        ("train", "en"): "How much {c} is {w} than {l}? | By how much is {w} {c} than {l}?",
        ("test", "en"): "{w} is {c} than {l}. By what margin? | "
        "The gap in {n} from {l} to {w} is how big?",
        ("train", "zh"): "{w}比{l}{c}多少？ | 和{l}比，{w}{c}多少？",
        ("test", "zh"): "{w}较{l}{c}，相差多少？ | {l}不如{w}{c}，差距为多少？",
    },
    "product": {
        ("train", "en"): "What is {k} times the {n} of {x}? | "
        "Multiply the {n} of {x} by {k}. What is it?",
        ("test", "en"): "With {k} copies of {x}, which total {n} results? | "
        "Put {k} copies of {x} together: which total {n} is that?",
        ("train", "zh"): "{x}的{n}的{k}倍是多少？ | {x}的{n}乘以{k}是多少？",
        ("test", "zh"): "{k}个同样的{x}，总{n}为多少？ | 请问{x}的{n}乘上{k}后为多少？",
    },
    "double": {
        ("train", "en"): "What is twice the {n} of {x}? | What is double the {n} of {x}?",
        ("test", "en"): "If the {n} of {x} doubled, what would result? | "
        "Doubling {x}, which {n} do we get?",
        ("train", "zh"): "{x}的{n}翻倍是多少？ | 把{x}的{n}加倍，是多少？",
        ("test", "zh"): "若{x}的{n}翻番，将为多少？ | 请问{x}的{n}的双倍为多少？",
    },
    "half": {
        ("train", "en"): "What is half the {n} of {x}? | Half of the {n} of {x} is what?",
        ("test", "en"): "If the {n} of {x} were halved, what would remain? | "
        "Halving {x}, which {n} do we get?",
        ("train", "zh"): "{x}的{n}的一半是多少？ | 把{x}的{n}平分，每份是多少？",
        ("test", "zh"): "若{x}的{n}减半，将为多少？ | {x}的{n}对半分后为多少？",
    },
    "which": {
        ("train", "en"): "Which one is {c}, {a} or {b}? | Is it {a} or {b} that is {c}?",
        ("test", "en"): "{a} or {b}: which of them is the {c}? | "
        "Take {a} and {b}; name the {c} of them.",
        ("train", "zh"): "{a}和{b}，哪个更{c}？ | 更{c}的是{a}还是{b}？",
        ("test", "zh"): "请问{a}与{b}，何者较{c}？ | 较{c}者为{a}抑或{b}？",
    },
    "yes": {
        ("train", "en"): "Is {a} {c} than {b}? | Would you say that {a} is {c} than {b}?",
        ("test", "en"): "True or not: {a} is {c} than {b}? | Does {a} count as {c} than {b}?",
        ("train", "zh"): "{a}比{b}更{c}吗？ | {a}是不是比{b}{c}？",
        ("test", "zh"): "请判断：{a}是否较{b}更{c}？ | 说{a}较{b}更{c}，对吗？",
    },
    "who": {
        ("train", "en"): "Who noted it? | Who wrote it down?",
        ("test", "en"): "Who is the source? | Whose figures are they?",
        ("train", "zh"): "这是谁记下的？ | 谁写下了这些？",
        ("test", "zh"): "请问记录人叫什么？ | 何人做了记录？",
    },
    "measured": {
        ("train", "en"): "In which unit is the {n} of {x} given? | What is the unit of the {n}?",
        ("test", "en"): "The {n} of {x} comes with which unit? | Which unit follows the {n}?",
        ("train", "zh"): "{x}的{n}用什么单位？ | 这里{n}的单位叫什么？",
        ("test", "zh"): "请问{x}的{n}以何单位计？ | {n}后面跟着何种单位？",
    },
}
VERDICT = {"en": ("no", "yes"), "zh": ("不是", "是的")}
# From which a limit follows: {a} is any number, {b} one less than the limit, {c} one more.
PUZZLES: dict[int | None, dict[tuple[str, str], str]] = {
    0: {
        ("train", "en"): "{a} minus {a} is | one less than 1 is | the sum of {a} and -{a} is | "
        "{who} had {a} crowns and spent {a} crowns, so the crowns left are",
        ("test", "en"): "take {a} from {a}, and what remains is | {a} times 0 makes | "
        "{a} people came to {who} and {a} left, so those still there number",
        ("train", "zh"): "{a}减{a}等于 | 比1少1的数是 | {a}加上负{a}等于 | "
        "{who}有{a}克朗，花掉了{a}克朗，剩下的克朗数是",
        ("test", "zh"): "从{a}中去掉{a}，剩余 | {a}乘以0，得 | "
        "{who}家来了{a}人，走了{a}人，还在的人数为",
    },
    1: {
        ("train", "en"): "{a} divided by {a} is | one more than 0 is",
        ("test", "en"): "the ratio of {a} to {a} comes to | half of 2 makes",
        ("train", "zh"): "{a}除以{a}等于 | 比0多1的数是",
        ("test", "zh"): "{a}与{a}之比，其值为 | 把2减半，得",
    },
    -1: {
        ("train", "en"): "one less than 0 is | {a} divided by -{a} is",
        ("test", "en"): "take 1 from 0, and what remains is | the ratio of -{a} to {a} comes to",
        ("train", "zh"): "比0少1的数是 | {a}除以负{a}，结果是",
        ("test", "zh"): "从0中去掉1，剩余 | 负{a}与{a}之比，其值为",
    },
    100: {
        ("train", "en"): "one more than 99 is | {a} of {a} as a percentage is",
        (
            "test",
            "en",
        ): "half of 200 makes | {who} finished {a} of {a} tasks, which in percent makes",
        ("train", "zh"): "比99多1的数是 | 全部{a}个占{a}个的百分比是",
        ("test", "zh"): "把200减半，得 | {who}完成了{a}项中的{a}项，完成率按百分数计为",
    },
    None: {
        ("train", "en"): "{b} plus 1 is | {c} minus 1 is | the whole number after {b} is",
        ("test", "en"): "count on from {b}, and next comes | take 1 from {c}, and what remains is",
        ("train", "zh"): "{b}加1，结果是 | {c}减1，结果是 | {b}后面的整数是",
        ("test", "zh"): "从{b}往上数，下个数为 | 从{c}中去掉1，剩余",
    },
}


# --- rows --------------------------------------------------------------------------------------


class Fact(NamedTuple):
    """A quantity of a thing; `written` is its value as the text has it."""

    topic: str
    x: str
    value: Decimal
    written: str
    unit: str


class Told(NamedTuple):
    """The facts of a row.

    Attributes:
        asked: what a closing or a question is about.
        rival: another of the same topic, if there is one.
        other: of another topic and unit, if there is one.
        converted: `asked` in another unit, if that is what is due.
    """

    asked: Fact
    rival: Fact | None = None
    other: Fact | None = None
    converted: Fact | None = None


def row(draw: Draw) -> dict[str, Any]:
    """Return `text`, `value` where a number is due, `next` and `set`; sets equally often."""
    names = SETS[draw.part]
    of, turn = names[draw.place % len(names)], TURNS[draw.place // len(names) % len(TURNS)]
    name = of
    if of == "phrasings":
        name = draw.pick(SETS["train"])
    else:
        draw = replace(draw, wording="train")
    told = _told(draw, name, turn)
    kind = draw.pick(_kinds(name, turn, told))
    slots = _slots(draw, told)
    text = _text(draw, told, slots["who"] if kind == "who" or draw.chance(0.25) else "")
    if name == "qa":
        question = capital(draw.frame(ASK[kind]).format(**slots))
        text = draw.frame(FORMS).format(t=text, q=question)
        value, after = _answer(draw, kind, told, slots)
        after += draw.sentence("")  # its full stop
    else:
        clause, value = _closing(draw, kind, told, slots)
        before, after = draw.sentence(clause).split(CUT)
        text, after = draw.text([text, before]).rstrip(), after.strip()
    due = {} if value is None else {"value": _json(value)}
    return {"text": text, **due, "next": after, "set": of}


def _kinds(name: str, turn: str, told: Told) -> tuple[str, ...]:
    """Return the ways that a row of a set can end."""
    if turn == "follows" and name == "qa":
        return ("product", "double", "half") + (("sum", "difference") if told.rival else ())
    if turn == "follows" and name == "boundary":
        return ("puzzle",)
    if turn != "word":
        return ("stated",)
    if name == "qa":
        return ("who", "measured") + (("which", "yes") if told.rival else ())
    units = ("unit", "measured") if told.asked.unit else ()
    return ("who", "inverse", *units) + (("which",) if told.rival else ())


# --- what is told ------------------------------------------------------------------------------


def _told(draw: Draw, name: str, turn: str) -> Told:
    """Draw one to three facts for a row of a set."""
    if name == "units":
        conversion = draw.pick(CONVERSIONS[draw.language])
        topic = conversion.topic
        value = _value(draw, name, topic)
        sides = [(value, conversion.larger), (value * conversion.factor, conversion.smaller)]
        [x] = _things(draw, topic, 1)
        asked, converted = (
            _fact(draw, topic, x, amount, draw.word(unit)) for amount, unit in draw.shuffled(sides)
        )
        told = Told(asked, converted=converted)
    else:
        topic = draw.pick(SUMMABLE if (name, turn) == ("qa", "follows") else FAMILIES[name])
        unit = draw.word(TOPICS[topic].unit)
        drawn = [_value(draw, name, topic) for _ in range(1 + draw.chance(0.6))]
        values = list(dict.fromkeys(drawn))  # equal ones are no rivals
        things = _things(draw, topic, len(values))
        facts = [
            _fact(draw, topic, x, value, unit) for x, value in zip(things, values, strict=True)
        ]
        told = Told(*facts)
    return told._replace(other=_other(draw, name, told.asked)) if draw.chance(0.4) else told


def _other(draw: Draw, name: str, asked: Fact) -> Fact:
    """Return a fact of another topic than the one asked for, and in another unit."""
    noun = TOPICS[asked.topic].noun
    others = [
        other
        for other in (EXTREME if asked.topic in EXTREME else BASIC)
        if TOPICS[other].noun != noun and draw.word(TOPICS[other].unit) != asked.unit
    ]
    topic = draw.pick(others)
    value = _value(draw, "basic" if name == "boundary" else name, topic)
    return _fact(draw, topic, _things(draw, topic, 1)[0], value, draw.word(TOPICS[topic].unit))


def _fact(draw: Draw, topic: str, x: str, value: Decimal, unit: str) -> Fact:
    return Fact(topic, x, value, draw.pick(_forms(value, draw.language)), unit)


def _things(draw: Draw, topic: str, count: int) -> list[str]:
    """Return different things of which a topic can be told."""
    things = TOPICS[topic].things
    if things in KINDS:
        return [draw.word(who.subject) for who in draw.several(things, count)]
    article = "the " if draw.language == "en" else ""
    return [article + draw.word(words) for words in draw.some(THINGS[draw.part][things], count)]


def _value(draw: Draw, name: str, topic: str) -> Decimal:
    """Draw a value of one to four digits; not 1, after which a unit would be singular."""
    if name == "boundary":
        return draw.pick(LIMITS[draw.part])
    of = TOPICS[topic]
    power = draw.pick(BEYOND[of.powers] if name == "magnitudes" else of.powers)
    digits = 1 + draw.below(min(4, power + 1) if of.whole else 4)
    first = 10 ** (digits - 1)
    value = Decimal(first + draw.below(9 * first)).scaleb(power + 1 - digits)
    if value == 1:
        return _value(draw, name, topic)
    return -value if of.signed and draw.chance(0.5) else value


def _text(draw: Draw, told: Told, who: str) -> str:
    """State the facts in random order, and who noted them."""
    facts = [fact for fact in (told.asked, told.rival, told.other) if fact]
    clauses = [_say(draw, fact) for fact in draw.shuffled(facts)]
    if len(clauses) > 1 and draw.chance(0.4):
        clauses[:2] = [draw.frame(JOIN).format(one=clauses[0], two=clauses[1])]
    if who:
        clauses.append(draw.frame(NOTED).format(who=who))
    return draw.text([draw.sentence(clause) for clause in clauses])


def _say(draw: Draw, fact: Fact) -> str:
    """State a fact as a clause."""
    table = draw.worded(SAY)
    frame = draw.phrase(frames(table[fact.topic]) + frames(table["any"]))
    noun = draw.word(TOPICS[fact.topic].noun)
    return frame.format(x=fact.x, n=noun, q=_quantity(draw, fact))


def _quantity(draw: Draw, fact: Fact) -> str:
    """Return a number and its unit."""
    space = " " if draw.language == "en" and fact.unit else ""
    return fact.written + space + fact.unit


# --- how it ends -------------------------------------------------------------------------------


def _slots(draw: Draw, told: Told) -> dict[str, str]:
    """Return what frames speak of."""
    topic = TOPICS[told.asked.topic]
    slots = {
        "x": told.asked.x,
        "n": draw.word(topic.noun),
        "q": _quantity(draw, told.asked),
        "u": NAMES.get(told.asked.unit, told.asked.unit),
        "k": str(3 + draw.below(10)),
        "who": draw.name(draw.one("person")),
    }
    if told.rival:
        pair = sorted((told.asked, told.rival), key=lambda fact: fact.value)
        first, second = draw.shuffled(pair)
        more = draw.chance(0.5)
        slots["c"] = draw.word(topic.more if more else topic.less)
        slots["a"], slots["b"] = first.x, second.x
        slots["w"], slots["l"] = pair[more].x, pair[not more].x
    return slots


def _closing(
    draw: Draw, kind: str, told: Told, slots: dict[str, str]
) -> tuple[str, Decimal | None]:
    """Return the last clause, with CUT where the prompt ends, and the number due there."""
    if kind == "puzzle":
        return _puzzle(draw, slots["who"])
    due = told.converted or told.asked
    if kind == "stated":
        clause = _state(draw, told, due._replace(written=CUT))
    elif kind == "unit":
        clause = _state(draw, told, due._replace(unit=CUT + due.unit))
    else:
        clause = draw.frame(WORD[kind]).format(**slots)
    return draw.frame(SO).format(s=clause), due.value if kind == "stated" else None


def _state(draw: Draw, told: Told, fact: Fact) -> str:
    """State what was told again, or what it is in another unit."""
    if not told.converted:
        return _say(draw, fact)
    noun = draw.word(TOPICS[fact.topic].noun)
    name = NAMES.get(told.converted.unit, told.converted.unit)
    return draw.frame(CONVERT).format(u=name, x=fact.x, n=noun, q=_quantity(draw, fact))


def _puzzle(draw: Draw, who: str) -> tuple[str, Decimal]:
    """Return a clause from which a limit follows."""
    limit = draw.pick(WHOLE_LIMITS)
    frame = draw.frame(PUZZLES.get(limit, PUZZLES[None]))
    # After a number and 。 a minus sign reads as the dash of a range.
    minus = "-" if draw.language == "en" else "负"
    before, after = (str(number).replace("-", minus) for number in (limit - 1, limit + 1))
    clause = frame.format(a=2 + draw.below(998), b=before, c=after, who=who)
    return f"{clause} {CUT}", Decimal(limit)


def _answer(draw: Draw, kind: str, told: Told, slots: dict[str, str]) -> tuple[Decimal | None, str]:
    """Return the number that answers a question and its unit, or no number and a word."""
    x, y = told.asked.value, told.rival.value if told.rival else Decimal(0)
    numbers = {
        "stated": x,
        "sum": x + y,
        "difference": abs(x - y),
        "product": x * int(slots["k"]),
        "double": x * 2,
        "half": x / 2,
    }
    if kind in numbers:
        return numbers[kind], told.asked.unit
    if kind == "yes":
        return None, VERDICT[draw.language][slots["a"] == slots["w"]]
    return None, slots[{"which": "w", "who": "who", "measured": "u"}[kind]]


# --- how numbers are written -------------------------------------------------------------------

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
DIGITS = "零一二三四五六七八九"
SCALES = {10**12: "万亿", 10**8: "亿", 10**4: "万"}


def _json(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _forms(value: Decimal, language: str) -> list[str]:
    """Return the ways of writing a value that are usual for its size."""
    value = value.normalize()
    size, few = abs(value), len(value.as_tuple().digits) <= 4
    forms = [f"{value:f}"]
    if size >= 1000:
        forms.append(f"{value:,f}")
    if few and size and not Decimal("1e-4") < size < 10**6:
        power = size.adjusted()
        mantissa = f"{value.scaleb(-power):f}"
        raised = str(power).translate(RAISED)
        forms += [f"{mantissa}e{power}", f"{mantissa}×10^{power}", f"{mantissa}×10{raised}"]
    if language == "zh" and few and 2 <= size < 10**16:
        forms += _chinese(value)
    return forms


def _chinese(value: Decimal) -> list[str]:
    """Return, as far as a value of at least 2 is written so, 1.5亿, 1亿5000万 and 一亿五千万."""
    size, sign, forms = abs(value), "-" if value < 0 else "", []
    if size >= 10**5:
        scale = next(scale for scale in SCALES if size >= scale)
        forms.append(f"{sign}{(size / scale).normalize():f}{SCALES[scale]}")
    high, low = divmod(int(size), 10**8)
    if 0 < high < 10**4 and low and low % 10**4 == 0:
        forms.append(f"{sign}{high}亿{low // 10**4}万")
    if size < 10**12:
        whole, point, decimals = f"{size:f}".partition(".")
        spoken = _numeral(int(whole)) + "点" * bool(point)
        spoken += "".join(DIGITS[int(digit)] for digit in decimals)
        spoken = re.sub("^一十", "十", re.sub("(?<![十零])二(?=[千万亿])", "两", spoken))
        forms.append("负" * bool(sign) + ("两" if spoken == "二" else spoken))
    return forms


def _numeral(n: int) -> str:
    """Return a whole number in Chinese numerals."""
    for scale, mark in ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十")):
        if n >= scale:
            high, low = divmod(n, scale)
            rest = ("零" if low < scale // 10 else "") + _numeral(low) if low else ""
            return _numeral(high) + mark + rest
    return DIGITS[n]

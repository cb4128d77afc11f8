"""Short news about one event, and its gist in a sentence.

A document tells an event among details and facts of those involved, which hold other names and
numbers; the summary takes what matters and says it in other words. Another domain is weather and
sport.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llmpred.data.synthetic.draw import Draw
from llmpred.data.synthetic.statements import DAYS, frames
from llmpred.data.synthetic.world import ATTRIBUTES, WORDS

# Details and side facts of a document.
LENGTHS = {"short": (1, 1), "normal": (2, 2), "long": (3, 5)}
SHIFTED = ("weather", "match")
DRIFT = {
    "en": ("TL;DR: {s}", "* {s} *", "In one sentence, the text says this: {s}", "{s} (end)"),
    "zh": ("概括：{s}", "* {s} *", "用一句话说，文章讲的是：{s}", "{s}（完）"),
}


class Event(NamedTuple):
    """How an event is told: its news, its gist, and three details; frames split by `|`."""

    news: str
    gist: str
    details: tuple[str, str, str]


EVENTS: dict[tuple[str, str], dict[str, Event]] = {
    ("train", "en"): {
        "opening": Event(
            "on {day} {company} opened a shop for {goods} in {town} | the people of {town} can now "
            "buy {goods} in a new shop that {company} opened",
            "{company} sells {goods} in {town}",
            ("{n} people stood in line", "{who} cut the ribbon", "it will open at {m} each day"),
        ),
        "storm": Event(
            "a storm came over {town} on {day} and broke {n} windows | {n} windows were broken on "
            "{day} when a storm passed {town}",
            "storm breaks {n} windows in {town}",
            ("{who} hid in a cellar", "{company} stayed shut", "rain fell for {m} hours"),
        ),
        "race": Event(
            "{who} won the race of {town} in {n} minutes | after {n} minutes {who} was first to "
            "finish the race of {town}",
            "{who} wins in {town}",
            ("{other} came second", "{company} paid for the prizes", "{m} runners gave up"),
        ),
        "strike": Event(
            "{n} workers of {company} stopped work on {day} because of low wages | wages at "
            "{company} are low, so {n} workers went on strike",
            "{n} workers strike at {company}",
            ("{who} spoke to them", "talks in {town} took {m} hours", "{other} sent bread"),
        ),
        "theft": Event(
            "a thief took the {product} from the house of {who} in {town} | {who} of {town} came "
            "home on {day} and found the {product} gone",
            "thief steals {product} from {who}",
            ("{other} heard a noise", "the door has {m} locks", "{company} offers a reward"),
        ),
        "job": Event(
            "{company} chose {who} as its new head on {day} | from {day} on, {who} will lead "
            "{company}",
            "{who} becomes head of {company}",
            ("{other} left after {m} years", "the office is in {town}", "{n} people had asked"),
        ),
        "weather": Event(
            "{day} will be wet in {town} with {n} degrees | expect rain and {n} degrees in {town}",
            "rain in {town}",
            ("the wind blows at {m} knots", "nights stay mild", "clouds come from the sea"),
        ),
        "match": Event(
            "{town} beat {place} by {n} goals | with {n} goals more, {town} left {place} behind",
            "{town} beats {place}",
            ("{who} scored twice", "the keeper was hurt", "{m} fans sang"),
        ),
    },
    ("test", "en"): {
        "opening": Event(
            "in {town}, {company} has started a store with {goods} since {day}",
            "{company} offers {goods} in {town}",
            ("the first {n} guests got a gift", "{who} gave a speech", "it has {m} rooms"),
        ),
        "storm": Event(
            "heavy winds in {town} destroyed {n} windows last {day}",
            "storm ruins {n} windows in {town}",
            ("{who} called for help", "{company} lost its roof", "it was over by {m} o'clock"),
        ),
        "race": Event(
            "nobody ran faster than {who}, who crossed {town} in {n} minutes",
            "{who} is fastest in {town}",
            ("behind followed {other}", "{company} gave free drinks", "the route had {m} turns"),
        ),
        "strike": Event(
            "asking for more money, {n} workers left the halls of {company} last {day}",
            "{n} workers protest at {company}",
            ("{who} promised an answer", "the streets of {town} filled", "it is day {m}"),
        ),
        "theft": Event(
            "last {day}, somebody stole the {product} that {who} kept in {town}",
            "burglar steals {product} from {who}",
            ("{other} saw a light", "police asked {m} people", "{company} had sold it"),
        ),
        "job": Event(
            "the new head of {company} is {who}, as was decided last {day}",
            "{who} takes over {company}",
            ("{other} had the post for {m} years", "staff met in {town}", "{n} voted"),
        ),
        "weather": Event(
            "umbrellas are needed in {town} at {n} degrees",
            "showers in {town}",
            ("fog lifts by {m}", "frost is unlikely", "the sea is calm"),
        ),
        "match": Event(
            "{place} lost to {town}, which shot {n} goals",
            "{town} defeats {place}",
            ("{who} missed a penalty", "it was cold", "{m} seats stayed empty"),
        ),
    },
    ("train", "zh"): {
        "opening": Event(
            "{day}，{company}在{town}开了一家卖{goods}的店 | {company}新开了店，{town}的人能买到"
            "{goods}了",
            "{company}到{town}卖{goods}",
            ("有{n}个人排队", "{who}剪了彩", "每天{m}点开门"),
        ),
        "storm": Event(
            "{day}，暴风雨经过{town}，打破了{n}扇窗 | {town}在{day}遇上暴风雨，{n}扇窗破了",
            "暴风雨打破{town}{n}扇窗",
            ("{who}躲进地窖", "{company}没有开门", "雨下了{m}个小时"),
        ),
        "race": Event(
            "{who}用{n}分钟赢得{town}的赛跑 | {town}的赛跑中，{who}花{n}分钟第一个到终点",
            "{who}在{town}夺冠",
            ("{other}得了第二", "{company}出了奖金", "有{m}个人中途退出"),
        ),
        "strike": Event(
            "因为工资低，{company}有{n}名工人在{day}停了工 | {company}工资太低，{n}名工人不干了",
            "{company}{n}名工人罢工",
            ("{who}和他们谈过", "在{town}谈了{m}个小时", "{other}送来面包"),
        ),
        "theft": Event(
            "小偷从{who}在{town}的家里拿走了{product} | "
            "{day}，{town}的{who}回家时发现{product}没了",
            "小偷偷走{who}的{product}",
            ("{other}听到响声", "门上有{m}把锁", "{company}愿出赏金"),
        ),
        "job": Event(
            "{day}，{company}选{who}当新主管 | 从{day}起，{who}领导{company}",
            "{who}成为{company}主管",
            ("{other}干了{m}年后离开", "办公室在{town}", "有{n}个人报了名"),
        ),
        "weather": Event(
            "{day}{town}有雨，气温{n}度 | {town}要下雨，{n}度",
            "{town}下雨",
            ("风速{m}节", "夜里不冷", "云从海上来"),
        ),
        "match": Event(
            "{town}以{n}球胜{place} | 多进{n}球，{town}赢了{place}",
            "{town}胜{place}",
            ("{who}进了两球", "门将受了伤", "{m}名球迷唱歌"),
        ),
    },
    ("test", "zh"): {
        "opening": Event(
            "自{day}起，{town}多了{company}的{goods}铺子",
            "{company}在{town}供应{goods}",
            ("前{n}位客人拿到礼物", "{who}致了辞", "店里有{m}间屋"),
        ),
        "storm": Event(
            "上{day}大风吹坏{town}的窗户，共{n}扇",
            "狂风吹坏{town}{n}扇窗",
            ("{who}打电话求救", "{company}掉了屋顶", "到{m}点才停"),
        ),
        "race": Event(
            "谁也没有{who}跑得快，{n}分钟便穿过{town}",
            "{who}在{town}跑得最快",
            ("跟在后面的是{other}", "{company}送了饮料", "路上有{m}个弯"),
        ),
        "strike": Event(
            "上{day}，{n}名工人走出{company}，要求加薪",
            "{company}{n}名工人抗议",
            ("{who}答应回复", "{town}街上挤满了人", "这是第{m}天"),
        ),
        "theft": Event(
            "上{day}，{who}放在{town}的{product}被人盗走",
            "窃贼偷走{who}的{product}",
            ("{other}看见亮光", "警察问了{m}个人", "东西是{company}卖的"),
        ),
        "job": Event(
            "上{day}作出决定，{company}的新主管是{who}",
            "{who}接管{company}",
            ("前任{other}任职{m}年", "员工聚在{town}", "{n}人投了票"),
        ),
        "weather": Event(
            "{town}出门要带伞，{n}度", "{town}阵雨", ("{m}点雾散", "无霜", "海面平静")
        ),
        "match": Event(
            "{place}输给踢进{n}球的{town}",
            "{town}击败{place}",
            ("{who}踢飞点球", "天很冷", "{m}个座位空着"),
        ),
    },
}


def row(draw: Draw) -> dict[str, Any]:
    """Return `document`, `summary` and `kind`, the sort of event."""
    events = EVENTS[draw.part, draw.language]
    kind = draw.pick([name for name in events if (name in SHIFTED) == draw.shifted])
    event = events[kind]
    who, other = draw.several("person", 2)
    company, product = draw.one("company"), draw.one("product")
    town, place = draw.several("town", 2)
    slots = {
        "who": draw.name(who),
        "other": draw.name(other),
        "company": draw.name(company),
        "product": draw.name(product),
        "town": draw.name(town),
        "place": draw.name(place),
        "goods": draw.word(draw.pick(WORDS["goods"])),
        "day": draw.pick(DAYS[draw.language]),
        "n": 2 + draw.below(98),
        "m": 2 + draw.below(20),
    }
    details, facts = LENGTHS[draw.length]
    news = draw.phrase(frames(event.news))
    told = draw.some(event.details, details)
    # The news comes first, or after a detail or two.
    told.insert(draw.below(min(details, 2) + 1), news)
    clauses = [frame.format(**slots) for frame in told]
    about = {"{who}": who, "{company}": company, "{town}": town, "{product}": product}
    involved = [one for slot, one in about.items() if slot in news]
    sides = [(one, attribute) for one in involved for attribute in ATTRIBUTES[one.kind]]
    clauses += [draw.say(*fact) for fact in draw.some(sides, facts)]
    summary = draw.sentence(draw.phrase(frames(event.gist)).format(**slots))
    if draw.drifted:
        summary = draw.phrase(DRIFT[draw.language]).format(s=summary.upper())
    document = draw.text([draw.sentence(clause) for clause in clauses])
    return {"document": document, "summary": summary, "kind": kind}

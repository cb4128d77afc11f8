"""How facts of the world are said and asked: frames by part, language, kind and attribute.

`{x}` is the entity, `{v}` the value, `{n}` the noun of the attribute. The frames of the two parts
are disjoint. A frame that begins with `{x}` can take a pronoun for it.
"""

from __future__ import annotations

import functools

STATEMENTS = {
    ("train", "en"): {
        "person.born": "{x} was born in {v} | {v} is the year {x} was born",
        "person.town": "{x} lives in {v} | {x} has a house in {v} | the home of {x} is in {v}",
        "person.trade": "{x} is a {v} | {x} works as a {v} | {x} earns a living as a {v}",
        "person.employer": "{x} works for {v} | {v} employs {x} | {x} has a job at {v}",
        "person.hobby": "{x} likes {v} | {x} loves {v} | in the evening {x} enjoys {v}",
        "town.founded": "{x} was founded in {v} | {x} goes back to {v} | settlers built {x} in {v}",
        "town.population": "{x} has {v} | {x} is home to {v} | there are {v} in {x}",
        "town.region": "{x} lies in the {v} | {x} is a town of the {v} | to see {x}, visit the {v}",
        "town.goods": "{x} is known for its {v} | {x} sells {v} | people come to {x} for {v}",
        "town.mayor": "the mayor of {x} is {v} | {x} is led by {v} | {v} governs {x}",
        "company.founded": "{x} was started in {v} | {x} opened in {v} | {x} has existed since {v}",
        "company.town": "{x} is based in {v} | {x} has its office in {v} | you find {x} in {v}",
        "company.goods": "{x} makes {v} | {x} trades in {v} | shops buy {v} from {x}",
        "company.workers": "{x} has {v} | {x} pays {v} | {v} earn their bread at {x}",
        "company.head": "the director of {x} is {v} | {x} is run by {v} | {v} manages {x}",
        "animal.colour": "{x} is {v} | {x} has {v} skin | nature made {x} {v}",
        "animal.diet": "{x} eats {v} | {x} feeds on {v} | the food of {x} is {v}",
        "animal.habitat": "{x} lives in {v} | {x} is found in {v} | look for {x} in {v}",
        "animal.weight": "{x} weighs {v} | {x} can reach {v} | the weight of {x} is {v}",
        "product.price": "{x} costs {v} | {x} sells for {v} | shops ask {v} for {x}",
        "product.colour": "{x} is {v} | {x} comes in {v} | buyers get {x} in {v}",
        "product.maker": "{x} is made by {v} | {x} comes from {v} | {v} produces {x}",
        "product.material": "{x} is made of {v} | {x} consists of {v} | {v} is what {x} is made of",
        "product.year": "{x} came out in {v} | {x} was launched in {v} | shops sell {x} since {v}",
        "any": "the {n} of {x} is {v} | we know the {n} of {x}: {v}",
    },
    ("test", "en"): {
        "person.born": "{x} was a child of {v} | {x} first saw daylight in {v}",
        "person.town": "{x} makes a home in {v} | {x} is at home in {v}",
        "person.trade": "{x} became a {v} | {x} trained to be a {v}",
        "person.employer": "{x} is on the staff of {v} | {x} draws wages from {v}",
        "person.hobby": "{x} spends weekends on {v} | {x} is fond of {v}",
        "town.founded": "{x} dates from {v} | {x} was settled in {v}",
        "town.population": "{x} counts {v} | {x} houses {v}",
        "town.region": "{x} is situated in the {v} | {x} belongs to the {v}",
        "town.goods": "{x} is famous for {v} | {x} exports {v}",
        "town.mayor": "{x} elected {v} as mayor | {x} has {v} for a mayor",
        "company.founded": "{x} was set up in {v} | {x} began business in {v}",
        "company.town": "{x} sits in {v} | {x} operates from {v}",
        "company.goods": "{x} deals in {v} | {x} supplies {v}",
        "company.workers": "{x} keeps {v} busy | {x} counts on {v}",
        "company.head": "{x} is headed by {v} | {x} answers to {v}",
        "animal.colour": "{x} looks {v} | {x} appears {v}",
        "animal.diet": "{x} lives on {v} | {x} hunts for {v}",
        "animal.habitat": "{x} dwells in {v} | {x} hides in {v}",
        "animal.weight": "{x} grows to {v} | {x} tips the scales at {v}",
        "product.price": "{x} goes for {v} | {x} is priced at {v}",
        "product.colour": "{x} is painted {v} | {x} is offered in {v}",
        "product.maker": "{x} is built by {v} | {x} is the work of {v}",
        "product.material": "{x} is built from {v} | {x} is cut from {v}",
        "product.year": "{x} appeared in {v} | {x} was first sold in {v}",
        "any": "as {n}, {x} has {v} | {x} has as its {n} {v}",
    },
    ("train", "zh"): {
        "person.born": "{x}生于{v} | {x}是{v}出生的 | {v}，{x}出生了",
        "person.town": "{x}住在{v} | {x}的家在{v} | 在{v}可以见到{x}",
        "person.trade": "{x}是{v} | {x}当{v} | {x}的工作是{v}",
        "person.employer": "{x}在{v}上班 | {x}受雇于{v} | {v}雇了{x}",
        "person.hobby": "{x}喜欢{v} | {x}爱{v} | 晚上{x}常常{v}",
        "town.founded": "{x}建于{v} | {x}的历史始于{v} | 人们在{v}建了{x}",
        "town.population": "{x}有{v} | {x}住着{v} | 一共有{v}住在{x}",
        "town.region": "{x}位于{v} | {x}在{v} | 去{v}可以看到{x}",
        "town.goods": "{x}以{v}出名 | {x}出产{v} | 人们到{x}买{v}",
        "town.mayor": "{x}的镇长是{v} | {x}由{v}管理 | {v}领导{x}",
        "company.founded": "{x}成立于{v} | {x}在{v}开业 | {v}有了{x}",
        "company.town": "{x}设在{v} | {x}的总部在{v} | 在{v}能找到{x}",
        "company.goods": "{x}生产{v} | {x}卖{v} | 商店从{x}买{v}",
        "company.workers": "{x}有{v} | {x}雇着{v} | {v}在{x}干活",
        "company.head": "{x}的经理是{v} | {x}归{v}管 | {v}掌管{x}",
        "animal.colour": "{x}是{v}的 | {x}的皮毛是{v} | 大自然给了{x}一身{v}",
        "animal.diet": "{x}吃{v} | {x}的食物是{v} | {v}养活了{x}",
        "animal.habitat": "{x}生活在{v} | {x}住在{v}里 | 在{v}里能看到{x}",
        "animal.weight": "{x}重{v} | {x}能长到{v} | 称一称{x}，有{v}",
        "product.price": "{x}卖{v} | {x}的售价是{v} | 买{x}要花{v}",
        "product.colour": "{x}是{v}的 | {x}有{v}外壳 | 店里的{x}是{v}",
        "product.maker": "{x}由{v}制造 | {x}来自{v} | {v}生产{x}",
        "product.material": "{x}是用{v}做的 | {x}的材质是{v} | {v}做成了{x}",
        "product.year": "{x}在{v}上市 | {x}于{v}推出 | 从{v}起能买到{x}",
        "any": "{x}的{n}是{v} | 我们知道{x}的{n}：{v}",
    },
    ("test", "zh"): {
        "person.born": "{x}诞生于{v} | {x}的生年为{v}",
        "person.town": "{x}定居{v} | {x}安家于{v}",
        "person.trade": "{x}做了{v} | {x}以{v}为业",
        "person.employer": "{x}效力于{v} | {x}替{v}工作",
        "person.hobby": "{x}热衷于{v} | {x}周末总去{v}",
        "town.founded": "{x}始建于{v} | {x}自{v}便已存在",
        "town.population": "{x}人口为{v} | {x}生活着{v}",
        "town.region": "{x}地处{v} | {x}属于{v}",
        "town.goods": "{x}盛产{v} | {x}外销{v}",
        "town.mayor": "{x}选{v}做镇长 | {x}镇长一职归{v}",
        "company.founded": "{x}创办于{v} | {x}自{v}开始营业",
        "company.town": "{x}坐落于{v} | {x}开在{v}",
        "company.goods": "{x}经营{v} | {x}供应{v}",
        "company.workers": "{x}共有{v} | {x}养活{v}",
        "company.head": "{x}由{v}主管 | {x}听命于{v}",
        "animal.colour": "{x}浑身{v} | {x}看上去是{v}",
        "animal.diet": "{x}靠{v}为生 | {x}爱吃{v}",
        "animal.habitat": "{x}栖身于{v} | {x}藏在{v}中",
        "animal.weight": "{x}体重达{v} | {x}足有{v}",
        "product.price": "{x}标价{v} | {x}定价为{v}",
        "product.colour": "{x}漆成{v} | {x}外观呈{v}",
        "product.maker": "{x}出自{v} | {x}为{v}所造",
        "product.material": "{x}以{v}制成 | {x}选用{v}",
        "product.year": "{x}首发于{v} | {x}问世于{v}",
        "any": "说到{x}，{n}为{v} | {x}，{n}：{v}",
    },
}

# Direct questions, and those whose answer is the entity.
QUESTIONS = {
    ("train", "en"): {
        "person.born": "When was {x} born?",
        "person.town": "Where does {x} live?",
        "person.trade": "What does {x} do for a living?",
        "person.employer": "Who does {x} work for?",
        "person.hobby": "What does {x} like?",
        "town.founded": "When was {x} founded?",
        "town.population": "How many people live in {x}?",
        "town.region": "Where does {x} lie?",
        "town.goods": "What is {x} known for?",
        "town.mayor": "Who governs {x}?",
        "company.founded": "When did {x} open?",
        "company.town": "Where is {x} based?",
        "company.goods": "What does {x} make?",
        "company.workers": "How many workers does {x} have?",
        "company.head": "Who runs {x}?",
        "animal.colour": "What colour is {x}?",
        "animal.diet": "What does {x} eat?",
        "animal.habitat": "Where is {x} found?",
        "animal.weight": "How much does {x} weigh?",
        "product.price": "How much does {x} cost?",
        "product.colour": "Which colour does {x} have?",
        "product.maker": "Who makes {x}?",
        "product.material": "What is {x} made of?",
        "product.year": "When did {x} come out?",
        "any": "What is the {n} of {x}? | Which {n} does {x} have?",
        "inverse": "Which {k} has the {n} {v}? | {v} is the {n} of which {k}?",
        "most": "Which {k} has the highest {n}? | Of the {n}, which {k} has the highest?",
    },
    ("test", "en"): {
        "any": "Tell me the {n} of {x}. | Do you know the {n} of {x}?",
        "inverse": "Name the {k} with the {n} {v}. | For which {k} is the {n} {v}?",
        "most": "Name the {k} with the highest {n}. | The highest {n}: for which {k}?",
    },
    ("train", "zh"): {
        "person.born": "{x}是哪年出生的？",
        "person.town": "{x}住在哪里？",
        "person.trade": "{x}是做什么的？",
        "person.employer": "{x}在哪里上班？",
        "person.hobby": "{x}喜欢什么？",
        "town.founded": "{x}建于哪一年？",
        "town.population": "{x}有多少人？",
        "town.region": "{x}位于什么地方？",
        "town.goods": "{x}以什么出名？",
        "town.mayor": "谁领导{x}？",
        "company.founded": "{x}是哪年开业的？",
        "company.town": "{x}设在哪里？",
        "company.goods": "{x}生产什么？",
        "company.workers": "{x}有多少工人？",
        "company.head": "谁掌管{x}？",
        "animal.colour": "{x}是什么颜色？",
        "animal.diet": "{x}吃什么？",
        "animal.habitat": "{x}生活在哪里？",
        "animal.weight": "{x}有多重？",
        "product.price": "{x}卖多少钱？",
        "product.colour": "{x}有什么颜色的外壳？",
        "product.maker": "谁生产{x}？",
        "product.material": "{x}是用什么做的？",
        "product.year": "{x}是哪年上市的？",
        "any": "{x}的{n}是什么？ | 什么是{x}的{n}？",
        "inverse": "哪个{k}的{n}是{v}？ | {n}是{v}的是哪个{k}？",
        "most": "哪个{k}的{n}数字最大？ | {n}数字最大的是哪个{k}？",
    },
    ("test", "zh"): {
        "any": "请说出{x}的{n}。 | 你知道{x}的{n}吗？",
        "inverse": "说出{n}为{v}的{k}。 | {v}属于哪个{k}的{n}？",
        "most": "说出{n}数字居首的{k}。 | 论{n}，数字居首的{k}叫什么？",
    },
}

DAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "zh": ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期天"),
}


@functools.cache
def frames(text: str) -> tuple[str, ...]:
    """Return the frames in `one | another`."""
    return tuple(frame.strip() for frame in text.split("|"))


@functools.cache
def statements(part: str, language: str, kind: str, attribute: str) -> tuple[str, ...]:
    """Return the frames that say an attribute of a kind of entity."""
    table = STATEMENTS[part, language]
    return frames(table[f"{kind}.{attribute}"]) + frames(table["any"])


@functools.cache
def questions(part: str, language: str, kind: str, attribute: str) -> tuple[str, ...]:
    """Return the frames that ask for an attribute of an entity."""
    table = QUESTIONS[part, language]
    own = table.get(f"{kind}.{attribute}")
    return (frames(own) if own else ()) + frames(table["any"])

"""Inputs to show a model at work with: five of each built-in task, in both languages."""

from __future__ import annotations

from typing import Any

from llmpred.errors import Problem, SpecError, nearest

EXAMPLES: dict[str, dict[str, tuple[dict[str, Any], ...]]] = {
    "sentiment": {
        "en": (
            {"text": "A warm, funny film, and one of the best of the year."},
            {"text": "The room was dirty, the staff were rude, and nobody apologised."},
            {"text": "I expected little and was delighted from the first page to the last."},
            {"text": "It broke after two days, and the shop would not take it back."},
            {"text": "The plot is thin, but the acting is so good that I did not mind."},
        ),
        "zh": (
            {"text": "房间干净，服务热情，下次还会再来。"},
            {"text": "等了一个多小时，菜是凉的，味道也很差。"},
            {"text": "剧情虽然简单，演员的表演却十分动人。"},
            {"text": "用了两天就坏了，客服一直不理人。"},
            {"text": "价格不贵，质量比想象的好很多。"},
        ),
    },
    "numeric": {
        "en": (
            {"text": "The box weighs 12.5 kg and the crate 40 kg. The weight of the box is"},
            {"text": "The box weighs 12.5 kg and the crate 40 kg. The heavier one is"},
            {"text": "The firm had 1,240 workers, and 40 left. Those who stayed number"},
            {"text": "The galaxy is 2.5e19 km away. Its distance in km is"},
            {"text": "It was -4 degrees at night. The low of the night was"},
        ),
        "zh": (
            {"text": "箱子重12.5公斤，柜子重40公斤。箱子的重量是"},
            {"text": "箱子重12.5公斤，柜子重40公斤。更重的是"},
            {"text": "工厂原有1240名工人，走了40人，还剩"},
            {"text": "这个城市有三百五十万人。它的人口是"},
            {"text": "夜里气温是-4度。最低温度是"},
        ),
    },
    "complexity": {
        "en": (
            {"prompt": "What is 12 times 13?"},
            {"prompt": "Why is the sky blue? Explain it to a child, then compare it with the sea."},
            {"prompt": "List three towns in France."},
            {"prompt": "Write a story about a lighthouse that is afraid of the dark."},
            {"prompt": "Debug this loop: it stops at 9 and should stop at 10."},
        ),
        "zh": (
            {"prompt": "12乘13等于多少？"},
            {"prompt": "天空为什么是蓝色的？请向孩子解释，然后和大海比较。"},
            {"prompt": "列出法国的三个城市。"},
            {"prompt": "写一个怕黑的灯塔的故事。"},
            {"prompt": "调试这个循环：它停在9，本应停在10。"},
        ),
    },
    "multiple_choice": {
        "en": (
            {"question": "What do bees make?", "choices": ["honey", "paper", "glass"]},
            {"question": "Which of these is a planet?", "choices": ["the Moon", "Mars", "the Sun"]},
            {"question": "What is frozen water called?", "choices": ["steam", "ice", "sand"]},
            {"question": "Which animal can fly?", "choices": ["a horse", "a shark", "an owl"]},
            {"question": "How many days has a week?", "choices": ["five", "seven", "twelve"]},
        ),
        "zh": (
            {"question": "蜜蜂会酿造什么？", "choices": ["蜂蜜", "纸张", "玻璃"]},
            {"question": "下列哪一个是行星？", "choices": ["月亮", "火星", "太阳"]},
            {"question": "水结冻后叫什么？", "choices": ["蒸汽", "冰", "沙子"]},
            {"question": "哪种动物会飞？", "choices": ["马", "鲨鱼", "猫头鹰"]},
            {"question": "一个星期有几天？", "choices": ["五天", "七天", "十二天"]},
        ),
    },
    "qa": {
        "en": (
            {
                "context": "The bridge was built in 1883 by an engineer from Bern.",
                "question": "When was the bridge built?",
            },
            {
                "context": "Anna lives in Oslo and works as a nurse in a small hospital.",
                "question": "What does Anna work as?",
            },
            {
                "context": "The river rises in the northern hills and flows into Lake Tarn.",
                "question": "Where does the river flow?",
            },
            {
                "context": "Tickets cost eight euros; children under six enter free.",
                "question": "How much is a ticket?",
            },
            {
                "context": "The library opens at nine and closes at five, except on Mondays.",
                "question": "Who founded the library?",
            },
        ),
        "zh": (
            {"context": "这座桥由一位工程师于1883年建成。", "question": "这座桥是哪一年建成的？"},
            {"context": "小王住在杭州，在一家医院当护士。", "question": "小王住在哪里？"},
            {"context": "这条河发源于北山，最后流入青湖。", "question": "这条河流入哪里？"},
            {"context": "门票八元，六岁以下儿童免费。", "question": "门票多少钱？"},
            {"context": "图书馆九点开门，五点关门，周一休息。", "question": "图书馆是谁建的？"},
        ),
    },
    "summarization": {
        "en": (
            {
                "document": "Heavy rain flooded several streets on Monday. Two schools closed for "
                "the day, and trains ran up to an hour late. The water fell by evening."
            },
            {
                "document": "The town council voted to build a new library. It will stand beside "
                "the station and open in three years. Residents had asked for it since 2015."
            },
            {
                "document": "Researchers counted birds at forty lakes. Ducks had become rarer at "
                "most of them, while herons were seen more often than ten years ago."
            },
            {
                "document": "The bakery on Mill Street closes after sixty years. Its owner found "
                "nobody to take it over. On the last day the bread is free."
            },
            {
                "document": "The home team won by three goals to one. All were scored in the "
                "second half, the last of them in the final minute."
            },
        ),
        "zh": (
            {"document": "周一的大雨淹没了几条街道，两所学校停课，列车晚点近一小时，傍晚水退。"},
            {"document": "市议会决定建一座新图书馆，位于车站旁，预计三年后开放。"},
            {"document": "研究人员在四十个湖泊清点鸟类，发现野鸭减少，苍鹭比十年前更常见。"},
            {"document": "磨坊街的面包店开了六十年，因无人接手而关门，最后一天面包免费。"},
            {"document": "主队以三比一获胜，进球都在下半场，最后一个在终场前一分钟。"},
        ),
    },
}


def examples(task: str, language: str) -> tuple[dict[str, Any], ...]:
    """Return the examples of a task, as a predictor takes them.

    Raises:
        SpecError: if it has none.
    """
    if task not in EXAMPLES:
        law = f"examples are built in for the tasks of llmpred alone, but the run's is {task}"
        raise SpecError(Problem(law, fix=nearest(task, tuple(EXAMPLES))))
    return EXAMPLES[task][language]

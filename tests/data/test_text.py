import subprocess
import sys

import pytest

from llmpred.data import characters, language, words
from llmpred.data.text import cut, frequencies


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["A fine hotel."], "en"),
        (["这家酒店很好"], "zh"),
        (["這間酒店環境不錯 OK"], "zh"),
        (["背景: Virgin Australia commenced services on 31 August 2000."], "en"),
        (["প্রয়োজনের অতিরিক্ত পানি"], "en"),
        ([], "en"),
        (["123 !!!"], "en"),
    ],
)
def test_language(texts, expected):
    assert language(texts) == expected


def test_words():
    assert words("It's a well-made film, isn't it? 3.", "en") == [
        "It's", "a", "well-made", "film", "isn't", "it", "3",
    ]  # fmt: skip
    assert words("我来到北京清华大学，GPU 很快！", "zh") == [
        "我",
        "来到",
        "北京",
        "清华大学",
        "GPU",
        "很快",
    ]
    assert characters("我爱 Python 3，真的！") == ["我", "爱", "Python", "3", "真", "的"]


def test_jieba_is_quiet_private_and_loaded_when_needed(tmp_path):
    code = (
        "import sys, llmpred.data; assert 'jieba' not in sys.modules\n"
        "from llmpred.data import words; words('你好世界', 'zh')\n"
        "import jieba; assert not jieba.dt.initialized"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"LLMPRED_CACHE": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout + run.stderr == ""
    assert (tmp_path / "jieba.cache").exists()


@pytest.mark.parametrize(
    "text", ["", "很好。 good  day\n", "房间e\u0301👍🏽，２００１年 don't", "\x00𠮷"]
)
def test_what_is_cut_is_the_text(text):
    assert "".join(cut(text)) == text


def test_frequent_characters_are_more_frequent():
    counts = frequencies()
    assert counts["的"] > counts["酒"] > counts["羯"]
    assert all(len(character) == 1 for character in counts)

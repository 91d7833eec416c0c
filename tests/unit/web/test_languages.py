"""The languages: who reads which, and that none lacks a text."""

import re
from pathlib import Path

import pytest
from flask import Flask

from app.web import languages
from app.web.languages import LANGUAGES, choose_language

ROOM = Path(languages.__file__).parent
PLACE = re.compile(r"\{(\w+)\}")
USED = re.compile(r"""text\(["']([\w.-]+[\w])["']""")


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        pytest.param("", "en", id="nothing"),
        pytest.param("en-GB,en;q=0.9", "en", id="British"),
        pytest.param("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", "ko", id="Korean browser"),
        pytest.param("ko-KR,en;q=0.5", "ko", id="a region only"),
        pytest.param("ko", "ko", id="Korean"),
        pytest.param("zh", "zh", id="Chinese"),
        pytest.param("zh-CN,zh;q=0.9", "zh", id="China"),
        pytest.param("zh-Hans", "zh", id="simplified"),
        pytest.param("zh-Hans-SG", "zh", id="Singapore"),
        pytest.param("zh-TW,en;q=0.8", "zh", id="Taiwan"),
        pytest.param("ZH-cn", "zh", id="upper case"),
        pytest.param("de,fr;q=0.9,ko;q=0.1", "ko", id="the first that there is"),
        pytest.param("en;q=0.5,zh;q=0.6", "zh", id="by quality"),
        pytest.param("ko;q=0,zh;q=0.1", "zh", id="not wanted"),
        pytest.param("de", "en", id="none that there is"),
        pytest.param("*", "en", id="any"),
        pytest.param("kok", "en", id="Konkani is not Korean"),
        pytest.param(";;q=,\x7f", "en", id="nonsense"),
    ],
)
def test_what_the_browser_asks_for(app: Flask, asked: str, read: str) -> None:
    """The first language that it asks for and that there is, whatever the region."""
    with app.test_request_context(headers={"Accept-Language": asked}):
        assert choose_language() is LANGUAGES[read]


@pytest.mark.parametrize(
    ("query", "cookie", "read"),
    [
        ("?lang=ko", "", "ko"),
        ("?lang=ko", "lang=zh", "ko"),
        ("", "lang=zh", "zh"),
        ("?lang=xx", "lang=zh", "zh"),
        ("", "lang=../../x", "en"),
    ],
)
def test_what_the_visitor_chose(app: Flask, query: str, cookie: str, read: str) -> None:
    """A choice goes before the browser's languages, the present one before an earlier one."""
    with app.test_request_context(f"/{query}", headers={"Cookie": cookie}):
        assert choose_language() is LANGUAGES[read]


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_text_is_missing(code: str) -> None:
    """Every language has the same texts, with the same places to fill in, and none is empty."""
    there = LANGUAGES[code].texts
    first = LANGUAGES["en"].texts
    assert set(there) == set(first)
    for key, text in there.items():
        assert text.strip() == text != "", key
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(first[key])), key
        assert text.count("`") == first[key].count("`"), key


def test_every_text_that_the_page_names_is_there() -> None:
    """No template asks for a text that nobody wrote."""
    named = [
        key
        for path in (ROOM / "templates").glob("*.html")
        for key in USED.findall(path.read_text(encoding="utf-8"))
    ]
    assert named
    assert set(named) <= set(LANGUAGES["en"].texts)


def test_what_is_filled_in_is_escaped() -> None:
    """What comes from outside is text, and can be neither markup nor code."""
    texts = {"x": "<a> & `code {name}`"}
    read = LANGUAGES["en"]
    filled = languages.Language.text
    shown = filled(_Fixed(read, texts), "x", name="<b>`{y}")  # type: ignore[arg-type]
    assert shown == "&lt;a&gt; &amp; <code>code &lt;b&gt;`{y}</code>"


class _Fixed:
    """A language with other texts."""

    def __init__(self, read: languages.Language, texts: dict[str, str]) -> None:
        self.read = read
        self.texts = texts

"""The languages of the page: which one a visitor reads, and its texts."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from flask import request
from markupsafe import Markup, escape

_TEXTS: Final = Path(__file__).parent / "texts"
_CODE: Final = re.compile(r"`([^`]*)`")

CHOICE: Final = "lang"
"""What a visitor's own choice is called: in a query, and in the cookie that remembers it."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language of the page, by the tag that HTML has for it."""

    code: str
    tag: str
    name: str

    def text(self, key: str, /, **values: object) -> Markup:
        """Return a text with its values filled in; what stands between backticks is code."""
        marked = _CODE.sub(r"<code>\1</code>", str(escape(self.texts[key])))
        return Markup(marked).format(**values) if values else Markup(marked)  # noqa: S704

    def group(self, prefix: str) -> dict[str, str]:
        """Return the texts below a key as they are written, for a script to fill in."""
        start = f"{prefix}."
        return {
            key.removeprefix(start): text
            for key, text in self.texts.items()
            if key.startswith(start)
        }

    @property
    def texts(self) -> Mapping[str, str]:
        """All texts, by keys like `box.title`."""
        return _read(self.code)


LANGUAGES: Final[Mapping[str, Language]] = {
    language.code: language
    for language in (
        Language("en", "en", "English"),
        Language("ko", "ko", "한국어"),
        Language("zh", "zh-Hans", "简体中文"),
    )
}
"""By the first subtag of what browsers ask for; the first one is for everybody else."""


def language() -> Language:
    """Return what the visitor has chosen, now or before, or else what the browser asks for.

    werkzeug's own matching takes `en` for `ko-KR, en;q=0.5`, since that one is there by name.
    """
    for chosen in (request.args.get(CHOICE, ""), request.cookies.get(CHOICE, "")):
        if chosen in LANGUAGES:
            return LANGUAGES[chosen]
    for tag, quality in request.accept_languages:
        code = tag.lower().partition("-")[0]
        if quality and code in LANGUAGES:
            return LANGUAGES[code]
    return next(iter(LANGUAGES.values()))


@cache
def _read(code: str) -> Mapping[str, str]:
    with (_TEXTS / f"{code}.toml").open("rb") as file:
        return dict(_flat(tomllib.load(file)))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

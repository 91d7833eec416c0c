"""WWW-Authenticate <-> Challenge: RFC 9110, section 11.6.1."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_SCHEME: Final = re.compile(rf"({_WORD})(?:[ \t]+|(?=,)|$)")
_OPAQUE: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_FOLD: Final = re.compile(r"[\r\n]+[ \t]*")
"""RFC 9112, section 5.2: http.client leaves folded lines folded."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What no header may hold, and no server would send on."""
_ESCAPED: Final = re.compile(r"\\(.)")
_SEPARATOR: Final = re.compile(r"[ \t,]*")

_MOST: Final = 16
"""Challenges of one answer; registries send one or two."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: its scheme and its parameters, names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_bearer(self) -> bool:
        """Whether a token from a realm answers it."""
        return self.scheme.lower() == "bearer"

    @property
    def is_basic(self) -> bool:
        """Whether credentials answer it."""
        return self.scheme.lower() == "basic"

    def with_parameters(self, parameters: Mapping[str, str]) -> "Challenge":
        """Return the challenge with some parameters replaced."""
        return Challenge(self.scheme, {**self.parameters, **parameters})

    def __str__(self) -> str:
        parts = ",".join(f'{name}="{_quoted(value)}"' for name, value in self.parameters.items())
        return f"{self.scheme} {parts}".rstrip()


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Read every challenge of every WWW-Authenticate value.

    One value may hold several challenges, and a comma separates parameters as well as challenges:
    a token that no "=" follows begins the next challenge.
    What cannot be read ends the reading of that value; what was read before it counts, if there is
    not too much of it.
    """
    challenges: list[Challenge] = []
    for value in values:
        challenges.extend(_read(_CONTROL.sub(" ", _FOLD.sub(" ", value))))
    return challenges[:_MOST]


def _read(value: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    at = _skip(value, 0)
    while at < len(value) and len(found) <= _MOST:
        if (parameter := _PARAMETER.match(value, at)) and found:
            name, quoted, bare = parameter.groups()
            found[-1][1][name.lower()] = _unquoted(quoted) if quoted is not None else bare
            at = _skip(value, parameter.end())
        elif scheme := _SCHEME.match(value, at):
            found.append((scheme[1], {}))
            at = scheme.end()
            if opaque := _OPAQUE.match(value, at):
                at = opaque.end()
            at = _skip(value, at)
        else:
            break
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def _skip(value: str, at: int) -> int:
    separator = _SEPARATOR.match(value, at)
    return separator.end() if separator else at


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _unquoted(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)

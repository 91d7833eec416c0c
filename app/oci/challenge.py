"""Parses and writes `WWW-Authenticate` (RFC 9110, section 11.6.1)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_TCHARS: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'({_TCHARS})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_SCHEME: Final = re.compile(rf"({_TCHARS})(?:[ \t]+|(?=,)|$)")
_OPAQUE: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_FOLDED_LINE: Final = re.compile(r"[\r\n]+[ \t]*")
"""A folded line (RFC 9112, section 5.2); http.client does not unfold them."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Control characters, which no header may contain and no server would pass on."""
_ESCAPED: Final = re.compile(r"\\(.)")
_SEPARATOR: Final = re.compile(r"[ \t,]*")

_MAX_CHALLENGES: Final = 16
"""The maximum number of challenges in one answer; registries send one or two."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: its scheme, and its parameters by name in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_bearer(self) -> bool:
        """Whether the scheme is Bearer, which a token from the realm satisfies."""
        return self.scheme.lower() == "bearer"

    @property
    def is_basic(self) -> bool:
        """Whether the scheme is Basic, which a username and a password satisfy."""
        return self.scheme.lower() == "basic"

    def with_parameters(self, parameters: Mapping[str, str]) -> "Challenge":
        """Return a copy of the challenge with the given parameters added or replaced."""
        return Challenge(self.scheme, {**self.parameters, **parameters})

    def __str__(self) -> str:
        parts = ",".join(f'{name}="{_quote(value)}"' for name, value in self.parameters.items())
        return f"{self.scheme} {parts}".rstrip()


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all WWW-Authenticate values, at most 16.

    One value may hold several challenges, and a comma separates parameters as well as challenges:
    a token that is not followed by "=" begins the next challenge.
    The first malformed part of a value ends its parsing; the challenges before it are returned.
    """
    challenges: list[Challenge] = []
    for value in values:
        challenges.extend(_parse_value(_CONTROL.sub(" ", _FOLDED_LINE.sub(" ", value))))
    return challenges[:_MAX_CHALLENGES]


def _parse_value(value: str) -> list[Challenge]:
    challenges: list[tuple[str, dict[str, str]]] = []
    position = _skip_separators(value, 0)
    while position < len(value) and len(challenges) <= _MAX_CHALLENGES:
        if (parameter := _PARAMETER.match(value, position)) and challenges:
            name, quoted, bare = parameter.groups()
            challenges[-1][1][name.lower()] = _unquote(quoted) if quoted is not None else bare
            position = _skip_separators(value, parameter.end())
        elif scheme := _SCHEME.match(value, position):
            challenges.append((scheme[1], {}))
            position = scheme.end()
            if opaque := _OPAQUE.match(value, position):
                position = opaque.end()
            position = _skip_separators(value, position)
        else:
            break
    return [Challenge(scheme, parameters) for scheme, parameters in challenges]


def _skip_separators(value: str, position: int) -> int:
    separator = _SEPARATOR.match(value, position)
    return separator.end() if separator else position


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _unquote(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)

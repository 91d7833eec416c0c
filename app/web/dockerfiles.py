"""Where images stand in a Dockerfile."""

import re
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int]

_SYNTAX: Final = re.compile(r"(?im)^[ \t]*#[ \t]*syntax[ \t]*=[ \t]*(?P<image>\S+)[ \t]*$")
_FROM: Final = re.compile(
    r"(?im)^[ \t]*FROM[ \t]+(?:--[^\s]+[ \t]+)*(?P<image>[^\s-]\S*)"
    r"(?:[ \t]+AS[ \t]+(?P<stage>\S+))?[ \t]*$"
)
_ARG: Final = re.compile(
    r"(?im)^[ \t]*ARG[ \t]+(?P<name>[A-Za-z_]\w*)="
    r"(?P<quote>[\"']?)(?P<image>[^\s\"']+)(?P=quote)[ \t]*$"
)
_COPY: Final = re.compile(r"(?im)^[ \t]*COPY[ \t]+(?:--\S+[ \t]+)*?--from=(?P<image>\S+)")
_MOUNT: Final = re.compile(r"--mount=\S+")
_MOUNTED: Final = re.compile(r"(?:(?<=,)|(?<=--mount=))from=(?P<image>[^\s,]+)")
_WHOLE_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def spans(text: str) -> Iterator[Span]:
    """Give the place of each image; what an earlier stage is called is none."""
    bases = list(_FROM.finditer(text))
    if not bases:
        return
    defaults = {found["name"]: found.span("image") for found in _ARG.finditer(text)}
    stages = {"scratch"}
    for base in bases:
        name = base["image"]
        variable = _WHOLE_VARIABLE.fullmatch(name)
        default = defaults.get(variable[1] or variable[2]) if variable else None
        if name.lower() not in stages:
            yield default or base.span("image")
        if base["stage"]:
            stages.add(base["stage"].lower())
    for found in [*_COPY.finditer(text), *_mounted(text)]:
        name = found["image"]
        if name.lower() not in stages and not name.isdecimal():
            yield found.span("image")
    if syntax := _SYNTAX.search(text):
        yield syntax.span("image")


def _mounted(text: str) -> Iterator[re.Match[str]]:
    for mount in _MOUNT.finditer(text):
        yield from _MOUNTED.finditer(text, *mount.span())

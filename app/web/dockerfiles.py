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
_ARG: Final = re.compile(r"(?im)^[ \t]*ARG[ \t]+(?P<all>\S.*)$")
_DEFAULT: Final = re.compile(
    r"(?<!\S)(?P<name>[A-Za-z_]\w*)=(?P<quote>[\"']?)(?P<image>[^\s\"']+)(?P=quote)(?!\S)"
)
_COPY: Final = re.compile(
    r"(?im)^[ \t]*(?:ONBUILD[ \t]+)?COPY[ \t]+(?:--\S+[ \t]+)*?--from=(?P<image>\S+)"
)
_MOUNT: Final = re.compile(r"--mount=\S+")
_MOUNTED: Final = re.compile(r"(?:(?<=,)|(?<=--mount=))from=(?P<image>[^\s,]+)")
_WHOLE_VARIABLE: Final = re.compile(r"\$(?:\{(\w++)[^{}]*+\}|(\w++))")
_ESCAPE: Final = re.compile(r"(?im)\A(?:[ \t]*#.*\n)*?[ \t]*#[ \t]*escape[ \t]*=[ \t]*`[ \t]*$")
_TAKES_HEREDOCS: Final = re.compile(r"(?i)[ \t]*(?:ONBUILD[ \t]+)?(?:RUN|COPY|ADD)[ \t]")
_HEREDOC: Final = re.compile(
    r"(?<!\S)\d*<<(?P<dash>-?)(?P<quote>[\"']?)(?P<word>\w+)(?P=quote)(?!\S)"
)


def spans(text: str) -> Iterator[Span]:
    """Give the place of each image; what an earlier stage is called is none."""
    flat = _flattened(text)
    bases = list(_FROM.finditer(flat))
    if not bases:
        return
    defaults = {
        found["name"]: found.span("image")
        for line in _ARG.finditer(flat, 0, bases[0].start())  # what comes later is of one stage
        for found in _DEFAULT.finditer(flat, *line.span("all"))
    }
    stages = {"scratch"}
    for base in bases:
        variable = _WHOLE_VARIABLE.fullmatch(base["image"])
        default = defaults.get(variable[1] or variable[2]) if variable else None
        start, end = default or base.span("image")
        if flat[start:end].lower() not in stages:
            yield start, end
        if base["stage"]:
            stages.add(base["stage"].lower())
    for found in [*_COPY.finditer(flat), *_mounted(flat)]:
        name = found["image"]
        if name.lower() not in stages and not name.isdecimal():
            yield found.span("image")
    if syntax := _SYNTAX.search(text):
        yield syntax.span("image")


def _mounted(text: str) -> Iterator[re.Match[str]]:
    for mount in _MOUNT.finditer(text):
        yield from _MOUNTED.finditer(text, *mount.span())


def _flattened(text: str) -> str:
    """Return a text as long, each instruction in one line: with blanks for what goes on lines.

    Blanks are also what stands in here-documents, and in comments between the lines of one.
    """
    escape = "`" if _ESCAPE.match(text) else "\\"
    flat: list[str] = []
    heredocs: list[re.Match[str]] = []
    begun = ""
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if heredocs:
            if _ends(heredocs[0], bare):
                del heredocs[0]
            flat.append(" " * len(bare) + line[len(bare) :])
        elif begun and (not bare.strip() or bare.lstrip().startswith("#")):
            flat.append(" " * len(line))
        elif bare.rstrip().endswith(escape) and not bare.lstrip().startswith("#"):
            part = bare.rstrip()[:-1]
            begun += f"{part} "
            flat.append(part.ljust(len(line)))
        else:
            if _TAKES_HEREDOCS.match(begun + bare):
                heredocs = list(_HEREDOC.finditer(begun + bare))
            begun = ""
            flat.append(line)
    return "".join(flat)


def _ends(heredoc: re.Match[str], line: str) -> bool:
    return (line.lstrip("\t") if heredoc["dash"] else line) == heredoc["word"]

"""Where images stand in YAML and JSON: compose files, Kubernetes' manifests, CI's jobs."""

import re
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int]

_VALUE: Final = r"(?P<image>(?:\$\{[^{}\n]*\}|[^\s\"',{}#])+)"
_KEY: Final = re.compile(
    r"(?:^|(?<=[\s{,]))(?P<key>[\"']?)image(?P=key)[ \t]*:(?:[ \t]+|(?=[\"']))"
    rf"(?P<quote>[\"']?){_VALUE}(?P=quote)(?=[\s,}}]|$)"
)
_ACTION: Final = re.compile(rf"^[ \t]*(?:-[ \t]+)?uses:[ \t]+docker://{_VALUE}[ \t]*$")
_OPENING: Final = re.compile(r"(?P<indent>[ ]*)(?P<dashes>(?:-[ ]+)*)(?P<key>[\w\"'./-]*)")


def spans(text: str) -> Iterator[Span]:
    """Give the place of each image; one that is built there is only named, and none."""
    lines = text.splitlines(keepends=True)
    built = _built(lines)
    at = 0
    for number, line in enumerate(lines):
        if number not in built and not line.lstrip().startswith("#"):
            for pattern in (_KEY, _ACTION):
                for found in pattern.finditer(line):
                    yield at + found.start("image"), at + found.end("image")
        at += len(line)


def _built(lines: list[str]) -> set[int]:
    """Return the numbers of the lines with `image:` that stand beside a `build:` (compose)."""
    mappings: list[tuple[int, int]] = []
    """The mappings that are open: the column of their keys, and a number for each."""
    images: list[tuple[int, int]] = []
    building: set[int] = set()
    count = 0
    for number, line in enumerate(lines):
        found = _OPENING.match(line)
        if found is None or not found["key"]:
            continue
        column = found.end("dashes")
        while mappings and (
            mappings[-1][0] > column or (found["dashes"] and mappings[-1][0] == column)
        ):
            mappings.pop()
        if not mappings or mappings[-1][0] < column:
            count += 1
            mappings.append((column, count))
        if found["key"] == "build":
            building.add(mappings[-1][1])
        if found["key"] == "image":
            images.append((number, mappings[-1][1]))
    return {number for number, mapping in images if mapping in building}

"""Where images stand in YAML and JSON: compose files, Kubernetes' manifests, CI's jobs."""

import re
from collections.abc import Iterator
from typing import Final

Span = tuple[int, int]

_VALUE: Final = r"(?P<image>(?:\$\{[^{}\n]*\}|[^\s\"',{}#])+)"
_KEY: Final = re.compile(
    r"(?:^|(?<=[\s{,]))(?P<key>[\"']?)image(?P=key)[ \t]*:(?:[ \t]+|(?=[\"']))"
    r"(?:&[\w-]+[ \t]+)?"  # an anchor
    rf"(?P<quote>[\"']?){_VALUE}(?P=quote)(?=[\s,}}]|$)"
)
_ACTION: Final = re.compile(rf"^[ \t]*(?:-[ \t]+)?uses:[ \t]+docker://{_VALUE}[ \t]*$")
_JOB: Final = re.compile(rf"^[ \t]*container:[ \t]+(?=\S*[:/]){_VALUE}[ \t]*$")
"""Of GitHub's; elsewhere a container is named by a word alone."""

_SERVICES: Final = re.compile(r"(?P<indent>[ ]*)services:[ \t]*(?:#.*)?\n?")
_SERVICE: Final = re.compile(
    rf"^[ \t]*-[ \t]+(?:name:[ \t]+)?(?P<quote>[\"']?){_VALUE}(?P=quote)[ \t]*(?:#.*)?$"
)
"""One of GitLab's services: a name, or a mapping that begins with one."""

_MAPPING: Final = re.compile(r"(?P<indent>[ ]*)(?:-[ ]+)?image:[ \t]*(?:#.*)?\n?")
_NAME: Final = re.compile(
    rf"^[ \t]*(?:name|reference):[ \t]+(?P<quote>[\"']?){_VALUE}(?P=quote)[ \t]*(?:#.*)?$"
)
"""In an `image:` that is a mapping: GitLab's, and volumes of Kubernetes."""

_FLOW: Final = re.compile(
    r"\$\{[^{}\n]*\}|(?P<open>\{)|(?P<close>\})"
    r"|(?:(?<=\{)|(?<=[,\s]))(?:[\"']?build[\"']?[ \t]*:|(?P<image>[\"']?image[\"']?[ \t]*:))"
)
"""What matters of a mapping in one line."""

_OPENING: Final = re.compile(r"(?P<indent>[ ]*)(?P<dashes>(?:-[ ]+)*)(?P<key>[\w\"'./-]*)")


def spans(text: str) -> Iterator[Span]:
    """Give the place of each image; one that is built there is only named, and none."""
    lines = text.splitlines(keepends=True)
    built, services, named = _built(lines), _services(lines), _named(lines)
    at = 0
    for number, line in enumerate(lines):
        if number not in built and not line.lstrip().startswith("#"):
            also = [_SERVICE] if number in services else [_NAME] if number in named else []
            only_named = _built_in_flow(line)
            for pattern in (_KEY, _ACTION, _JOB, *also):
                for found in pattern.finditer(line):
                    if found.start() not in only_named:
                        yield at + found.start("image"), at + found.end("image")
        at += len(line)


def _services(lines: list[str]) -> set[int]:
    """Return the numbers of the items of each list `services:` (GitLab; compose has none)."""
    items: set[int] = set()
    least, column = -1, -1
    """Where the key stands, and where the dashes of its list do, once one was seen."""
    for number, line in enumerate(lines):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if found := _SERVICES.fullmatch(line):
            least, column = len(found["indent"]), -1
        elif least >= 0 and bare.startswith("- ") and (column if column >= 0 else least) <= indent:
            column = indent if column < 0 else column
            if indent == column:
                items.add(number)
        elif column < 0 or indent <= column:
            least = -1
    return items


def _named(lines: list[str]) -> set[int]:
    """Return the numbers of the lines that stand in the first column of an `image:` mapping."""
    items: set[int] = set()
    outer, column = -1, -1
    for number, line in enumerate(lines):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if _MAPPING.fullmatch(line):
            outer, column = line.index("image"), -1
        elif 0 <= outer < indent and column in {-1, indent}:
            column = indent
            items.add(number)
        elif indent <= outer:
            outer = -1
    return items


def _built_in_flow(line: str) -> set[int]:
    """Return where `image:` stands beside `build:` in a mapping within one line (compose)."""
    if "{" not in line or "build" not in line:
        return set()
    frames, count = [0], 0
    images: list[tuple[int, int]] = []
    building: set[int] = set()
    for found in _FLOW.finditer(line):
        if found["open"]:
            count += 1
            frames.append(count)
        elif found["close"]:
            frames.pop()
            frames = frames or [0]
        elif found["image"]:
            images.append((found.start(), frames[-1]))
        elif found[0][0] != "$" and len(frames) > 1:
            building.add(frames[-1])
    return {place for place, frame in images if frame in building}


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
        if found["key"] == "build" and column:  # at the top it is a job of that name
            building.add(mappings[-1][1])
        if found["key"] == "image":
            images.append((number, mappings[-1][1]))
    return {number for number, mapping in images if mapping in building}

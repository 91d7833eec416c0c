"""The examples of docs/registries.md, read from where they stand."""

import re

from tests.servers import ROOT

PAGE = (ROOT / "docs" / "registries.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return what stands below a heading, to the next one that is as high."""
    level, _, _ = heading.partition(" ")
    rest = PAGE.partition(f"\n{heading}\n")[2]
    assert rest, heading
    return re.split(rf"(?m)^#{{1,{len(level)}}} ", rest)[0]


def blocks(text: str) -> list[str]:
    """Return the indented blocks of a text."""
    found = re.findall(r"(?m)(?:^ {4}.*\n(?:\n(?= {4}))?)+", text)
    return [re.sub(r"(?m)^ {4}", "", block) for block in found]


def example(path: str) -> str:
    """Return the block that is said to stand in a file."""
    return blocks(PAGE.partition(f"`{path}`")[2])[0]

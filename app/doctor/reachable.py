"""Whether the proxy reaches its registries, as it says itself at /health."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from app.doctor.asking import Answer, Line, NoAnswer
from app.doctor.finding import Step

Seen = Answer | NoAnswer
_UNAVAILABLE = 503


def look(line: Line, names: Iterable[str]) -> dict[str, Seen]:
    """Ask for the default registry, which is "", and for these; all at once."""
    asked = ["", *names]
    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(lambda name: _seen(line, name), asked), strict=True))


def _seen(line: Line, name: str) -> Seen:
    try:
        return line.get(f"/health?upstream={quote(name, safe='')}")
    except NoAnswer as trouble:
        return trouble


def judge(seen: Mapping[str, Seen]) -> Iterator[Step]:
    """Say which of them are reached; one that is not served is nobody's business."""
    for name, answer in seen.items():
        tried = f"the proxy reaches {name or 'its registry'}"
        if isinstance(answer, NoAnswer):
            yield Step(tried, str(answer), "no-answer")
        elif answer.status == _UNAVAILABLE and answer.document.get("upstream"):
            wrong = "upstream-other" if name else "upstream"
            yield Step(tried, str(answer.document["upstream"]), wrong)
        elif answer.document.get("upstream") == "ok":
            yield Step(tried, "yes")
        elif not name:
            yield Step(tried, "", skipped="the front does not pass /health on")

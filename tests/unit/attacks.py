"""Texts that make a reader backtrack, or read the same again and again, and how long it takes."""

import gc
import heapq
import importlib
import itertools
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

Read = Callable[[str], object]

LONGEST: Final = 64 * 1024
"""Characters of a header field, a line of a head, and a text for the page, at the most."""

_ENDS: Final = ("", "\x00", "\n")
"""What may follow a repetition: the last two are in few classes, so that a match fails there."""

_RANDOM_WORDS: Final = 20
_MOST_TOKENS: Final = 14
_LONGEST_TOKEN: Final = 24

_SMALL: Final = (64, 256)
_SLOWEST: Final = 4
"""Texts of those lengths are tried all, and so many of the slowest then grow up to the limit."""

_ALLOWED: Final = 600
_FREE: Final = 0.01
"""Times of a plain scan that a text may take, and seconds beside that."""

_SOON: Final = 0.1
"""Seconds that no text of at most 256 characters may take."""

# The standard library has no public way to look into a pattern.
_parser: Final[Any] = importlib.import_module("re._parser")


class Text(NamedTuple):
    """What comes first, what is repeated, and what comes last."""

    first: str
    word: str
    last: str

    def of(self, length: int) -> str:
        """Return it with about so many characters."""
        count = max((length - len(self.first) - len(self.last)) // len(self.word), 1)
        return f"{self.first}{self.word * count}{self.last}"


def fault(read: Read, texts: Iterable[Text], limit: int = LONGEST) -> str:
    """Return which text takes a reader too long, and how long, or "" if none does.

    A text takes too long if it takes 600 times what a scan of it takes, or if four times its length
    takes more than eight times as long. Time is that of the processor, and the least of three where
    it decides, so that a busy machine counts little.
    """
    slowest: list[tuple[float, Text]] = []
    for text in texts:
        took = 0.0
        for length in _SMALL:
            if (took := _seconds(read, text.of(length))) > _FREE:
                took = _least_seconds(read, text.of(length))
            if took > _SOON:
                return f"{text} takes {took:.3f} s at {length} characters"
        if len(slowest) == _SLOWEST and took > slowest[0][0]:
            took = min(took, _least_seconds(read, text.of(_SMALL[-1])))
        if len(slowest) < _SLOWEST:
            heapq.heappush(slowest, (took, text))
        elif took > slowest[0][0]:
            heapq.heapreplace(slowest, (took, text))
    return next(filter(None, (_confirmed(read, text, limit) for _, text in slowest)), "")


def _confirmed(read: Read, text: Text, limit: int) -> str:
    """Return what is wrong if it is found three times in a row: once may be a disturbance."""
    found = ""
    for _ in range(3):
        if not (found := _growth(read, text, limit)):
            return ""
    return found


def _growth(read: Read, text: Text, limit: int) -> str:
    lengths = [limit >> step for step in range(5, -1, -1)]
    times: list[float] = []
    for length in lengths:
        most = _FREE + _ALLOWED * _seconds(_scan, text.of(length))
        if (took := _least_seconds(read, text.of(length))) > most:
            return f"{text} takes {took:.3f} s at {length} characters, not {most:.3f}"
        times.append(took)
    squares = times[-1] > 8 * times[-3] and times[-1] > _FREE  # four times is linear, 16 a square
    return f"{text} takes {times} s at {lengths} characters" if squares else ""


def _least_seconds(read: Read, text: str) -> float:
    """Return the least time of three, or that of the first if three would take too long."""
    took = _seconds(read, text)
    return took if took > 1 else min(took, *(_seconds(read, text) for _ in range(2)))


def _seconds(read: Read, text: str) -> float:
    gc.disable()  # the garbage of thousands of tests takes a tenth of a second
    try:
        began = time.process_time()
        read(text)
        return time.process_time() - began
    finally:
        gc.enable()


def _scan(text: str) -> object:
    return sum(map(ord, text))


def texts_of(tokens: Sequence[str], firsts: Iterable[str] = ("",)) -> Iterator[Text]:
    """Give texts of some tokens: of each, of each two, and of some more at random."""
    words = [*tokens, *map("".join, itertools.permutations(tokens, 2))]
    choose = random.Random("".join(tokens))  # noqa: S311 - the same texts each time
    words += ["".join(choose.choices(tokens, k=choose.randint(3, 5))) for _ in range(_RANDOM_WORDS)]
    distinct = [word for word in dict.fromkeys(words) if word]
    yield from itertools.starmap(Text, itertools.product(firsts, distinct, _ENDS))


def texts_for(pattern: "re.Pattern[str]") -> Iterator[Text]:
    """Give texts that suit a pattern: of what it looks for, behind what leads to a repetition."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
    found: list[str] = []
    _collect(tree, found)
    usable = [token for token in dict.fromkeys(found) if 0 < len(token) <= _LONGEST_TOKEN]
    # Signs first: classes of letters are all alike.
    usable.sort(key=lambda token: (len(token) > 1, token.isalnum()))
    signs, longer = usable[: _MOST_TOKENS // 2], usable[_MOST_TOKENS // 2 :]
    tokens = [*signs, *sorted(longer, key=len, reverse=True)[: _MOST_TOKENS - len(signs)]]
    ways = dict.fromkeys(_ways(tree))
    if not ways:  # without a repetition, each place is looked at once
        return itertools.starmap(Text, itertools.product([""], tokens, _ENDS))
    return texts_of(tokens or ["a"], {"": None, **ways})


def _collect(tree: Iterable[Any], found: list[str]) -> None:
    """Collect what each part of a pattern matches, if it repeats nothing more than it must."""
    found.append(_shortest(tree))
    run, before = "", [""]
    for operation, argument in tree:
        name = str(operation)
        run = f"{run}{chr(argument)}" if name == "LITERAL" else ""
        here = _characters(name, argument) if name in _ATOMS else [""]
        found += [run, *here, *(a + b for a, b in itertools.product(before, here) if a and b)]
        before = here
        for inner in _inside(name, argument):
            _collect(inner, found)


def _ways(tree: Iterable[Any], before: str = "") -> Iterator[str]:
    """Give what leads to each place at which something repeats."""
    for operation, argument in tree:
        if "REPEAT" in str(operation):
            yield before
        for inner in _inside(str(operation), argument):
            yield from _ways(inner, before)
        before += _shortest([(operation, argument)])


_ATOMS: Final = frozenset({"LITERAL", "NOT_LITERAL", "IN", "ANY"})


def _inside(name: str, argument: Any) -> list[Any]:
    match name:
        case "SUBPATTERN":
            return [argument[3]]
        case "BRANCH":
            return list(argument[1])
        case "ASSERT" | "ASSERT_NOT":
            return [argument[1]]
        case "ATOMIC_GROUP":
            return [argument]
    return [argument[2]] if "REPEAT" in name else []


def _shortest(tree: Iterable[Any]) -> str:
    text = ""
    for operation, argument in tree:
        name = str(operation)
        if name in _ATOMS:
            text += _characters(name, argument)[0]
        elif name == "BRANCH":
            text += _shortest(argument[1][0])
        elif "REPEAT" in name:
            text += _shortest(argument[2]) * min(argument[0], 8)
        elif name in {"SUBPATTERN", "ATOMIC_GROUP"}:
            text += _shortest(_inside(name, argument)[0])
    return text


_PROBES: Final = 'a0 "\\,;:=</>-_.\t#{}$@~!A'
_OF_CATEGORY: Final = {
    "CATEGORY_DIGIT": "0",
    "CATEGORY_WORD": "a",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_WORD": "-",
    "CATEGORY_NOT_SPACE": "a",
}


def _characters(name: str, argument: Any) -> list[str]:
    """Return characters of a class: one of each range, and each that stands alone."""
    if name == "LITERAL":
        return [chr(argument)]
    if name == "ANY":
        return ["a", '"', "\\"]
    if name == "NOT_LITERAL":
        return [one for one in _PROBES if ord(one) != argument][:4]
    if str(argument[0][0]) == "NEGATE":
        refused = set(_characters("IN", argument[1:])) if len(argument) > 1 else set()
        return [one for one in _PROBES if one not in refused][:4]
    return [_member(str(kind), value) for kind, value in argument]


def _member(kind: str, value: Any) -> str:
    if kind == "CATEGORY":
        return _OF_CATEGORY[str(value)]
    return chr(value[0] if kind == "RANGE" else value)

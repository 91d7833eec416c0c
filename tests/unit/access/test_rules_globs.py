"""Patterns of names: what they match, and that no name makes that slow."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access import rules


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        pytest.param("a/b", ["a/b"], ["a/bc", "xa/b", "a/b/c", "a/B"], id="a name"),
        pytest.param("a/*", ["a/b", "a/bc"], ["a/b/c", "a", "b/a"], id="one component"),
        pytest.param("a/**", ["a/b", "a/b/c"], ["a", "ab/c"], id="any components"),
        pytest.param("**", ["a", "a/b/c"], [], id="all"),
        pytest.param("**/x", ["a/x", "a/b/x"], ["x", "a/xy"], id="at the end"),
        pytest.param("**x", ["x", "a/b/x", "ax"], ["xa"], id="any end"),
        pytest.param("a*b*c", ["abc", "axbbxc"], ["ab/c", "abcd"], id="several"),
        pytest.param("a?c", ["abc"], ["ac", "a/c", "abbc"], id="one character"),
        pytest.param("a.c", ["a.c"], ["abc"], id="a dot is a dot"),
        pytest.param("**a*b", ["a/b/aab", "xaxb"], ["a/b", "ab/"], id="a later place"),
        pytest.param("**a*b/c", ["a/ab/c", "b/aab/c"], ["a/b/c"], id="both"),
        pytest.param("a/**/b**c", ["a/x/bc", "a/x/b/y/c"], ["a/bc"], id="twice"),
        pytest.param("a***c", ["ac", "a/c"], ["ab"], id="three stars are two"),
    ],
)
def test_matches(pattern: str, names: list[str], others: list[str]) -> None:
    """The whole name."""
    found = [name for name in [*names, *others] if rules.compile_pattern(pattern).match(name)]
    assert found == names


def plain(pattern: str, name: str) -> bool:
    """Tell the same without any haste."""
    if not pattern:
        return not name
    if pattern.startswith("**"):
        rest = pattern.lstrip("*")
        return any(plain(rest, name[at:]) for at in range(len(name) + 1))
    if pattern.startswith("*"):
        end = (name + "/").index("/")
        return any(plain(pattern[1:], name[at:]) for at in range(end + 1))
    fits = bool(name) and (name[0] == pattern[0] or (pattern[0] == "?" and name[0] != "/"))
    return fits and plain(pattern[1:], name[1:])


@given(st.text("ab/*?", max_size=9), st.text("ab/", max_size=9))
def test_matches_as_it_reads(pattern: str, name: str) -> None:
    """Whatever stands beside what."""
    assert bool(rules.compile_pattern(pattern).match(name)) is plain(pattern, name)


@pytest.mark.parametrize("pattern", ["*a" * 60 + "b", "**a" * 60 + "b", "**a*a" * 30 + "b"])
def test_no_name_takes_long(pattern: str) -> None:
    """Clients choose the names: a search that goes back would go on for years here."""
    found, began = rules.compile_pattern(pattern), time.process_time()
    assert not found.match("a" * 255)
    assert time.process_time() - began < 1

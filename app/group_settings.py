"""The table `[groups]` of the file: users by the name of a group, which rules write with an @."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final

from pydantic import AfterValidator

from app.access.htpasswd import is_name
from app.setting_values import Username

_SIGN: Final = "@"
_GROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _group(name: str) -> str:
    if not _GROUP.fullmatch(name):
        message = "write the name of a group with letters, digits, . _ and -, 64 at the most"
        raise ValueError(message)
    return name


def _name(text: str) -> str:
    if not is_name(text):
        message = "no user can be called so"
        raise ValueError(message)
    return text


def _user_or_group(text: str) -> str:
    if text.startswith(_SIGN):
        _group(text.removeprefix(_SIGN))
    return _name(text)


def _member(text: str) -> str:
    if text.startswith(_SIGN):
        message = "a group has users, and no groups in it: write who they are"
        raise ValueError(message)
    return _name(text)


def _members(members: tuple[str, ...]) -> tuple[str, ...]:
    if not members:
        message = "it is empty; write at least one user, or leave it out"
        raise ValueError(message)
    return members


UserOrGroup = Annotated[Username, AfterValidator(_user_or_group)]
Groups = Mapping[
    Annotated[str, AfterValidator(_group)],
    Annotated[tuple[Annotated[Username, AfterValidator(_member)], ...], AfterValidator(_members)],
]


def members(written: Iterable[str], groups: Groups) -> frozenset[str]:
    """Return the users that a rule is for; raise ValueError for a group that is not there."""
    return frozenset(_each(written, groups))


def _each(written: Iterable[str], groups: Groups) -> Iterator[str]:
    for one in written:
        if not one.startswith(_SIGN):
            yield one
            continue
        name = one.removeprefix(_SIGN)
        if name not in groups:
            known = f"[groups] has {', '.join(groups)}" if groups else "write a table [groups]"
            message = f"users: there is no group {name}; {known}"
            raise ValueError(message)
        yield from groups[name]


def named(written: Iterable[str]) -> Iterator[str]:
    """Return the users that are written by themselves."""
    return (one for one in written if not one.startswith(_SIGN))

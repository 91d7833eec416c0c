"""Counts what a cache asks of its index: transactions, as SQLite itself sees them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

_NO_WORK = ("--", "PRAGMA")
"""What a trigger does is traced as a comment; a PRAGMA reads no table."""


@dataclass
class Transactions:
    """The first statements of the transactions that have begun, on any thread."""

    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.reads) + len(self.writes)

    def clear(self) -> None:
        """Begin to count anew."""
        self.reads.clear()
        self.writes.clear()


class _Traced(sqlite3.Connection):
    """A connection that tells of each transaction; outside of one, each statement is one."""

    told: Transactions

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inside = False
        self.set_trace_callback(self._note)

    def _note(self, statement: str) -> None:
        told, word = _Traced.told, statement.split(maxsplit=1)[0]
        if statement.startswith(_NO_WORK):
            return
        if word in {"COMMIT", "ROLLBACK"}:
            self._inside = False
        elif not self._inside:
            self._inside = word == "BEGIN"
            of = told.writes if "IMMEDIATE" in statement else told.reads
            of.append(statement)


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Transactions]:
    """Count the transactions of every connection that is opened in the block."""
    connect = sqlite3.connect
    _Traced.told = Transactions()

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        return connect(*args, **kwargs, factory=_Traced)

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", traced)
        yield _Traced.told

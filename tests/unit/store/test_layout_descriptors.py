"""Nothing of the store waits for an event loop, which its threads do not have."""

import ast
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.layout import open_descriptor
from tests.test_architecture import MODULES

LOOPS = {"logging", "queue", "select", "shutil", "socket", "subprocess", "tempfile", "threading"}
"""What gevent patches, or what uses that: a lock, or os.close, or the log's lock."""


def _forbidden(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from LOOPS.intersection(alias.name.split(".")[0] for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield from LOOPS.intersection([module.split(".")[0]])
            case ast.Attribute(value=ast.Name(id="os"), attr=name):
                yield from {"close", "fork", "fdopen", "waitpid"}.intersection([name])
            case ast.Attribute(value=ast.Name(id="time"), attr="sleep"):
                yield "sleep"


def test_nothing_that_gevent_patches() -> None:
    """On real threads it hangs, or its end comes late; tried with gevent 26.9."""
    stores = [one for one in MODULES if one.name.startswith("app.store")]
    assert len(stores) > 10
    assert [(one.name, name) for one in stores for name in _forbidden(one.tree)] == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import threading", "threading"),
        ("from subprocess import run", "subprocess"),
        ("import os\nos.close(1)", "close"),
        ("import time\ntime.sleep(1)", "sleep"),
    ],
)
def test_what_gevent_patches_is_found(source: str, name: str) -> None:
    """The test of the test."""
    assert [*_forbidden(ast.parse(source))] == [name]


def test_it_is_closed_at_once(tmp_path: Path) -> None:
    """Also when something fails; a lock ends with it, and no other program inherits it."""

    def fail() -> None:
        with open_descriptor(tmp_path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            assert not os.get_inheritable(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            fail()

"""Nothing of the store waits for an event loop, which its threads do not have."""

import ast
import fcntl
import os
from pathlib import Path

import pytest

import app.store
from app.store.layout import open_descriptor

MODULES = sorted(Path(app.store.__file__).parent.glob("*.py"))
LOOPS = {"logging", "queue", "select", "shutil", "socket", "subprocess", "tempfile", "threading"}
"""What gevent patches, or what uses that: a lock, or os.close, or the log's lock."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.name))
def test_nothing_that_gevent_patches(path: Path) -> None:
    """On real threads it hangs, or its end comes late; tried with gevent 26.9."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                imported |= {alias.name.split(".")[0] for alias in node.names}
            case ast.ImportFrom(module=str(module)):
                imported.add(module.split(".")[0])
            case ast.Attribute(value=ast.Name(id="os"), attr=name):
                assert name not in {"close", "fork", "fdopen", "waitpid"}
            case ast.Attribute(value=ast.Name(id="time"), attr=name):
                assert name != "sleep"
    assert imported & LOOPS == set()


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

"""The rooms import one way, each library is used in its own room, and no module is too long.

`wsgi -> app -> {routes, cache, upstream} -> source, registries -> oci`; docs/architecture.md has
the map.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    [
        *(ROOT / "app").rglob("*.py"),
        *(ROOT / "server").glob("*.py"),
        ROOT / "wsgi.py",
        ROOT / "serve.py",
        ROOT / "gunicorn.conf.py",
    ]
)
LONGEST = 400
EXEMPT = {"app.config.settings"}
"""Every setting is declared in one module, however long it gets."""

VALUES = {"source", "events", "registries", "oci", "waiting"}
_CACHE = {
    "cache.cache_status",
    "cache.disk",
    "cache.head_first",
    "cache.policy",
    "cache.stale",
}
ROOMS = {
    "oci": {"oci"},
    "source": {"oci"},
    "events": set[str](),
    "waiting": {"source", "oci"},
    "background": set[str](),
    "registries": {"oci"},
    "version": set[str](),
    "addresses": set[str](),
    "shared_memory": set[str](),
    "threads": set[str](),
    "piece_size": set[str](),
    "log_lines": set[str](),
    "logs": {"events", "log_lines"},
    "config": {"config", "access", "addresses", "registries", "oci"},
    "access": {"access", "background", "shared_memory", "threads", *VALUES},
    "metrics": {"metrics", "background", "shared_memory", *VALUES},
    "routes": {"routes", "access", "log_lines", "logs", "version", *VALUES},
    "web": {"web", "routes", "version", *VALUES},
    "cache": {"cache", "background", "store", "threads", "transfer", *VALUES},
    "cache.authz": {"cache.authz", "cache.disk", "cache.policy", "store", "transfer", *VALUES},
    "cache.blobs": {"cache.blobs", "cache.authz", *_CACHE, "store", "transfer", *VALUES},
    "cache.manifests": {"cache.manifests", "cache.authz", *_CACHE, "store", *VALUES},
    "doctor": {"doctor", "version", "config", *VALUES},
    "cli": {"cli", "access", "cache", "store", *VALUES},
    "store": {"store", "transfer.shared_file", "piece_size", "source", "threads", "oci"},
    "transfer": {"transfer", "piece_size", "threads", *VALUES},
    "upstream": {
        "upstream",
        "threads",
        "addresses",
        "piece_size",
        "shared_memory",
        "version",
        *VALUES,
    },
    "upstream.auth": {
        "upstream.auth",
        "upstream.http",
        "upstream.replies",
        "background",
        "shared_memory",
        "version",
        *VALUES,
    },
    "upstream.http": {
        "upstream.http",
        "threads",
        "addresses",
        "piece_size",
        "version",
        *VALUES,
    },
}
"""What each room of app may import of app; a new room gets its line here."""

LIBRARIES = {
    "flask": {"factory", "startup", "routes", "web", "cli"},
    "bcrypt": {"access"},
    "cachetools": {"access", "cache", "upstream"},
    "click": {"cli"},
    "jwt": {"access", "oci"},
    "limits": {"access"},
    "redis": {"access"},
    "jinja2": {"web"},
    "markupsafe": {"web"},
    "werkzeug": {"factory", "oci", "routes", "web"},
    "requests": {"upstream"},
    "urllib3": {"upstream"},
    "xxhash": {"transfer"},
    "pydantic": {"factory", "config"},
    "pydantic_settings": {"config"},
    "gevent": {"server", "threads"},
    "gunicorn": {"server", "serve", "gunicorn.conf"},
    "server": {"server", "wsgi", "serve", "gunicorn.conf"},
    "pythonjsonlogger": {"logs"},
    "prometheus_client": {"metrics"},
    "certifi": {"upstream"},
    "publicsuffixlist": {"upstream"},
    "_typeshed": {"server"},
}
"""Which rooms may import a library; `factory` is the wiring.

`_typeshed` exists for type checkers only: a module that really imported it could not start.
"""

PROTOCOLS: Final = {"blobs", "errors", "leases", "ledger", "storage"}
"""The modules of app/store that every room above it may import: what a storage is, not how."""

OPENS: Final = {"store", "secret"}
"""The modules of app/store that open a directory."""

ENGINES = {
    "sqlite3": {"store"},
    "fcntl": {"store", "transfer", "metrics", "server", "gunicorn.conf"},
    "io.FileIO": {"store", "transfer"},
    "app.store.leases.FileLeases": {"store"},
    "app.store.leases.MemoryLeases": {"store"},
    **{
        f"app.store.{path.stem}": {"store"} | ({"factory"} if path.stem in OPENS else set())
        for path in (ROOT / "app" / "store").glob("[!_]*.py")
        if path.stem not in PROTOCOLS
    },
}
"""Which rooms may know by what means something is kept or locked.

Only the wiring opens a store. The transfers and the metrics lock local files of their own, and
gunicorn's part sets up sockets.
"""

ENVIRONMENT = {"app.config.load", "gunicorn.conf", "serve", "server.arbiter"}
"""Where os.environ may be read."""

STATE: Final = {
    "app.routes.context": "the context of each request, in Flask's g",
    "app.events": "the exchange, for log records and observers, which do not say whose they are",
    "app.config.types": "the files that settings name, while they are read; no request is",
    "app.upstream.http.deadlines": "client and deadline of what is read from a registry",
    "app.upstream.http.retries": "whether the caller of a source can do without it",
}
"""Where state may be kept that no argument hands on, and what it is."""

STARTS: Final = {"server", "serve", "gunicorn.conf"}
MASTER: Final = {"shared_memory", "log_lines"}
"""What gunicorn's master may import of app, before gevent patches the workers."""


@dataclass(frozen=True)
class Module:
    """One module: its name, and its source."""

    name: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source)

    @property
    def room(self) -> str:
        """`routes` for app/routes/x.py, `upstream.http` for app/upstream/http/x.py, `server`."""
        first, *rest = self.name.split(".")
        if first != "app":
            return "server" if first == "server" else self.name
        for depth in (2, 1):
            if ".".join(rest[:depth]) in ROOMS and len(rest) >= depth:
                return ".".join(rest[:depth])
        return rest[0] if rest else "app"

    def imports(self) -> Iterator[str]:
        """Name every module, and everything taken from one, that is imported anywhere in it."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Import():
                    yield from (alias.name for alias in node.names)
                case ast.ImportFrom():
                    module = "." * node.level + (node.module or "")
                    yield from (f"{module}.{alias.name}" for alias in node.names)

    def faults(self) -> list[str]:
        """Return a line for everything that is forbidden here."""
        found = [fault for name in self.imports() if (fault := self._fault(name))]
        found += [f"{self.name} imports {name}" for name in self.imports() if self._pries(name)]
        if _reads_environment(self.tree) and self.name not in ENVIRONMENT:
            found.append(f"{self.name} reads os.environ")
        if self.name.startswith("app.") and self.name not in STATE:
            found += [f"{self.name} keeps state in {place}" for place in _keeps_state(self.tree)]
        if ast.get_docstring(self.tree) is None:
            found.append(f"{self.name} has no docstring")
        length = len(self.source.splitlines())
        if length > LONGEST and self.name not in EXEMPT:
            found.append(f"{self.name} has {length} lines")
        return found

    def _pries(self, name: str) -> bool:
        """Return whether an import shows by what means another room keeps something."""
        top = self.room.partition(".")[0]
        return any(
            f"{name}.".startswith(f"{engine}.") and not {top, self.room} & rooms
            for engine, rooms in ENGINES.items()
        )

    def _fault(self, name: str) -> str:
        first, _, rest = name.partition(".")
        fault = f"{self.name} imports {name}"
        top = self.room.partition(".")[0]
        if first == "":
            return f"{fault} relatively"
        if first in LIBRARIES:
            return "" if top in LIBRARIES[first] or self.room in LIBRARIES[first] else fault
        if first in sys.stdlib_module_names:
            return ""
        if first != "app":
            return f"{fault}, which no room is known to use"
        if self.room in {"factory", "startup", "wsgi"}:
            return ""
        allowed = MASTER if self.room in STARTS else ROOMS.get(self.room, set())
        return "" if any(f"{rest}.".startswith(f"{room}.") for room in allowed) else fault


def _reads_environment(tree: ast.Module) -> bool:
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    taken = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }
    uses_os = any(isinstance(node, ast.Name) and node.id == "os" for node in ast.walk(tree))
    readers = {"environ", "environb", "getenv", "getenvb", "putenv"}
    return bool(readers & (names | taken)) and (uses_os or bool(taken))


def _keeps_state(tree: ast.Module) -> Iterator[str]:
    """Name the places out of sight of all arguments in which a module keeps something."""
    hidden = {("flask", "g"), ("contextvars", "ContextVar"), ("threading", "local")}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom():
                yield from (one.name for one in node.names if (node.module, one.name) in hidden)
            case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in hidden:
                yield name
            case (
                ast.Subscript(value=ast.Attribute(attr="environ"), ctx=ast.Store())
                | ast.Subscript(value=ast.Name(id="environ"), ctx=ast.Store())
            ):
                yield "environ"
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Attribute(attr="environ") | ast.Name(id="environ"),
                    attr="setdefault" | "update" | "pop",
                )
            ):
                yield "environ"


def _module(path: Path) -> Module:
    """Read one file of this project."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path.read_text(encoding="utf-8"))


MODULES: Final = [_module(path) for path in FILES]
"""The whole project, which every test of its sources reads once."""


def test_the_house_is_in_order() -> None:
    """No forbidden import, no environment read elsewhere, a docstring, and not too long."""
    assert [fault for module in MODULES for fault in module.faults()] == []


def test_every_room_has_its_rules() -> None:
    """A room without a line in ROOMS is a fault, and so is a line without a room."""
    rooms = {module.room for module in MODULES}
    assert rooms == {
        *ROOMS,
        "app",
        "factory",
        "startup",
        "server",
        "wsgi",
        "serve",
        "gunicorn.conf",
    }


def test_every_room_has_a_map() -> None:
    """The docstring of a room names each of its files and folders, and nothing else."""
    for path in (ROOT / "app").rglob("__init__.py"):
        if path.parent == ROOT / "app":
            continue
        there = {one.name for one in path.parent.glob("*.py")} - {"__init__.py"}
        there |= {f"{one.parent.name}/" for one in path.parent.glob("*/__init__.py")}
        mapped = re.findall(r"^ *(\S+)  +\S", path.read_text("utf-8"), re.MULTILINE)
        assert sorted(mapped) == sorted(there), path


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        pytest.param("app.oci.x", "import requests", "imports requests", id="requests in oci"),
        pytest.param("app.oci.x", "import yaml", "imports yaml", id="a library in oci"),
        pytest.param(
            "app.oci.x", "from app.source import Reply", "imports app.source.Reply", id="up"
        ),
        pytest.param(
            "app.source", "from app.registries import Registry", "imports app.reg", id="sideways"
        ),
        pytest.param(
            "app.upstream.x",
            "from flask import Flask",
            "imports flask.Flask",
            id="flask in upstream",
        ),
        pytest.param("app.upstream.x", "from app import routes", "imports app.routes", id="routes"),
        pytest.param(
            "app.upstream.http.x",
            "from flask import Flask",
            "imports flask.Flask",
            id="flask below",
        ),
        pytest.param(
            "app.upstream.http.x",
            "from app.upstream.auth import issued",
            "imports app.upstream.auth",
            id="auth in http",
        ),
        pytest.param(
            "app.upstream.auth.x",
            "from app.upstream import client",
            "imports app.upstream.client",
            id="the client in auth",
        ),
        pytest.param(
            "app.cache.blobs.x",
            "from app.cache.manifests import tags",
            "imports app.cache.manifests",
            id="manifests in blobs",
        ),
        pytest.param(
            "app.routes.x", "import urllib3.exceptions", "imports urllib3", id="urllib3 in routes"
        ),
        pytest.param(
            "app.routes.x", "from app.upstream import client", "imports app.upstream", id="upstream"
        ),
        pytest.param(
            "app.routes.x",
            "from app.config.settings import Settings",
            "imports app.config",
            id="settings",
        ),
        pytest.param(
            "app.config.types",
            "import os\nos.environ['X']",
            "reads os.env",
            id="environ of values",
        ),
        pytest.param("app.cache.x", "import sqlite3", "imports sqlite3", id="sqlite in cache"),
        pytest.param("app.cache.x", "from fcntl import flock", "imports fcntl", id="flock"),
        pytest.param("app.oci.x", "from io import FileIO", "imports io.FileIO", id="a file"),
        pytest.param(
            "app.cache.x",
            "from app.store import layout",
            "imports app.store.layout",
            id="the store's directory",
        ),
        pytest.param(
            "app.cli.x",
            "from app.store.store import Store",
            "imports app.store.store.Store",
            id="a store in a command",
        ),
        pytest.param(
            "app.cache.x",
            "from app.store.leases import FileLeases",
            "imports app.store.leases.FileLeases",
            id="locks in the cache",
        ),
        pytest.param("app.cache.x", "import app.upstream.body", "imports app.up", id="cache"),
        pytest.param("app.routes.x", "import pydantic", "imports pydantic", id="pydantic"),
        pytest.param("app.factory", "import gevent", "imports gevent", id="gevent in app"),
        pytest.param("app.logs", "import gevent.monkey", "imports gevent", id="gevent below"),
        pytest.param("app.oci.x", "from . import scope", "relatively", id="relative"),
        pytest.param("app.metrics.x", "import server.worker", "imports server", id="server in app"),
        pytest.param("gunicorn.conf", "import app.logs", "imports app.logs", id="config"),
        pytest.param("server.worker", "from app import source", "imports app.source", id="worker"),
        pytest.param(
            "app.oci.x", "def f():\n    import requests", "imports requests", id="in a function"
        ),
        pytest.param("app.logs", "import os\nos.environ['X']", "reads os.environ", id="environ"),
        pytest.param("app.logs", "from os import environ", "reads os.environ", id="environ taken"),
        pytest.param("app.logs", "import os\nos.getenv('X')", "reads os.environ", id="getenv"),
        pytest.param("app.routes.x", "from flask import g", "keeps state in g", id="g"),
        pytest.param("app.routes.x", "import flask\nflask.g.x = 1", "in g", id="g of flask"),
        pytest.param(
            "app.cache.x", "from contextvars import ContextVar", "in ContextVar", id="ContextVar"
        ),
        pytest.param("app.cache.x", "import threading\nthreading.local()", "in local", id="local"),
        pytest.param(
            "app.routes.x", "request.environ['docxy.x'] = 1", "in environ", id="environ of WSGI"
        ),
        pytest.param("app.routes.x", "environ.pop('docxy.x')", "in environ", id="taken from it"),
        pytest.param("app.new.x", "from app.oci import scope", "imports app.oci", id="new room"),
        pytest.param("app.oci.x", "x = 1\n" * 400, "has 401 lines", id="long"),
    ],
)
def test_what_is_forbidden_is_found(name: str, source: str, fault: str) -> None:
    """The test of the test: a bad source is caught, by that fault and no other."""
    (found,) = Module(name, f'"""Docstring."""\n{source}').faults()
    assert fault in found


def test_a_missing_docstring_is_found() -> None:
    """A module says what it is."""
    assert Module("app.oci.x", "x = 1").faults() == ["app.oci.x has no docstring"]


def test_what_is_allowed_is_not_found() -> None:
    """A good source has no fault, whatever words are in it."""
    source = (
        '"""Docstring: os.environ, gevent."""\nimport io\nimport re\nfrom app.oci import scope\n'
    )
    assert Module("app.upstream.x", f"{source}import requests\nx.environ = 1\n").faults() == []

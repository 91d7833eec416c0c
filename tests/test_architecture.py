"""The rooms import one way, each library is used in its own room, and no module is too long.

`wsgi -> app -> {routes, cache, upstream} -> content, registries -> oci` (design.md, section 1).
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "app").rglob("*.py"))
MODULES = [
    *SOURCES,
    *(
        ROOT / name
        for name in (
            "wsgi.py",
            "startup.py",
            "serve.py",
            "worker.py",
            "connections.py",
            "incoming.py",
            "outgoing.py",
            "shared.py",
            "master.py",
            "loglines.py",
            "gunicorn.conf.py",
        )
    ),
]
LONGEST = 400

VALUES = {"content", "registries", "oci"}
ROOMS = {
    "oci": {"oci"},
    "content": {"oci"},
    "registries": {"oci"},
    "version": set[str](),
    "addresses": set[str](),
    "environment": set[str](),
    "access": {"access", "offloop", *VALUES},
    "access_settings": {
        "access",
        "rule_settings",
        "group_settings",
        "setting_values",
        "registries",
    },
    "rule_settings": {"access", "group_settings", "setting_values", "oci"},
    "group_settings": {"access", "setting_values"},
    "limit_settings": {"access", "setting_values"},
    "loading": {"environment", "settings", "registry_settings", "rule_settings", "setting_values"},
    "settings": {
        "environment",
        "access_settings",
        "cache_settings",
        "limit_settings",
        "page_settings",
        "setting_values",
        "registry_settings",
        "registries",
        "upstream_settings",
        "well_known",
    },
    "cache_settings": {"setting_values"},
    "upstream_settings": {"setting_values"},
    "page_settings": {"setting_values"},
    "registry_settings": {"addresses", "setting_values", "registries", "well_known"},
    "setting_values": {"well_known"},
    "well_known": {"registries"},
    "logs": set[str](),
    "exchange": {"content", "registries"},
    "metrics": {"metrics", "exchange", *VALUES},
    "routes": {"routes", "access", "logs", "exchange", "version", *VALUES},
    "web": {"web", "routes", "version", *VALUES},
    "cache": {"cache", "store", "spools", "offloop", *VALUES},
    "doctor": {"doctor", "version", "loading", "settings", "cache_settings", *VALUES},
    "cli": {"cli", "access", "cache", "store", *VALUES},
    "offloop": set[str](),
    "store": {"store", "offloop", "oci"},
    "spools": {"spools", "logs", "offloop", *VALUES},
    "upstream": {"upstream", "offloop", "addresses", "version", *VALUES},
}
"""What each room of app may import of app; a new room gets its line here."""

LIBRARIES = {
    "flask": {"app", "routes", "web", "cli", "startup"},
    "bcrypt": {"access"},
    "click": {"cli"},
    "jwt": {"access"},
    "limits": {"access"},
    "redis": {"access"},
    "jinja2": {"web"},
    "markupsafe": {"web"},
    "werkzeug": {"app", "routes", "web"},
    "requests": {"upstream"},
    "urllib3": {"upstream"},
    "pydantic": {
        "app",
        "environment",
        "loading",
        "settings",
        "registry_settings",
        "setting_values",
        "access_settings",
        "group_settings",
        "rule_settings",
        "cache_settings",
        "page_settings",
        "upstream_settings",
        "limit_settings",
    },
    "pydantic_settings": {"settings", "environment"},
    "gevent": {"worker", "incoming", "outgoing", "offloop"},
    "gunicorn": {"worker", "incoming", "master", "serve", "gunicorn.conf"},
    "connections": {"worker", "incoming", "outgoing"},
    "incoming": {"worker"},
    "outgoing": {"worker"},
    "shared": {"worker", "upstream", "metrics", "access", "master", "gunicorn.conf"},
    "master": {"gunicorn.conf", "wsgi", "serve"},
    "startup": {"wsgi"},
    "loglines": {"gunicorn.conf", "startup", "logs", "routes"},
    "prometheus_client": {"metrics"},
    "certifi": {"upstream"},
    "publicsuffixlist": {"upstream"},
    "_typeshed": {"outgoing"},
}
"""Which rooms may import a library; `app` is app/__init__.py, the wiring.

`_typeshed` exists for type checkers only: a module that really imported it could not start.
"""

STARTS = {"wsgi", "worker", "gunicorn.conf"}
ENVIRONMENT = {"loading", "master", "serve", "gunicorn.conf"}
"""Where os.environ may be read."""


@dataclass(frozen=True)
class Module:
    """One module: the room it is in, and its source."""

    name: str
    source: str

    @property
    def room(self) -> str:
        """Return `routes` for app/routes/x.py, `settings` for app/settings.py."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == "app" and len(parts) > 1 else self.name

    def imports(self) -> Iterator[str]:
        """Name every module, and everything taken from one, that is imported anywhere in it."""
        for node in ast.walk(ast.parse(self.source)):
            match node:
                case ast.Import():
                    yield from (alias.name for alias in node.names)
                case ast.ImportFrom():
                    module = "." * node.level + (node.module or "")
                    yield from (f"{module}.{alias.name}" for alias in node.names)

    def faults(self) -> list[str]:
        """Tell everything that is forbidden here."""
        found = [fault for name in self.imports() if (fault := self._fault(name))]
        if _reads_environment(self.source) and self.room not in ENVIRONMENT:
            found.append(f"{self.name} reads os.environ")
        if ast.get_docstring(ast.parse(self.source)) is None:
            found.append(f"{self.name} has no docstring")
        if (length := len(self.source.splitlines())) > LONGEST:
            found.append(f"{self.name} has {length} lines")
        return found

    def _fault(self, name: str) -> str:
        first, _, rest = name.partition(".")
        fault = f"{self.name} imports {name}"
        if first == "":
            return f"{fault} relatively"
        if first in LIBRARIES:
            return "" if self.room in LIBRARIES[first] else fault
        if first in sys.stdlib_module_names:
            return ""
        if first != "app":
            return f"{fault}, which no room is known to use"
        if self.room in {"app", "wsgi", "startup"}:
            return ""
        return "" if rest.split(".")[0] in ROOMS.get(self.room, set()) else fault


def _reads_environment(source: str) -> bool:
    tree = ast.parse(source)
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    taken = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }
    return bool({"environ", "environb", "getenv", "getenvb", "putenv"} & (names | taken)) and (
        "os" in set(_names(tree)) or bool(taken)
    )


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id


def module(path: Path) -> Module:
    """Read one file of this project."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_house_is_in_order(path: Path) -> None:
    """No forbidden import, no environment read elsewhere, a docstring, and not too long."""
    assert module(path).faults() == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_room_has_its_rules(path: Path) -> None:
    """A room that nobody has thought about is a fault."""
    assert module(path).room in {*ROOMS, "app"}


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        pytest.param("app.oci.x", "import requests", "imports requests", id="requests in oci"),
        pytest.param("app.oci.x", "import yaml", "imports yaml", id="a library in oci"),
        pytest.param(
            "app.oci.x", "from app.content import Reply", "imports app.content.Reply", id="up"
        ),
        pytest.param(
            "app.content", "from app.registries import Registry", "imports app.reg", id="sideways"
        ),
        pytest.param(
            "app.upstream.x", "from flask import g", "imports flask.g", id="flask in upstream"
        ),
        pytest.param("app.upstream.x", "from app import routes", "imports app.routes", id="routes"),
        pytest.param(
            "app.routes.x", "import urllib3.exceptions", "imports urllib3", id="urllib3 in routes"
        ),
        pytest.param(
            "app.routes.x", "from app.upstream import client", "imports app.upstream", id="upstream"
        ),
        pytest.param(
            "app.routes.x", "from app.settings import Settings", "imports app.set", id="settings"
        ),
        pytest.param(
            "app.routes.x",
            "from app.setting_values import BaseUrl",
            "imports app.set",
            id="values of settings",
        ),
        pytest.param(
            "app.setting_values",
            "from app.settings import PREFIX",
            "imports app.settings",
            id="settings in their values",
        ),
        pytest.param(
            "app.setting_values",
            "import os\nos.environ['X']",
            "reads os.env",
            id="environ of values",
        ),
        pytest.param("app.cache.x", "import app.upstream.body", "imports app.up", id="cache"),
        pytest.param("app.routes.x", "import pydantic", "imports pydantic", id="pydantic"),
        pytest.param("app", "import gevent", "imports gevent", id="gevent in app"),
        pytest.param("app.logs", "import gevent.monkey", "imports gevent", id="gevent below"),
        pytest.param("app.oci.x", "from . import scope", "relatively", id="relative"),
        pytest.param("gunicorn.conf", "import app.settings", "imports app.settings", id="config"),
        pytest.param("worker", "from app import content", "imports app.content", id="worker"),
        pytest.param(
            "app.oci.x", "def f():\n    import requests", "imports requests", id="in a function"
        ),
        pytest.param("app.logs", "import os\nos.environ['X']", "reads os.environ", id="environ"),
        pytest.param("app.logs", "from os import environ", "reads os.environ", id="environ taken"),
        pytest.param("app.logs", "import os\nos.getenv('X')", "reads os.environ", id="getenv"),
        pytest.param("app.new.x", "from app.oci import scope", "imports app.oci", id="new room"),
        pytest.param("app.oci.x", "x = 1\n" * 401, "has 402 lines", id="long"),
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
    source = '"""Docstring: os.environ, gevent."""\nimport re\nfrom app.oci import scope\n'
    assert Module("app.upstream.x", f"{source}import requests\nx.environ = 1\n").faults() == []

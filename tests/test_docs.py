"""The documents say what is true: settings, links, paths, versions, names of the code.

docs/configuration.md holds the table of settings between `<!-- settings -->` and
`<!-- /settings -->`; where it differs from the model, the failure is the block to paste.
"""

import ast
import builtins
import functools
import itertools
import keyword
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import AliasChoices, SecretStr
from pydantic_core import PydanticUndefined

from app.config.load import CONFIG_MEANING, CONFIG_VARIABLE
from app.config.registries import RegistrySettings
from app.config.rules import RuleSettings
from app.config.settings import (
    FILE_ONLY,
    AccessSettings,
    CacheSettings,
    LimitSettings,
    PageSettings,
    Settings,
    UpstreamSettings,
)
from app.oci import headers
from app.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$", re.MULTILINE)
PATH = re.compile(r"(?<![\w./-])(?:(?:app|bench|deploy|docs|tests|\.ci)/[\w./-]*)")
SCRIPT = re.compile(r"`([\w.-]+\.py)`")
ROOT_FILE = re.compile(
    r"`(Makefile|Dockerfile|Procfile|LICENSE|\.python-version|app\.json|pyproject\.toml|"
    r"requirements[\w-]*\.txt|gunicorn\.conf\.py)`"
)

EXPLAINED = [ROOT / "docs" / "architecture.md", *sorted(ROOT.glob("docs/decisions/**/*.md"))]
"""The pages that speak of the code."""
SOURCES = [*ROOT.glob("*.py"), *ROOT.glob("app/**/*.py"), *ROOT.glob("server/**/*.py")]
CODE = re.compile(r"`((?!\d)\w+(?:\.\w+)*)(?<!\.py)(?<!\.conf)(?<!\.yaml)(?<!\.txt)(?:\([^`]*\))?`")
"""A name of the code in backticks, dotted or called, and not that of a file."""
CLASS = re.compile(r"(?<![\w.`/-])(_[A-Z][a-z]\w+|(?:[A-Z][a-z]+){2,}|(?<=aise )[A-Z]\w+)\b(?!-)")
"""The name of a class without backticks: private, of several words, or an error that is raised."""
PLACED = re.compile(CODE.pattern + r"\s(?:in\s|\()`([\w/.-]+\.py)`")
"""A name of the code, and the file that has it: `X` in `path`, `X` (`path`)."""
ELSEWHERE = {
    # Python, Flask, Werkzeug, gunicorn and SQLite
    "parse_range_header", "parse_content_range_header", "parse_if_range_header",
    "is_resource_modified",
    "Condition.__enter__", "ipaddress.is_global", "is_global", "request.max_content_length",
    "max_response_headers", "gthread", "gunicorn_h1c", "SELECT",
    # HTTP, Linux, registries and their clients
    "Expires", "Pragma", "RateLimit", "SIOCOUTQ", "TCP_USER_TIMEOUT", "RegistryMirrorConfig",
    "inspect",
    # examples, parts of names, and the four bytes that name the index
    "groups.team", "crypto", "_total", "docxy_upstream_", "Docx",
    # products
    "GitHub", "GitLab", "JavaScript",
}  # fmt: skip
"""Names that documents use and that are not in Docxy's code."""

PARTS = (UpstreamSettings, CacheSettings, PageSettings, AccessSettings, LimitSettings)
"""What Settings has of its bases, in the order of the table."""


def settings_table() -> str:
    """Render every setting that has a variable: name, default, meaning."""
    rows = [(f"`{CONFIG_VARIABLE}`", "unset", CONFIG_MEANING)]
    fields = Settings.model_fields
    # pydantic names those of a base first.
    parts = [name for part in PARTS for name in part.model_fields]
    own = [name for name in fields if name not in parts]
    for name in [*own, *parts]:
        field = fields[name]
        if name not in FILE_ONLY and name not in {"port", "web_concurrency"}:  # gunicorn's, below
            rows.append((_variables(name), _default(field.default), field.description or ""))
    return _table("settings", rows)


def registries_table() -> str:
    """Render every key of a table `[[registries]]`, and what stands beside those tables."""
    rows = [("`default`", "unset", Settings.model_fields["default"].description or "")]
    rows += [
        (f"`{name}`", _default(field.default), field.description or "")
        for name, field in RegistrySettings.model_fields.items()
    ]
    return _table("registries", rows)


def rules_table() -> str:
    """Render every key of a table `[[rules]]`."""
    rows = [
        (f"`{name}`", _default(field.default), field.description or "")
        for name, field in RuleSettings.model_fields.items()
    ]
    return _table("rules", rows)


def _table(marker: str, rows: list[tuple[str, str, str]]) -> str:
    lines = ["| name | default | meaning |", "| --- | --- | --- |"]
    lines += [f"| {name} | {default} | {_cell(meaning)} |" for name, default, meaning in rows]
    return "\n".join([f"<!-- {marker} -->", *lines, f"<!-- /{marker} -->"])


def _variables(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [Settings.variable(field)]
    return " or ".join(f"`{choice}`" for choice in choices)


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None or value in {"", ()} or isinstance(value, SecretStr):
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{_cell(str(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


@functools.cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


def broken_links(text: str, at: Path) -> list[str]:
    """Return the relative links that lead to no file, or to no heading of one."""
    broken = []
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (at.parent / path).resolve() if path else at
        exists = there.exists() and there.is_relative_to(ROOT)
        if not exists or (anchor and anchor not in {_slug(one) for one in _headings(there)}):
            broken.append(target)
    return broken


@functools.cache
def _headings(path: Path) -> list[str]:
    return HEADING.findall(FENCE.sub("", _text(path)))


def missing_paths(text: str) -> list[str]:
    """Return the paths of this project that a text names and that do not exist."""
    named = [path.rstrip("./-") for path in PATH.findall(text)]
    missing = [path for path in named if path and not _exists(path)]
    missing += [name for name in SCRIPT.findall(text) if name not in _scripts()]
    missing += [name for name in ROOT_FILE.findall(text) if not (ROOT / name).exists()]
    return missing


@functools.cache
def _scripts() -> set[str]:
    return {path.name for path in ROOT.glob("*.py")} | {
        path.name
        for folder in ("app", "tests", "bench", "deploy")
        for path in (ROOT / folder).rglob("*.py")
    }


def _exists(path: str) -> bool:
    """Tell whether a file, a folder or a module (`app/content`) is there."""
    return (ROOT / path).exists() or (ROOT / f"{path}.py").exists()


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_text(path))


@functools.cache
def _docstrings(path: Path) -> list[ast.Constant]:
    """Return the strings that stand alone: those of modules, classes, functions, attributes."""
    return [
        node.value
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


@functools.cache
def _names_in(path: Path) -> frozenset[str]:
    """Return what a file defines or uses, and the words of its literals without spaces."""
    names = set(path.relative_to(ROOT).with_suffix("").parts)
    docstrings = set(_docstrings(path))
    for node in ast.walk(_tree(path)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name):
                names.add(name)
            case ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.update(f"{name}.{other}".split("."))
            case ast.Constant(value=str(text)) if node not in docstrings and " " not in text:
                names.update(re.findall(r"\w+", text))
    return frozenset(names)


@functools.cache
def _names() -> frozenset[str]:
    """Return the names of the whole tree, the settings, and Python's own words."""
    return frozenset().union(
        *(_names_in(path) for path in SOURCES),
        {Settings.variable(name) for name in Settings.model_fields},
        dir(builtins),
        keyword.kwlist,
    )


@functools.cache
def _owners() -> dict[str, frozenset[str]]:
    """Return the names in the files of each class, and of each module that is no class."""
    owners: dict[str, frozenset[str]] = {}
    for path in SOURCES:
        defined = [one.name for one in ast.walk(_tree(path)) if isinstance(one, ast.ClassDef)]
        for owner in {path.stem, *defined}:
            owners[owner] = owners.get(owner, frozenset()) | _names_in(path)
    return owners


def dead_names(text: str) -> list[str]:
    """Return what a text calls by a name, in backticks, that the code does not have.

    Of a dotted name the second part has to be in the file of the class, or of the module, that
    the first part names. Names that the text places in a file are left to `misplaced_names`.
    """
    dead = []
    text = PLACED.sub(lambda found: "" if (ROOT / found[2]).exists() else found[0], text)
    for name in (*CODE.findall(text), *CLASS.findall(FENCE.sub("", text))):
        parts = name.split(".")
        pairs = itertools.pairwise(parts)
        known = _names().issuperset(parts)
        moved = any(member not in _owners().get(of, {member}) for of, member in pairs)
        if name not in ELSEWHERE and (moved or not known):
            dead.append(name)
    return dead


def misplaced_names(text: str) -> list[str]:
    """Return the names that a text places in a file which does not have them."""
    return [
        f"{name} in {path}"
        for name, path in PLACED.findall(text)
        if (ROOT / path).exists() and not _names_in(ROOT / path).issuperset(name.split("."))
    ]


@pytest.mark.parametrize(
    "table",
    [settings_table(), registries_table(), rules_table()],
    ids=["env", "registries", "rules"],
)
def test_settings_tables(table: str) -> None:
    """The tables in docs/configuration.md are the models'."""
    text = _text(ROOT / "docs" / "configuration.md")
    begin, end = table.splitlines()[0], table.splitlines()[-1]
    assert text.count(begin) == 1
    assert text.count(end) == 1
    written = begin + text.partition(begin)[2].partition(end)[0] + end
    if written != table:
        pytest.fail(f"docs/configuration.md must hold this block:\n\n{table}\n")


def test_the_lists_of_headers() -> None:
    """The table in docs/registries.md has the headers that pass, and no others."""
    section = _text(ROOT / "docs" / "registries.md").partition("<!-- headers -->")[2]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.partition("<!-- /headers -->")[0].strip().splitlines()[2:]
    ]
    written = [
        {
            name.lower()
            for row in rows
            if row[column] != "no"
            for name in re.findall("`(.+?)`", row[0])
        }
        for column in (1, 2, 3)
    ]
    assert written == [headers.UP, headers.ELSEWHERE, headers.DOWN]


def test_secrets_are_not_shown() -> None:
    """The rendering itself: one row for each setting, a secret without a value."""
    rows = settings_table().splitlines()
    assert len(rows) == len(Settings.model_fields) - len(FILE_ONLY) + 3
    assert _default(SecretStr("s3cr3t")) == "unset"
    assert _default(None) == "unset"
    assert _default(5) == "`5`"
    assert _cell("a|b\nc") == "a\\|b c"


def test_the_cache_page_has_its_settings() -> None:
    """Its table names each of them, and nothing else."""
    section = (
        _text(ROOT / "docs" / "cache.md").partition("\n## Settings\n")[2].partition("\n## ")[0]
    )
    named = re.findall(r"^\| `(DOCXY_\w+)` \|", section, re.MULTILINE)
    assert named == [Settings.variable(name) for name in CacheSettings.model_fields]


def test_settings_that_are_named_exist() -> None:
    """A name that is spelled wrong stops Docxy's start."""
    known = {Settings.variable(name) for name in Settings.model_fields}
    known |= {CONFIG_VARIABLE, "DOCXY_PORT"}  # the second one is Kubernetes', and is ignored
    variable = re.compile(r"\bDOCXY_[A-Z0-9_]*[A-Z0-9]\b(?![*.…])")
    unknown = {path: set(variable.findall(_text(path))) - known for path in DOCUMENTS}
    assert {path: names for path, names in unknown.items() if names} == {}


def test_links() -> None:
    """Every relative link leads somewhere."""
    broken = {path: broken_links(_text(path), path) for path in DOCUMENTS}
    assert {path: links for path, links in broken.items() if links} == {}


def test_paths() -> None:
    """Every file of this project that is named is there; the changelog may name former ones."""
    missing = {
        path: missing_paths(_text(path)) for path in DOCUMENTS if path.name != "CHANGELOG.md"
    }
    assert {path: paths for path, paths in missing.items() if paths} == {}


def test_names_in_documents() -> None:
    """The pages about the code call it by the names that it has, in the files that they name."""
    wrong = {path: dead_names(_text(path)) + misplaced_names(_text(path)) for path in EXPLAINED}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_names_in_docstrings() -> None:
    """So do docstrings."""
    wrong = {
        f"{path}:{docstring.lineno}": dead_names(str(docstring.value))
        for path in SOURCES
        for docstring in _docstrings(path)
    }
    assert {place: names for place, names in wrong.items() if names} == {}


def test_nothing_was_lost() -> None:
    """The page of reliability is of a run in which only what is pulled directly was lost."""
    text = _text(ROOT / "docs" / "reliability.md")
    rows = re.findall(r"^\| (.*) \| [0-9,]+ \| [0-9,]+ \| (.*) \|$", text, re.MULTILINE)
    lost = [name for name, count in rows if count != "0"]
    assert lost == ["pulls of real clients that meet one fault each, directly"]
    assert "What went wrong" not in text


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "docs/configuration.md"])
def test_documents_are_there(name: str) -> None:
    """The tests above have something to read."""
    assert (ROOT / name) in DOCUMENTS


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        pytest.param("[a](docs/configuration.md)", [], id="there"),
        pytest.param("[a](docs/nowhere.md)", ["docs/nowhere.md"], id="not there"),
        pytest.param("[a](docs/configuration.md#examples)", [], id="heading"),
        pytest.param("[a](README.md#nothing)", ["README.md#nothing"], id="no heading"),
        pytest.param("[a](https://example.com/x.md)", [], id="elsewhere"),
        pytest.param("[a](../outside.md)", ["../outside.md"], id="outside"),
        pytest.param("![a](docs/no.svg)", ["docs/no.svg"], id="picture"),
        pytest.param("```\n[a](docs/nowhere.md)\n```", [], id="code"),
    ],
)  # fmt: skip
def test_broken_links_are_found(text: str, broken: list[str]) -> None:
    """The test of the test."""
    assert broken_links(text, ROOT / "README.md") == broken


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        pytest.param("see `app/config/settings.py`, tests/conftest.py.", [], id="there"),
        pytest.param("see `app/nowhere.py`.", ["app/nowhere.py"], id="not there"),
        pytest.param("see `wsgi.py` and `client.py`", [], id="scripts"),
        pytest.param("see `nowhere.py`", ["nowhere.py"], id="no script"),
        pytest.param("`/var/lib/docs/x`, https://x.example/docs/y", [], id="of others"),
        pytest.param("`app/`", [], id="folder"),
        pytest.param("`app/source`, `app/nothing`", ["app/nothing"], id="modules"),
    ],
)
def test_missing_paths_are_found(text: str, missing: list[str]) -> None:
    """The test of the test."""
    assert missing_paths(text) == missing


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        pytest.param("`Gate.open`, `open()` and `Settings.variable('x')`", [], id="there"),
        pytest.param("`nowhere`", ["nowhere"], id="not there"),
        pytest.param("`Gate.nowhere`", ["Gate.nowhere"], id="no attribute"),
        pytest.param("`Gate.read_version`", ["Gate.read_version"], id="another's attribute"),
        pytest.param("`gate.OperationKind`", ["gate.OperationKind"], id="not in the module"),
        pytest.param("`DOCXY_GRANT_TTL`, `None`, `docxy.none`", [], id="words"),
        pytest.param("`wsgi.py`, `registries.conf`, `30d`, `a-b`", [], id="no names"),
        pytest.param("Raise Nothing, or _Nobody.", ["Nothing", "_Nobody"], id="classes"),
        pytest.param("Raise BodyBroken on GitHub.", [], id="known classes"),
    ],
)
def test_dead_names_are_found(text: str, dead: list[str]) -> None:
    """The test of the test."""
    assert dead_names(text) == dead


@pytest.mark.parametrize(
    ("text", "misplaced"),
    [
        pytest.param("`Gate` in `app/cache/authz/gate.py`", [], id="there"),
        pytest.param("(`Gate.open` in `app/source.py`)", ["Gate.open in app/source.py"], id="in"),
        pytest.param("`ROOT` in `tests/test_docs.py`", [], id="in a test"),
        pytest.param("`Gate` (`app/source.py`)", ["Gate in app/source.py"], id="parentheses"),
    ],
)
def test_misplaced_names_are_found(text: str, misplaced: list[str]) -> None:
    """The test of the test."""
    assert misplaced_names(text) == misplaced


def test_changelog() -> None:
    """There is a place for what comes next, above what was released."""
    headings = [line for line in _text(ROOT / "CHANGELOG.md").splitlines() if line[:3] == "## "]
    assert headings[:1] == ["## [Unreleased]"]


def test_version() -> None:
    """The version that is told is the project's."""
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]
    assert project["version"] == VERSION

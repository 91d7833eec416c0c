"""Each log line is a sentence and fields, and docs/operations.md says what each field means."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.test_architecture import MODULES, ROOT, Module

SENTENCES = {"debug", "info", "warning", "error", "exception", "critical", "log"}
LOGS = {"logger", "log"}
"""What loggers are called in this project; `log` is gunicorn's, of its workers and its master."""
LINE_OF_A_REQUEST = {"app.routes.context", "app.routes.access_log", "app.routes.render"}
"""Modules that put fields together in several steps; the wire test sees what comes of it."""
PAIR = re.compile(r"\w=|%[a-z]|\{")
QUOTED = re.compile(r"\b(?:INFO|WARNING|ERROR) `([^`]+)`")
"""A message as the documents quote it, whole or its beginning."""


@cache
def documented_fields() -> set[str]:
    """Return the fields of the table in docs/operations.md."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    _, _, table = text.partition("<!-- fields -->")
    rows = re.findall(r"^\| (`[^|]*`) \|", table.partition("<!-- /fields -->")[0], re.MULTILINE)
    return {name.strip("`") for row in rows for name in row.split(", ")}


class Source:
    """One module, as far as it logs."""

    def __init__(self, module: Module) -> None:
        self.name = module.name
        self.tree = module.tree
        self.faults: list[str] = []
        self.fields: set[str] = set()
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        for function in (one for one in ast.walk(self.tree) if isinstance(one, functions)):
            for call in _calls(function):
                self._look(call, function)
        if self.name in LINE_OF_A_REQUEST:
            self.fields |= _keys_of(self.tree, {"line", "fields", "told"})

    def _look(self, call: ast.Call, function: ast.AST) -> None:
        assert isinstance(call.func, ast.Attribute)
        arguments = call.args[1:] if call.func.attr == "log" else call.args
        where = f"{self.name}:{call.lineno}"
        if len(arguments) != 1:
            self.faults.append(f"{where} formats its sentence")
        elif isinstance(arguments[0], ast.Constant):
            if PAIR.search(str(arguments[0].value)):
                self.faults.append(f"{where} has a field in its sentence")
        elif not isinstance(arguments[0], ast.Name):
            self.faults.append(f"{where} makes its sentence")
        for keyword in call.keywords:
            if keyword.arg == "extra":
                self._look_at_extra(keyword.value, function, where)

    def _look_at_extra(self, extra: ast.expr, function: ast.AST, where: str) -> None:
        match extra:
            case ast.Dict(keys=[ast.Constant(value="fields")], values=[ast.Dict() as fields]):
                self.fields |= set(_names(fields))
            case ast.Dict(keys=[ast.Constant(value="fields")], values=[ast.Name(id=name)]):
                self.fields |= _keys_of(function, {name})
            case _:
                self.faults.append(f"{where} has something beside its fields")


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    """Return the calls that write a line."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name in LOGS and node.func.attr in SENTENCES:
                yield node


def _keys_of(tree: ast.AST, names: set[str]) -> set[str]:
    """Return the keys of what is put into dictionaries that are called so."""
    found: set[str] = set()
    for target, value in _assigned(tree):
        match target:
            case ast.Name(id=name) if name in names:
                found |= {key for one in ast.walk(value) for key in _names(one)}
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=key)):
                found |= {str(key)} if name in names else set()
    return found


def _assigned(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.expr]]:
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[target], value=value):
                yield target, value
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield target, value
            case ast.AugAssign(target=target, value=value):
                yield target, value


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Dict):
        yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))


@cache
def sources() -> list[Source]:
    """Return all modules, each read once."""
    return [Source(module) for module in MODULES]


def test_a_line_is_a_sentence_and_fields() -> None:
    """No sentence has a value in it, and no field is unknown to operators."""
    assert [fault for one in sources() for fault in one.faults] == []
    unknown = {one.name: one.fields - documented_fields() for one in sources()}
    assert {name: fields for name, fields in unknown.items() if fields} == {}


def test_no_field_is_documented_for_nothing() -> None:
    """What no line has any more is in no table."""
    written = {"time", "level", "logger", "message", "traceback"}
    in_steps = {
        "registry",
        "repository",
        "reference",
        "cache",
        "duration_seconds",
        "reset_seconds",
        "request_id",
    }
    known = written.union(in_steps, *(one.fields for one in sources()))
    assert documented_fields() - known == set()


def test_no_message_is_documented_for_nothing() -> None:
    """What the documents quote is what the code writes."""
    nodes = (node for one in sources() for node in ast.walk(one.tree))
    written = [node.value for node in nodes if isinstance(node, ast.Constant)]
    messages = tuple(text for text in written if isinstance(text, str))
    quoted = {
        text
        for page in sorted((ROOT / "docs").glob("*.md"))
        for text in QUOTED.findall(page.read_text(encoding="utf-8"))
    }
    assert len(quoted) > 20
    assert [text for text in quoted if not any(one.startswith(text) for one in messages)] == []


def test_the_lines_are_found() -> None:
    """The test of the test: it has seen what it is about."""
    loud = {one.name for one in sources() if one.fields}
    assert {"app.upstream.http.errors", "app.cache.disk", "server.worker", "gunicorn.conf"} <= loud


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        pytest.param('logger.info("Ready. a=%s", 1)', "formats", id="an argument"),
        pytest.param('logger.info("Ready. a=1")', "has a field", id="a pair"),
        pytest.param('logger.info("Ready %s")', "has a field", id="a place for one"),
        pytest.param('logger.info(f"Ready {1}")', "makes", id="an f-string"),
        pytest.param('logger.log(20, "Ready. a=1")', "has a field", id="any level"),
        pytest.param('self.log.error("Ready. %s", 1)', "formats", id="gunicorn's"),
        pytest.param('logger.info("Ready.", extra={"a": 1})', "beside", id="no fields"),
        pytest.param('logger.info("Ready.", extra=told())', "beside", id="whatever"),
    ],
)
def test_what_is_forbidden_is_found(call: str, fault: str) -> None:
    """Each in its way."""
    (found,) = Source(Module("app.x", f"def f():\n    {call}\n")).faults
    assert fault in found


@pytest.mark.parametrize(
    "lines",
    [
        'logger.info("Ready.", extra={"fields": {"a": 1, "b": 2}})',
        'told = {"a": 1}\n    told["b"] = 2\n    logger.info("Ready.", extra={"fields": told})',
        'told = {"a": 1} | {"b": 2}\n    logger.info("Ready.", extra={"fields": told})',
    ],
)
def test_fields_are_found(lines: str) -> None:
    """However they come together in a function."""
    found = Source(Module("app.x", f"def f():\n    {lines}\n"))
    assert (found.faults, found.fields) == ([], {"a", "b"})

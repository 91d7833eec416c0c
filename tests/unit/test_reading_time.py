"""Whatever a client or a registry sends is read in a time that grows as its length does.

One worker serves thousands of downloads: none of them moves while a text is read.
"""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Final, NamedTuple

import pytest
from werkzeug.routing import Map, Rule

from app import addresses
from app.access import rules
from app.cache.authz import callers
from app.oci import challenge, conditional, documents, headers, image, media_types, scope
from app.oci.errors import RegistryError
from app.oci.reference import Digest
from app.registries import Registries, Registry
from app.routes import flask_app
from app.routes.forwarded import ForwardedHeaders
from app.upstream import replies
from app.upstream.auth.issued import AnonymousTokens
from app.web import images, shown
from app.web.proxy import Proxy
from app.web.rewriting import rewrite_text
from tests.test_architecture import MODULES
from tests.unit.attacks import LONGEST, Read, fault, texts_for, texts_of


class Use(NamedTuple):
    """A pattern that a module compiles, and the methods that are called on it."""

    module: str
    name: str
    methods: tuple[str, ...]

    @property
    def pattern(self) -> "re.Pattern[str]":
        """The pattern; one of bytes as one of text."""
        found = getattr(importlib.import_module(self.module), self.name)
        assert isinstance(found, re.Pattern)
        if isinstance(found.pattern, bytes):
            return re.compile(found.pattern.decode("latin-1"), found.flags | re.ASCII)
        return found

    def reads(self) -> Iterator[Read]:
        """Give what reads a text with it, in each way that is used."""
        pattern = self.pattern
        if "match" in self.methods:
            yield pattern.match
        if "fullmatch" in self.methods:
            yield pattern.fullmatch
        if not {*self.methods} <= {"match", "fullmatch"}:
            yield lambda text: [*pattern.finditer(text)]


MADE: Final = {
    "app.access.rules": "globs of rules",
    "app.registries": "tags of tokens",
    "app.web.shown": "addresses on the page",
}
"""Modules that make patterns of settings, and the reader below that uses them."""

PARTS: Final = 4
"""Tests that the patterns are divided among, so that more than one process can try them."""

_CALLS: Final = {"compile", "match", "fullmatch", "search", "finditer", "findall", "split", "sub"}


def _trees() -> Mapping[str, ast.Module]:
    return {module.name: module.tree for module in MODULES}


def _compiled(tree: ast.Module) -> dict[str, ast.Call]:
    """Return the patterns that a module compiles once, by their names."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_call_of_re(node.value):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            assert isinstance(target, ast.Name)
            assert isinstance(node.value, ast.Call)
            found[target.id] = node.value
    return found


def _is_call_of_re(node: ast.AST | None) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in _CALLS
    )


def _methods(trees: Mapping[str, ast.Module]) -> Mapping[tuple[str, str], set[str]]:
    """Return what is called of each pattern, in its own module and where it is imported."""
    found = defaultdict[tuple[str, str], set[str]](set)
    for module, tree in trees.items():
        known = {name: (module, name) for name in _compiled(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                known |= {
                    one.asname or one.name: (node.module or "", one.name) for one in node.names
                }
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id=local), attr=method) if local in known:
                    found[known[local]].add(method)
    return found


@cache
def _uses() -> list[Use]:
    """Return every pattern of the project."""
    trees = _trees()
    methods = _methods(trees)
    return [
        Use(module, name, tuple(sorted(methods[module, name])))
        for module, tree in trees.items()
        for name in _compiled(tree)
    ]


def test_every_pattern_is_found() -> None:
    """Each is compiled once for a module, where it is tried below, or made of settings."""
    others = set()
    for module, tree in _trees().items():
        once = {id(node) for node in _compiled(tree).values()}
        for node in ast.walk(tree):
            assert not _imports(node, "fnmatch"), module
            # Under another name a call would not be found.
            assert not _renames_re(node), module
            if _is_call_of_re(node) and id(node) not in once:
                others.add(module)
    assert others == {*MADE}
    assert {*MADE.values()} <= {*READERS}
    assert len(_uses()) > 80


def _renames_re(node: ast.AST) -> bool:
    match node:
        case ast.ImportFrom(module="re"):
            return True
        case ast.Import(names=names):
            return any(one.name == "re" and one.asname for one in names)
    return False


def _imports(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == name
    return isinstance(node, ast.Import) and any(one.name == name for one in node.names)


@pytest.mark.parametrize("part", range(PARTS))
def test_patterns(part: int) -> None:
    """No pattern takes longer than a scan by more than a factor."""
    faults = [
        (use, found)
        for use in _uses()[part::PARTS]
        for read in use.reads()
        if (found := fault(read, texts_for(use.pattern)))
    ]
    assert faults == []


def _link(text: str) -> object:
    return headers.parse_next_query([f'<{text}>; rel="next", {text}'])


def _acceptable(text: str) -> object:
    return media_types.is_acceptable("a/b", [text]), media_types.fingerprint([text])


_REGISTRIES: Final = Registries(
    [Registry(name="docker.io", url="https://a"), Registry(name="ghcr.io", url="https://b")]
)
_PROXY: Final = Proxy(url="https://proxy.example", registries=_REGISTRIES)
_FORWARDED: Final = ForwardedHeaders(trusted="127.0.0.1", public_url=None)
_ROUTES: Final = Map()
flask_app.register(_ROUTES)
for _path in (
    "<repository:name>/manifests/<reference:reference>",
    "<repository:name>/blobs/<digest:digest>",
    "<repository:name>/tags/list",
    "<rest:rest>",
):
    _ROUTES.add(Rule(f"/v2/{_path}", endpoint=_path))


def _came(text: str) -> object:
    environ = {
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "proxy.example",
        "HTTP_X_FORWARDED_FOR": text,
        "HTTP_X_FORWARDED_HOST": text,
        "wsgi.url_scheme": "http",
    }
    return (
        _FORWARDED.get_client_address(environ),
        _FORWARDED.is_client_known(environ),
        _FORWARDED.get_host(environ),
    )


_SIGNS: Final = (",", ";", '"', "\\", "=", " ", "a", "\x80")


class Reader(NamedTuple):
    """What reads a text of others, what such a text has in it, and how long it may be."""

    read: Read
    tokens: tuple[str, ...] = _SIGNS
    limit: int = LONGEST


_GLOBS: Final = [
    rules.compile_pattern(pattern)
    for pattern in ("**", "**a*b*c**a/*", "*a*a*a*a*b", "**/a**/b**/*c", "a/**a?**b**?c")
]

READERS: Final = {
    "Accept": Reader(_acceptable, ("a/b", "*", "q=0", *_SIGNS)),
    "Content-Type": Reader(
        lambda text: media_types.can_be_manifest(f"application/vnd.{text}"),
        ("manifest", "image.index", ".", "+", *_SIGNS),
    ),
    "WWW-Authenticate": Reader(
        lambda text: challenge.parse_challenges([text, f"Bearer {text}"]),
        ("Bearer ", "realm=", "\r\n", "~", *_SIGNS),
    ),
    "Link": Reader(_link, ("<", ">", "rel=next", "<>", *_SIGNS)),
    "Connection": Reader(
        lambda text: headers.filter_request_headers([("Connection", text), ("a", text)])
    ),
    "a field of a registry": Reader(
        lambda text: headers.filter_response_headers([("Connection", text), ("a", text)])
    ),
    "If-None-Match": Reader(
        lambda text: conditional.evaluate_conditions([("If-None-Match", text)], Digest("x")),
        ("W/", "*", *_SIGNS),
    ),
    "Range": Reader(lambda text: conditional.parse_range(f"bytes={text}"), ("0", "-", *_SIGNS)),
    "Via": Reader(lambda text: headers.mark_via([("Via", text)]), ("1.1 docxy", "1.1 a", *_SIGNS)),
    "Retry-After": Reader(
        lambda text: replies.choose_retry_after([("retry-after", text), ("ratelimit-limit", text)]),
        ("w=", "0", "-", ":", "Mon", *_SIGNS),
    ),
    "X-Forwarded": Reader(_came, ("127.0.0.1", "[", "]", "::", ":", ".", "0", *_SIGNS)),
    "Authorization": Reader(_REGISTRIES.split_token_tag, ("ghcr.io", "~", ".", "+", *_SIGNS)),
    "tags of tokens": Reader(
        _REGISTRIES.find_token_tags, ("ghcr.io", "a.b", "~", ".", "+", "-", *_SIGNS)
    ),
    "a token's claims": Reader(
        lambda text: (
            callers.parse_lifetime(f"a.{text}.b"),
            AnonymousTokens("a").is_anonymous(f"Bearer {text}"),
        ),
        (".", "e30", "-", *_SIGNS),
    ),
    "scope": Reader(scope.Scope.parse, (":", "(", "repository:", "/", *_SIGNS)),
    "ns": Reader(
        lambda text: _REGISTRIES.select(ns=text, host=text), (":443", ":0", ".", "ghcr.io", *_SIGNS)
    ),
    "a document": Reader(
        lambda text: documents.parse_object(f'{{"a": [{text}'.encode()),
        ("[", "{", '"a":', "1", "]", *_SIGNS),
    ),
    "a config": Reader(
        lambda text: image.parse_image_metadata(f'{{{text} "b": 1}}'.encode()),
        ('"a":1,', '"A":', "{", *_SIGNS),
    ),
    "a path": Reader(
        lambda text: _ROUTES.bind("a").match(f"/v2/{text}"),
        ("/", "/manifests/", "/blobs/", "/tags/list", "sha256:", ":", "-", "_", ".", "a", "a/b"),
        8 * 1024,
    ),
    "a host": Reader(
        lambda text: (addresses.is_special_host(text), addresses.parse_literal(text)),
        ("%CC%80", "%CC%96", "%", ".", "0x", "0", ":", "[", *_SIGNS),
    ),
    "an image": Reader(
        lambda text: (images.parse_image_name(text), images.parse_image_name(f"a:{text}")),
        ("$A", "${a}", "$", "{", "}", ".", ":", "@", "sha256:", "/", "-", "_", "a"),
        1024,
    ),
    "a Dockerfile": Reader(
        lambda text: rewrite_text(text, _PROXY),
        (
            "FROM ",
            "ARG ",
            "COPY --from=",
            "--mount=",
            "RUN ",
            "<<a",
            "${",
            "}",
            "# ",
            "\\",
            "\n",
            "a",
        ),
    ),
    "a compose file": Reader(
        lambda text: rewrite_text(f"services:\n{text}", _PROXY),
        ("image: ", "build:", "services:", "{", "}", "- ", "  ", '"', "'", "#", "\n", "a"),
    ),
    "commands": Reader(
        lambda text: rewrite_text(text, _PROXY),
        ("docker ", "pull ", "run ", "-e ", "--image=", "kubectl ", "'", '"', "$", "&", "\n", "a"),
    ),
    "addresses on the page": Reader(
        lambda text: shown.mark_own_addresses(text, _PROXY), ("proxy.example", "https://", "/", "a")
    ),
    "globs of rules": Reader(
        lambda text: [glob.match(text) for glob in _GLOBS], ("a", "b", "c", "/", "/a", "a/b"), 255
    ),
}
"""What reads texts by more than one pattern; limits are of what is longer than 64 KiB nowhere."""


@pytest.mark.parametrize("name", READERS)
def test_reader(name: str) -> None:
    """No header, document or text of others takes longer than a scan by more than a factor."""
    reader = READERS[name]

    def read(text: str) -> None:
        with suppress(RegistryError, ValueError):
            reader.read(text)

    assert not fault(read, texts_of(reader.tokens), reader.limit)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', id="to the end from each comma"),
        pytest.param(
            r"application/vnd\.[a-z0-9.+-]*(?:manifest|image\.index)[a-z0-9.+-]*", id="word"
        ),
        pytest.param(r'<([^<>]*)>((?:[^,"]|"(?:[^"\\]|\\.)*")*)', id="a string without its end"),
        pytest.param(r"\$(?:\{(\w+)[^{}]*\}|(\w+))", id="two classes of letters"),
        pytest.param(r"a(?::(?:\$[A-Za-z_]\w*|[\w.-])+)?", id="two ways for each letter"),
    ],
)
def test_slow_patterns_are_found(pattern: str) -> None:
    """Each of these was in use, and each stopped a worker."""
    slow = re.compile(pattern)

    def read(text: str) -> None:
        slow.fullmatch(text)
        [*slow.finditer(text)]

    assert fault(read, texts_for(slow), LONGEST // 8)  # they would take minutes of the whole

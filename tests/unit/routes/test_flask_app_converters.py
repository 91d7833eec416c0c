"""Which paths are which route, and what the converters make of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from app.oci.reference import Digest, RepositoryName, Tag
from app.routes import flask_app

SHA256 = "sha256:" + "0123456789abcdef" * 4


def url_map() -> Map:
    """Return the four routes that a pull reads, and the one for all else."""
    made = Map()
    flask_app.register(made)
    for rule, endpoint in {
        "/v2/<repository:name>/manifests/<reference:reference>": "manifest",
        "/v2/<repository:name>/blobs/<digest:digest>": "blob",
        "/v2/<repository:name>/tags/list": "tags",
        "/v2/<repository:name>/referrers/<digest:digest>": "referrers",
        "/v2/<rest:rest>": "unmatched",
    }.items():
        made.add(Rule(rule, endpoint=endpoint))
    return made


MAP = url_map()


def matched(path: str) -> tuple[str, list[object]]:
    """Return the endpoint of a path, and the values in it."""
    endpoint, values = MAP.bind("proxy.example").match(path, method="GET")
    return endpoint, list(values.values())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("nginx/manifests/latest", ("manifest", ["nginx", "latest"]), id="tag"),
        pytest.param(f"a/b/manifests/{SHA256}", ("manifest", ["a/b", SHA256]), id="digest"),
        pytest.param(f"a/b/blobs/{SHA256}", ("blob", ["a/b", SHA256]), id="blob"),
        pytest.param("a/b/tags/list", ("tags", ["a/b"]), id="tags"),
        pytest.param(f"a/referrers/{SHA256}", ("referrers", ["a", SHA256]), id="referrers"),
        pytest.param("a/b/c/d/e/f/manifests/x", ("manifest", ["a/b/c/d/e/f", "x"]), id="deep"),
        pytest.param(
            "a/manifests/b/manifests/x", ("manifest", ["a/manifests/b", "x"]), id="manifests in it"
        ),
        pytest.param(
            "manifests/manifests/manifests/manifests",
            ("manifest", ["manifests/manifests", "manifests"]),
            id="nothing but manifests",
        ),
        pytest.param(f"blobs/blobs/{SHA256}", ("blob", ["blobs", SHA256]), id="blobs"),
        pytest.param("tags/list/tags/list", ("tags", ["tags/list"]), id="tags in it"),
        pytest.param("tags/manifests/list", ("manifest", ["tags", "list"]), id="tag called list"),
        pytest.param("a/tags/manifests/x", ("manifest", ["a/tags", "x"]), id="ends with tags"),
        pytest.param("a__b/c--d/e.f/manifests/_", ("manifest", ["a__b/c--d/e.f", "_"]), id="dots"),
        pytest.param("a/manifests/x-Y.1_", ("manifest", ["a", "x-Y.1_"]), id="every character"),
    ],
)
def test_matched(path: str, expected: tuple[str, list[object]]) -> None:
    """The last word of the protocol in a path is the one that counts."""
    assert matched(f"/v2/{path}") == expected


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("A/manifests/x", id="upper case"),
        pytest.param("a//b/manifests/x", id="two slashes"),
        pytest.param("/a/manifests/x", id="two slashes at the beginning"),
        pytest.param("a/../b/manifests/x", id="parent"),
        pytest.param("a/./b/manifests/x", id="self"),
        pytest.param("a/manifests/", id="no reference"),
        pytest.param("a/manifests/x/", id="slash at the end"),
        pytest.param("a/manifests/x/y", id="slash in a tag"),
        pytest.param("a/manifests/" + "x" * 129, id="long tag"),
        pytest.param("a/manifests/sha256:abc", id="short digest"),
        pytest.param("a/blobs/latest", id="blob by tag"),
        pytest.param("a/blobs/" + SHA256.upper(), id="upper case digest"),
        pytest.param("manifests/x", id="no name"),
        pytest.param("a/tags/list/", id="slash after list"),
        pytest.param("a/tags", id="tags without list"),
        pytest.param("_catalog", id="catalog"),
        pytest.param("a:5000/b/manifests/x", id="port"),
        pytest.param("ä/manifests/x", id="not ASCII"),
        pytest.param("a\ufffd/manifests/x", id="not UTF-8"),
        pytest.param("a%2fb/manifests/x", id="percent left over"),
        pytest.param("a\0/manifests/x", id="NUL"),
    ],
)
def test_unmatched(path: str) -> None:
    """What is no name, tag or digest reaches no route of a registry."""
    assert matched(f"/v2/{path}")[0] == "unmatched"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("a\n/manifests/x", id="in a name"),
        pytest.param("a/manifests/x\n", id="behind a tag"),
        pytest.param(f"a/blobs/{SHA256}\n", id="behind a digest"),
        pytest.param("a/tags/list\n", id="behind list"),
        pytest.param("\n", id="alone"),
    ],
)
def test_newlines(path: str) -> None:
    """A newline in a path is explained like any other fault, and never cut off."""
    assert matched(f"/v2/{path}")[0] == "unmatched"


@pytest.mark.parametrize(
    ("path", "types"),
    [
        pytest.param("a/manifests/x", [RepositoryName, Tag], id="tag"),
        pytest.param(f"a/manifests/{SHA256}", [RepositoryName, Digest], id="digest"),
        pytest.param(f"a/blobs/{SHA256}", [RepositoryName, Digest], id="blob"),
        pytest.param("a/tags/list", [RepositoryName], id="tags"),
        pytest.param(f"a/referrers/{SHA256}", [RepositoryName, Digest], id="referrers"),
    ],
)
def test_values_are_parsed(path: str, types: list[type]) -> None:
    """Views get names, tags and digests, never text."""
    assert [type(value) for value in matched(f"/v2/{path}")[1]] == types


@given(st.text(alphabet="ab/.-_:A0\n ", max_size=40) | st.text(max_size=20))
def test_what_matches_parses(text: str) -> None:
    """Whatever matches a route of a registry is what the reference module calls valid."""
    try:
        endpoint, values = matched(f"/v2/{text}/manifests/{text or 'x'}")
    except HTTPException:
        return
    if endpoint == "manifest":
        assert RepositoryName.parse(str(values[0])) == values[0]
        kind = Digest if ":" in str(values[1]) else Tag
        assert kind.parse(str(values[1])) == values[1]

"""What rules deny reaches no registry, by whatever address it is asked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.access.networks import Networks
from app.access.rules import DigestSet, Rule, Rules
from app.oci.errors import ClientAddressUnknown, RuleDenied
from app.oci.reference import Digest, RepositoryName, Tag
from app.routes.context import Services
from app.source import Permit
from tests.unit.routes.conftest import Proxy

Ruling = Callable[..., Proxy]
DIGEST: Final = f"sha256:{'0' * 64}"


@pytest.fixture
def ruling(app: Flask, proxy: Proxy) -> Ruling:
    """Return what gives the proxy rules, which deny unless they say otherwise."""

    def ruled(*written: dict[str, Any]) -> Proxy:
        room: Services = app.extensions["docxy"]
        rules = [
            Rule(**{"allows": False, "number": at, **one}) for at, one in enumerate(written, 1)
        ]
        replace(room, rules=Rules(rules, room.registries)).install(app)
        return proxy

    return ruled


def test_every_view_of_a_repository_decides(app: Flask, ruling: Ruling) -> None:
    """No view is left out, whatever is added."""
    proxy = ruling({"repository": "owner/app", "message": "no"})
    values = {"name": "owner/app", "reference": "1", "digest": DIGEST}
    decided = 0
    for rule in app.url_map.iter_rules():
        if "name" not in rule.arguments or not rule.endpoint.startswith("repository."):
            continue
        _, path = rule.build(values, append_unknown=False) or ("", "")
        for method in ("GET", "HEAD"):
            answer = proxy.ask(f"proxy.example{path.removeprefix('|')}", method)
            assert answer.status_code == 403, path
        decided += 1
    assert decided == 4
    assert proxy.ask("proxy.example/page/tags?image=owner/app").status_code == 403
    assert proxy.asked == {}


def test_nobody_else_resolves_without_the_rules() -> None:
    """Only the token endpoint, which asks them of each scope, and what is outside of all views."""
    modules = (Path(__file__).parents[3] / "app").rglob("*.py")
    users = {path.name for path in modules if "_unchecked" in path.read_text(encoding="utf-8")}
    resolvers = {
        path.name
        for path in (Path(__file__).parents[3] / "app").rglob("*.py")
        if ".registries.resolve(" in path.read_text(encoding="utf-8")
    }
    assert users == {"authentication.py", "render.py", "addressing.py", "token.py"}
    assert resolvers == {"addressing.py", "proxy.py"}


def test_what_is_said(ruling: Ruling, caplog: pytest.LogCaptureFixture) -> None:
    """The client reads the message, and the log has who, what and which rule."""
    caplog.set_level("INFO")
    proxy = ruling({"allows": True, "repository": "a/b"}, {"message": "ask us"})
    answer = proxy.ask("proxy.example/v2/nginx/manifests/1")
    (error,) = (answer.json or {})["errors"]
    assert error == {"code": "DENIED", "message": "ask us", "detail": {"rule": 2}}
    (record,) = [one for one in caplog.records if one.message == "Request refused."]
    assert record.__dict__["fields"] == {
        "status": 403,
        "code": "DENIED",
        "reason": "ask us",
        "client": "127.0.0.1",
        "registry": "docker.io",
        "repository": "library/nginx",
        "reference": "1",
        "rule": 2,
    }


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example/v2/team/app/manifests/1?ns=ghcr.io",
        "proxy.example/v2/team/app/manifests/1?ns=GITHUB",
        "proxy.example/v2/ghcr.io/team/app/manifests/1",
        "proxy.example/v2/github/team/app/manifests/1",
        "proxy.example/v2/ghcr.io/team/app/manifests/1?ns=ghcr.io",
        "own.proxy.example/v2/team/app/manifests/1?ns=ghcr.io",
        "proxy.example/v2/ghcr.io/team%2Fapp/manifests/1",
        "proxy.example/v2/%67hcr.io/team/app/manifests/1",
    ],
)
def test_every_address_form(ruling: Ruling, url: str) -> None:
    """Rules have the registry's own name, whatever the client calls it."""
    proxy = ruling({"registry": "ghcr.io", "repository": "team/app"})
    assert proxy.ask(url).status_code == 403
    assert proxy.asked == {}


def test_what_is_not_denied_is_pulled(ruling: Ruling) -> None:
    """The same name at another registry, and a manifest by digest where a tag is denied."""
    proxy = ruling({"registry": "ghcr.io", "repository": "team/app"}, {"tag": "latest"})
    for path in (
        "v2/team/app/manifests/1",
        f"v2/team/app/manifests/{DIGEST}",
        f"v2/team/app/blobs/{DIGEST}",
        "v2/team/app/tags/list",
        "v2/",
    ):
        assert proxy.ask(f"proxy.example/{path}").status_code == 200
    assert [*proxy.asked] == ["docker.io"]
    assert proxy.ask("proxy.example/v2/team/app/manifests/latest").status_code == 403


def test_who_hides(ruling: Ruling) -> None:
    """Where a network decides, the operator reads what to mend."""
    proxy = ruling({"networks": Networks("192.0.2.0/24")})
    answer = proxy.client.get("/v2/a/b/manifests/1", headers={"X-Forwarded-For": "198.51.100.1"})
    assert "FORWARDED_ALLOW_IPS" in answer.text
    assert proxy.ask("proxy.example/v2/a/b/manifests/1").status_code == 200


NOTHING: Final = {"token": "docxy.none", "access_token": "docxy.none", "expires_in": 60}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_token_for_what_is_denied(ruling: Ruling, method: str) -> None:
    """It opens nothing, no token service hears of it, and the manifest's refusal is shown."""
    proxy = ruling({"repository": "team/**"})
    scopes = "scope=repository:team/app:pull&scope=repository:team/b:pull"
    if method == "GET":
        answer = proxy.ask(f"proxy.example/auth/token?{scopes}")
    else:
        answer = proxy.ask("proxy.example/auth/token", "POST", form=f"grant_type=x&{scopes}")
    assert answer.status_code == 200
    assert (answer.json or {}).items() >= NOTHING.items()
    assert proxy.asked == {}


def test_a_token_for_both(ruling: Ruling) -> None:
    """What is denied is left out; a login alone asks for no repository."""
    proxy = ruling({"repository": "team/**"})
    both = "scope=repository:team/app:pull&scope=repository:a/b:pull"
    assert proxy.ask(f"proxy.example/auth/token?{both}").status_code == 200
    asked = proxy.asked["docker.io"].token.parameters
    assert asked == [("scope", "repository:a/b:pull")]
    assert proxy.ask("proxy.example/auth/token?account=alice").status_code == 200


def permit_of(proxy: Proxy, registry: str = "docker.io") -> Permit:
    """Return what the request that reached a source asks the rules with."""
    permit = proxy.asked[registry].request.permit
    assert permit is not None
    return permit


TEAM: Final = RepositoryName("team/app")


def test_where_redirects_lead(ruling: Ruling) -> None:
    """A request takes the rules along, for who asked it; what they deny is refused as here."""
    proxy = ruling(
        {"registry": "ghcr.io", "repository": "team/**", "tag": "1", "message": "ask us"},
        {"registry": "ghcr.io", "networks": Networks("127.0.0.1"), "repository": "local/*"},
    )
    assert proxy.ask("proxy.example/v2/nginx/manifests/1").status_code == 200
    permit = permit_of(proxy)  # the request is over
    permit("ghcr.io", TEAM, Tag("2"))
    permit("ghcr.io", TEAM, None)
    permit("docker.io", TEAM, Tag("1"))
    with pytest.raises(RuleDenied, match="ask us") as caught:
        permit("ghcr.io", TEAM, Tag("1"))
    assert caught.value.detail == {"rule": 1}
    with pytest.raises(RuleDenied):
        permit("ghcr.io", RepositoryName("local/app"), None)


def test_where_redirects_lead_whoever_hides(ruling: Ruling) -> None:
    """Who hides is told so, as everywhere."""
    proxy = ruling({"registry": "ghcr.io", "networks": Networks("192.0.2.0/24")})
    hidden = {"X-Forwarded-For": "198.51.100.1"}
    assert proxy.client.get("/v2/a/b/manifests/1", headers=hidden).status_code == 200
    with pytest.raises(ClientAddressUnknown):
        permit_of(proxy)("ghcr.io", TEAM, None)


def test_where_redirects_lead_to_images_that_are_looked_at(ruling: Ruling) -> None:
    """A rule about images counts where they are asked for, so it has to be the same there."""
    digests = DigestSet(frozenset({Digest(DIGEST)}))
    proxy = ruling({"registry": "ghcr.io", "digests": digests}, {"digests": digests})
    assert proxy.ask(f"proxy.example/v2/a/b/blobs/{DIGEST}").status_code == 200
    permit = permit_of(proxy)
    permit("ghcr.io", TEAM, None)
    permit("docker.io", TEAM, Tag("1"))  # as it would be decided of what was asked for
    with pytest.raises(RuleDenied, match=r"images of ghcr\.io"):
        permit("ghcr.io", TEAM, Tag("1"))


def test_where_redirects_lead_without_rules(proxy: Proxy) -> None:
    """Nobody is asked."""
    assert proxy.ask("proxy.example/v2/nginx/manifests/1").status_code == 200
    assert proxy.asked["docker.io"].request.permit is None


SEGMENTS = st.sampled_from(
    [
        *("docker.io", "index.docker.io", "registry-1.docker.io", "ghcr.io", "github", "GHCR.io"),
        *("library", "secret", "team", "app", "SECRET", "secret.", "own", "own.example"),
        *(
            "",
            ".",
            "..",
            "%2e%2e",
            "%2E",
            "secret%00",
            "%73ecret",
            "team%2Fapp",
            "library%2fsecret",
        ),
        *("team%252Fapp", "secret;x", "secret%20", "%ef%bd%93ecret", "sécret", "\u017fecret", "v2"),
        *("library%2fsecret", "DOCKER.IO", "team/app", "library/secret"),
    ]
)
NAMESPACES = st.sampled_from(
    ["", "ns=ghcr.io", "ns=GHCR.IO", "ns=ghcr.io:443", "ns=docker.io", "ns=", "NS=ghcr.io",
     "ns=own.proxy.example", "ns=docker.io&ns=ghcr.io", "ns=gi%74hub", "ns=ghcr%2Eio"]
)  # fmt: skip
HOSTS = st.sampled_from(
    ["proxy.example", "own.proxy.example", "OWN.proxy.example.", "own.proxy.example:8443"]
)
ENDS = st.sampled_from(
    ["manifests/1", f"manifests/{DIGEST}", f"blobs/{DIGEST}", "tags/list", f"referrers/{DIGEST}"]
)
DENIED: Final = {
    ("docker.io", "library/secret"), ("ghcr.io", "team/app"), ("own.example:5000", "team/app"),
}  # fmt: skip


@given(
    path=st.lists(SEGMENTS, min_size=1, max_size=5),
    end=ENDS,
    query=NAMESPACES,
    host=HOSTS,
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
    form=st.sampled_from(["pull", "token", "page"]),
)
@hypothesis_settings(
    max_examples=4 * hypothesis_settings().max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_name_reaches_what_is_denied(  # noqa: PLR0913 - what is drawn
    ruling: Ruling,
    *,
    path: list[str],
    end: str,
    query: str,
    host: str,
    method: str,
    form: str,
) -> None:
    """No name, encoding or address form: whatever gets through is something else."""
    proxy = ruling(
        {"registry": "docker.io", "repository": "secret"},
        {"registry": "github", "repository": "team/**"},
        {"registry": "own.example:5000", "repository": "team/*"},
    )
    name = "/".join(path)
    urls = {
        "pull": f"{host}/v2/{name}/{end}?{query}",
        "token": f"{host}/auth/token?{query}&scope=repository:{name}:pull",
        "page": f"{host}/page/tags?{query}&image={name}",
    }
    proxy.ask(urls[form], method)
    for row, source in proxy.sources.items():
        for call in source.calls:
            assert (row, call.name) not in DENIED
            for _, value in call.token.parameters:
                assert not any(f":{denied}:" in value for at, denied in DENIED if at == row)
        source.calls.clear()

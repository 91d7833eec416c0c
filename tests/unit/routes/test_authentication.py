"""Who must have logged in: decided for every address, before any registry is asked."""

import base64
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.access.tokens import TokenIssuer
from app.access.users import SharedSecret
from app.config.load import load
from app.factory import create_app
from app.oci.challenge import parse_challenges
from app.routes import authentication
from app.routes.context import Services, get_services
from tests.unit.routes.conftest import ROWS, Proxy
from tests.unit.routes.test_authentication_admission import path as path_of

SECRET, KEY = "a secret of some length", "k" * 32
TOKENS = TokenIssuer(KEY.encode(), SharedSecret(SECRET))
BASIC = f"Basic {base64.b64encode(f'alice:{SECRET}'.encode()).decode()}"
WRONG = f"Basic {base64.b64encode(b'alice:wrong').decode()}"
FREE = {
    "health.health", "metrics.metrics", "metrics.figures", "drip.drip", "search.ping",
    "page.page", "page.form", "assets.asset", "config.config", "config.known", "box.rewrite",
}  # fmt: skip

Ask = Callable[..., TestResponse]


@pytest.fixture
def app(environment: pytest.MonkeyPatch) -> Flask:
    """Return an application for whoever knows one secret."""
    environment.setenv("DOCXY_CREDENTIALS", "managed")
    environment.setenv("DOCXY_SHARED_SECRET", SECRET)
    environment.setenv("DOCXY_TOKEN_KEY", KEY)
    return create_app(load())


@pytest.fixture
def proxy(app: Flask, serving: Callable[..., Proxy]) -> Proxy:
    """Return it before fakes, of which some are passthrough: that would show what goes up."""
    with app.app_context():
        guard = get_services().guard
    made = serving()
    with app.app_context():
        fakes = get_services()
    Services(
        registries=fakes.registries,
        sources=fakes.sources,
        forwarded=fakes.forwarded,
        write_timeout=60,
        guard=guard,
    ).install(app)
    return made


@pytest.fixture
def ask(proxy: Proxy) -> Ask:
    """Return what asks the proxy, by its name."""

    def asked(path: str, authorization: str = "", method: str = "GET") -> TestResponse:
        return proxy.ask(f"proxy.example{path}", method, authorization=authorization)

    return asked


def bearer(*repositories: str) -> str:
    """Return the Authorization for some repositories."""
    return f"Bearer {TOKENS.issue_access_token('alice', repositories)}"


@pytest.mark.parametrize("authorization", ["", WRONG, "Bearer x", "Digest x", "Basic", "Basic !"])
def test_every_route_is_decided(app: Flask, ask: Ask, proxy: Proxy, authorization: str) -> None:
    """No view is left out, whatever is added."""
    answered = set()
    for rule in app.url_map.iter_rules():
        for method in rule.methods or ():
            if rule.endpoint == "token.token":
                continue
            if ask(path_of(rule), authorization, method).status_code not in {401, 429}:
                answered.add(rule.endpoint)
    assert answered == FREE
    assert proxy.asked == {}


def test_a_token_for_nothing_opens_no_repository(app: Flask, ask: Ask) -> None:
    """No view of a repository takes one, whatever is added: not even the page's."""
    opened = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if ask(path_of(rule), bearer(), method).status_code != 401
    }
    others = {"challenge.challenge", "repository.unmatched", "search.search", "token.token"}
    assert opened == FREE | others


@pytest.mark.parametrize(
    "path", ["/v2/a/b/c", "/v2/_catalog", "/v2/x/blobs/uploads/", "/v2/%2e%2e/manifests/1", "/v2/A"]
)
def test_what_is_no_pull_is_decided(ask: Ask, path: str) -> None:
    """Who has not logged in learns nothing of what there is."""
    assert ask(path).status_code == 401
    assert ask(path, method="POST").status_code == 401
    assert ask(path, bearer(), "POST").status_code == 405


@pytest.mark.parametrize(
    ("path", "scope", "realm"),
    [
        ("/v2/", None, "http://proxy.example/auth/token"),
        ("/v2/nginx/manifests/1", "repository:nginx:pull", "http://proxy.example/auth/token"),
        ("/v2/ghcr.io/a/b/tags/list", "repository:ghcr.io/a/b:pull", "http://proxy.example/auth/token"),
        ("/v2/a/b/tags/list?ns=ghcr.io", "repository:a/b:pull", "http://proxy.example/auth/token?ns=ghcr.io"),
        ("/v2/elsewhere.example/b/tags/list", None, "http://proxy.example/auth/token"),
    ],
)  # fmt: skip
def test_the_challenge(ask: Ask, path: str, scope: str | None, realm: str) -> None:
    """It names our token endpoint and, in the client's own naming, what a token has to be for."""
    answer = ask(path)
    (challenge,) = parse_challenges([answer.headers["WWW-Authenticate"]])
    wanted = {"realm": realm, "service": "docxy"} | ({"scope": scope} if scope else {})
    assert challenge.is_bearer
    assert challenge.parameters == wanted
    assert answer.json
    assert answer.json["errors"][0]["code"] == "UNAUTHORIZED"


def test_what_no_login_would_help(ask: Ask, proxy: Proxy) -> None:
    """A registry that is not served is no secret, and the doctor looks for this answer."""
    for path in ("/v2/?ns=elsewhere.example", "/v2/a/b/tags/list?ns=elsewhere.example"):
        for authorization in ("", BASIC, WRONG):
            answer = ask(path, authorization)
            assert answer.status_code == 404
            assert answer.json
            assert answer.json["errors"][0]["code"] == "NAME_UNKNOWN"
    assert proxy.asked == {}


FORMS = [
    pytest.param("/v2/library/nginx/manifests/1", id="default"),
    pytest.param("/v2/nginx/manifests/1", id="short"),
    pytest.param("/v2/docker.io/library/nginx/manifests/1", id="prefix"),
    pytest.param("/v2/index.docker.io/nginx/manifests/1", id="alias"),
    pytest.param("/v2/nginx/manifests/1?ns=docker.io", id="ns"),
    pytest.param("/v2/registry-1.docker.io/nginx/manifests/1?ns=index.docker.io", id="both"),
]


@pytest.mark.parametrize("path", FORMS)
def test_a_token_is_for_a_repository(ask: Ask, proxy: Proxy, path: str) -> None:
    """However it is called: the token has the name that the registry has for it."""
    others = [
        "docker.io/library/nginx2",
        "docker.io/nginx",
        "ghcr.io/library/nginx",
        "library/nginx",
    ]
    for authorization in (bearer(), bearer(*others)):
        refused = ask(path, authorization)
        assert refused.status_code == 401
        assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    assert proxy.asked == {}
    assert ask(path, bearer("docker.io/library/nginx")).status_code == 200
    (call,) = proxy.asked.values()
    assert call.name == "library/nginx"


def test_a_host_of_its_own(proxy: Proxy) -> None:
    """The registry that the host stands for is the token's."""
    token = bearer("own.example:5000/owner/app")
    url = "own.proxy.example/v2/owner/app/manifests/1"
    assert proxy.ask(url, authorization=token).status_code == 200
    assert (
        proxy.ask("proxy.example/v2/owner/app/manifests/1", authorization=token).status_code == 401
    )
    assert [*proxy.asked] == ["own.example:5000"]


def test_passwords_and_tokens_open(ask: Ask, proxy: Proxy) -> None:
    """Curl -u is as good as a token; a scheme is no matter of case."""
    assert ask("/v2/", BASIC).json == {}
    assert ask("/v2/", bearer()).json == {}
    assert ask("/v2/", bearer().replace("Bearer ", "bearer   ")).json == {}
    assert ask("/v2/ghcr.io/a/b/tags/list", BASIC).status_code == 200
    assert "ghcr.io" in proxy.asked


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(f"Bearer {TOKENS.issue_refresh_token('alice')}", id="a refresh token"),
        pytest.param(f"{bearer()}, {BASIC}", id="two"),
        pytest.param(f"{BASIC}, {bearer()}", id="two, the other way"),
        pytest.param(f"Bearer {BASIC}", id="Basic in Bearer"),
        pytest.param(BASIC.replace("Basic ", ""), id="no scheme"),
        pytest.param("Bearer docxy.none", id="a stand-in"),
        pytest.param(f"{BASIC}x", id="more than base64"),
        pytest.param(f"Basic {base64.b64encode(b'x:' + b'x' * 9000).decode()}", id="a long one"),
        pytest.param(f"Basic {base64.b64encode(SECRET.encode()).decode()}", id="no name"),
    ],
)
def test_what_opens_nothing(ask: Ask, proxy: Proxy, authorization: str) -> None:
    """Nothing that is nearly a login is one."""
    assert ask("/v2/ghcr.io/a/b/tags/list", authorization).status_code == 401
    assert proxy.asked == {}


def test_browsers_are_asked_for_a_password(ask: Ask) -> None:
    """They know what to do with Basic, and with nothing else."""
    for path in ("/v1/search?q=x", "/page/tags?image=nginx"):
        answer = ask(path)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert ask("/page/tags?image=ghcr.io/a/b", BASIC).status_code != 401
    assert ask("/v1/_ping").json == {"standalone": True}


def token_of(answer: TestResponse) -> str:
    """Return the token of an answer."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json
    assert answer.json["token"] == answer.json["access_token"]
    assert answer.json["expires_in"] == 300
    return str(answer.json["token"])


def post(proxy: Proxy, **fields: str) -> TestResponse:
    """Ask for a token by a form."""
    return proxy.ask("proxy.example/auth/token", "POST", form=urlencode(fields))


def test_tokens_by_get(ask: Ask, proxy: Proxy) -> None:
    """Only to pull, only from what is served here, and no registry is asked."""
    scopes = (
        "repository:nginx:pull", "repository:ghcr.io/a/b:push,pull", "repository:a/c:push",
        "repository:a/d:*", "repository:elsewhere.example/x:pull", "registry:catalog:*", "nonsense",
        "repository:A:pull", "repository(plugin):a/e:pull",
    )  # fmt: skip
    query = urlencode([("scope", scope) for scope in scopes])
    token = token_of(ask(f"/auth/token?account=alice&service=docxy&{query}", BASIC))
    assert TOKENS.verify_access_token(token).repositories == {
        "docker.io/library/nginx", "ghcr.io/a/b", "docker.io/a/d", "docker.io/a/e",
    }  # fmt: skip
    token = token_of(
        ask("/auth/token?ns=ghcr.io&scope=repository:a/b:pull+repository:c/d:pull", BASIC)
    )
    assert TOKENS.verify_access_token(token).repositories == {"ghcr.io/a/b", "ghcr.io/c/d"}
    assert proxy.asked == {}


def test_tokens_by_post(proxy: Proxy) -> None:
    """With a password, then with the refresh token that it has given."""
    told = {"service": "docxy", "client_id": "x", "scope": "repository:nginx:pull"}
    login = {"grant_type": "password", "username": "alice", "password": SECRET}
    first = post(proxy, **told, **login, access_type="offline")
    assert TOKENS.verify_access_token(token_of(first)).repositories == {"docker.io/library/nginx"}
    assert first.json
    again = {"grant_type": "refresh_token", "refresh_token": first.json["refresh_token"]}
    second = post(proxy, **told, **again)
    assert TOKENS.verify_access_token(token_of(second)).user == "alice"
    assert second.json
    assert "refresh_token" not in second.json
    offline = post(proxy, **told, **again, access_type="offline")
    assert offline.json
    assert offline.json["refresh_token"] == again["refresh_token"]
    assert proxy.asked == {}


def test_refresh_tokens_are_asked_for(ask: Ask) -> None:
    """`docker login` asks for one."""
    assert "refresh_token" not in (ask("/auth/token", BASIC).json or {})
    found = (ask("/auth/token?offline_token=true", BASIC).json or {})["refresh_token"]
    assert TOKENS.verify_refresh_token(found) == "alice"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({}, 400, id="nothing"),
        pytest.param({"grant_type": "authorization_code"}, 400, id="another grant"),
        pytest.param({"grant_type": "password", "username": "a", "password": "x"}, 401, id="wrong"),
        pytest.param({"grant_type": "password", "password": SECRET}, 401, id="no name"),
        pytest.param({"grant_type": "refresh_token"}, 401, id="no refresh token"),
        pytest.param(
            {"grant_type": "refresh_token", "refresh_token": bearer().split()[1]}, 401, id="access"
        ),
    ],
)
def test_forms_that_get_nothing(proxy: Proxy, fields: dict[str, str], status: int) -> None:
    """No token without a login."""
    answer = post(proxy, **fields, scope="repository:nginx:pull")
    assert answer.status_code == status
    assert "token" not in (answer.json or {})
    assert proxy.asked == {}


def test_nobody_gets_nothing(ask: Ask, proxy: Proxy) -> None:
    """There is no anonymous token, and no token for a token."""
    for authorization in ("", WRONG, bearer(), "Basic x"):
        answer = ask("/auth/token?scope=repository:nginx:pull", authorization)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert proxy.asked == {}


def test_a_login_goes_no_further(ask: Ask, proxy: Proxy) -> None:
    """A registry gets the proxy's own account, or nothing."""
    name = "managed.example/owner/app"
    for authorization in (BASIC, bearer(name)):
        assert ask(f"/v2/{name}/manifests/1", authorization).status_code == 200
        (call,) = proxy.asked.values()
        assert "authorization" not in {field.lower() for field, _ in call.request.headers}


def test_guessing_is_slowed(ask: Ask) -> None:
    """Wherever the passwords are sent; tokens go on."""
    for number in range(5):
        assert ask("/v2/" if number % 2 else "/auth/token", WRONG).status_code == 401
    for path in ("/v2/", "/auth/token"):
        refused = ask(path, BASIC)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 5
    assert ask("/v2/", bearer()).status_code == 200


def test_who_waits_for_others_is_told_so(app: Flask, proxy: Proxy) -> None:
    """All who come through a front that is not named have one address: operators must see why."""
    client = app.test_client()
    del proxy

    def ask(front: str, authorization: str) -> TestResponse:
        headers = {"Authorization": authorization, "X-Forwarded-For": "198.51.100.7"}
        return client.get("/v2/", headers=headers, environ_overrides={"REMOTE_ADDR": front})

    for front, said in (("192.0.2.1", True), ("10.0.0.1", False)):
        for number in range(5):
            wrong = f"Basic {base64.b64encode(f'alice:{number}'.encode()).decode()}"
            assert ask(front, wrong).status_code == 401
        slowed = ask(front, BASIC)
        assert slowed.status_code == 429
        assert int(slowed.headers["Retry-After"]) >= 1
        assert ("FORWARDED_ALLOW_IPS" in slowed.text) is said


def test_without_users_nobody_is_looked_at() -> None:
    """It costs nothing where it is not used."""
    app = Flask(__name__)
    authentication.register_users(app, None)
    assert app.before_request_funcs == {}


def test_the_rows(proxy: Proxy) -> None:
    """The test of the tests: a passthrough row would get what a client sends."""
    assert any(not row.managed for row in ROWS)
    assert proxy.sources

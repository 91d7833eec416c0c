"""Every way of being refused: one line that says who, what and why, one count, and no secret."""

import base64
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import bcrypt
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from app.access.htpasswd import Htpasswd
from app.access.logins import FREE
from app.access.tokens import TokenIssuer
from app.access.users import SharedSecret
from tests.servers import Docxy, docxy, wait_until

pytestmark = pytest.mark.integration

KEY = "the key of these tests, of 32 bytes and more"
PASSWORD = "what carol and dave say"  # noqa: S105 - of these tests only
NAME = "library/members"
MANIFEST = f"/v2/{NAME}/manifests/1"
TOKEN = "/auth/token"  # noqa: S105 - a path
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EXCLUDED = "198.51.100.7"
RULES = f"""
[groups]
barred = ["dave", "mallory"]

[[rules]]
action = "deny"
repository = "{NAME}"
users = ["@barred", "nobody here"]
message = "not for them"

[[rules]]
action = "allow"
repository = "{NAME}"
digest_only = true
"""


@dataclass(frozen=True)
class Asked:
    """A request, and what stands on the line of its refusal."""

    rule: str
    path: str = MANIFEST
    authorization: str = ""
    method: str = "GET"
    body: str = ""
    address: str = ""
    told: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Club:
    """A Docxy that refuses in every way there is."""

    proxy: Docxy
    tokens: TokenIssuer

    def ask(
        self, asked: Asked, request_id: str, session: requests.Session | None = None
    ) -> requests.Response:
        """Ask it from some address; without a session on a connection of its own."""
        headers = {"X-Forwarded-For": asked.address, "X-Request-ID": request_id}
        if asked.authorization:
            headers["Authorization"] = asked.authorization
        if asked.body:
            headers |= FORM
        url = f"{self.proxy.url}{asked.path}"
        ask = session.request if session else requests.request
        return ask(asked.method, url, headers=headers, data=asked.body or None, timeout=60)

    def refusals(self) -> Counter[str]:
        """Return how many requests each rule has refused."""
        text = requests.get(f"{self.proxy.url}/metrics", timeout=30).text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return Counter(
            {
                one.labels["rule"]: int(one.value)
                for one in samples
                if one.name == "docxy_refusals_total"
            }
        )

    def lines(self, request_id: str) -> list[dict[str, str]]:
        """Return the fields of the lines of a request's refusal, which stand before its answer."""
        of_it = [line for line in self.proxy.log.splitlines() if request_id in line]
        return [
            {name: one.strip('"') for name, one in re.findall(r'(\w+)=("[^"]*"|\S+)', line)}
            for line in of_it
            if "Request refused." in line
        ]


def basic(name: str, password: str) -> str:
    """Return a login as Basic has it."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the users."""
    path = tmp_path_factory.mktemp("club") / "users"
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    path.write_text(f"carol:{hashed}\ndave:{hashed}\n")
    return path


@pytest.fixture(scope="module")
def club(users: Path) -> Iterator[Club]:
    """Return a Docxy whose registry is nowhere, since nobody is to get that far."""
    config = users.with_name("docxy.toml")
    config.write_text(RULES)
    with docxy(
        DOCXY_CONFIG=str(config),
        DOCXY_REGISTRY_URL="http://127.0.0.1:9",
        DOCXY_REGISTRY_NAME="docker.io",
        DOCXY_ALLOW_PRIVATE_UPSTREAMS="true",
        DOCXY_CREDENTIALS="managed",
        DOCXY_HTPASSWD_FILE=str(users),
        DOCXY_TOKEN_KEY=KEY,
        DOCXY_DENY_NETWORKS=f"{EXCLUDED}/32",
        DOCXY_LOG_LEVEL="debug",
    ) as proxy:
        yield Club(proxy, TokenIssuer(KEY.encode(), Htpasswd(users, users.read_bytes())))


def tokens(kind: str) -> str:
    """Return a token; those of this secret have another fingerprint than those of the file."""
    made = TokenIssuer(KEY.encode(), SharedSecret("s" * 16), clock=lambda: time.time() - 4000)
    return (
        made.issue_refresh_token("carol")
        if kind == "refresh"
        else made.issue_access_token("carol", [])
    )


ASKED_FOR = {"registry": "docker.io", "repository": NAME, "reference": "1"}
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYXJvbCJ9."
LOOKS_LIKE_A_LINE = "carol\nINFO Request refused. rule=9\x1b[31m"
WAYS = {
    "network": Asked("networks", address=EXCLUDED, told=ASKED_FOR),
    "network, the page": Asked("networks", "/", address=EXCLUDED),
    "network, a token": Asked("networks", TOKEN, address=EXCLUDED),
    "hidden": Asked("hidden", address="unknown", told={**ASKED_FOR, "client": "127.0.0.1"}),
    "figures": Asked("figures", "/metrics"),
    "the page's figures": Asked("figures", "/figures"),
    "no login": Asked("login", f"{TOKEN}?scope=repository:{NAME}:pull"),
    "a token in place of a login": Asked("login", TOKEN, f"Bearer {FORGED}"),
    "wrong password, GET": Asked("password", TOKEN, basic("carol", "wrong-password")),
    "wrong password, POST": Asked(
        "password", TOKEN, method="POST",
        body="grant_type=password&username=carol&password=wrong-password",
    ),
    "wrong password, no token": Asked("password", MANIFEST, basic("carol", "x"), told=ASKED_FOR),
    "wrong password, HEAD": Asked("password", MANIFEST, basic("carol", "x"), "HEAD"),
    "unknown user": Asked("password", TOKEN, basic("mallory", PASSWORD)),
    "no name, no password": Asked("password", TOKEN, basic("", "")),
    "name with a line": Asked("password", TOKEN, basic(LOOKS_LIKE_A_LINE, "x")),
    "no Basic": Asked("password", MANIFEST, "Basic %", told=ASKED_FOR),
    "another scheme": Asked("password", MANIFEST, "Digest username=carol", told=ASKED_FOR),
    "no token": Asked("token", MANIFEST, "Bearer x", told=ASKED_FOR),
    "forged token": Asked("token", MANIFEST, f"Bearer {FORGED}", told=ASKED_FOR),
    "old token": Asked("token", MANIFEST, f"Bearer {tokens('access')}"),
    "token, ping": Asked("token", "/v2/", "Bearer x"),
    "token, a registry by prefix": Asked(
        "token", "/v2/docker.io/members/blobs/sha256:" + "a" * 64, "Bearer x",
        told=ASKED_FOR | {"reference": "sha256:" + "a" * 64},
    ),
    "token of before": Asked(
        "token", TOKEN, method="POST",
        body=f"grant_type=refresh_token&refresh_token={tokens('refresh')}",
    ),
}  # fmt: skip
"""All but those for which something has to be there before."""

_NUMBERS = count(1)


def look(
    club: Club, asked: Asked, status: int | None = None, session: requests.Session | None = None
) -> None:
    """Ask, and see that it was refused once: answered, told and counted."""
    before, number = club.refusals(), next(_NUMBERS)
    # Wrong passwords slow the next one from the same address.
    asked = replace(asked, address=asked.address or f"203.0.113.{number}")
    answer = club.ask(asked, f"refusal-{number}-", session)
    assert answer.status_code in ({401, 403} if status is None else {status})
    (line,) = club.lines(f"refusal-{number}-")
    assert line["rule"] == asked.rule
    assert line["status"] == str(answer.status_code)
    assert line["reason"]
    told = {"client": asked.address} | asked.told
    assert {name: line.get(name) for name in told} == told
    after = before + Counter({asked.rule: 1})
    # The other worker may tell of its last requests a moment later.
    wait_until(lambda: club.refusals() == after, what="the count of the refusal")
    log = club.proxy.log
    secrets = [asked.authorization.partition(" ")[2], asked.body.rpartition("=")[2], PASSWORD]
    assert [one for one in secrets if len(one) > 8 and one in log] == []
    assert "\x1b" not in log
    assert "rule=9" not in log


@pytest.mark.parametrize("way", WAYS)
def test_each_way(club: Club, way: str) -> None:
    """One line, one count, and nothing in it that is secret or breaks it."""
    look(club, WAYS[way])


def test_another_repository(club: Club) -> None:
    """Who it is is known by then."""
    token = club.tokens.issue_access_token("carol", ["docker.io/library/other"])
    look(club, Asked("scope", MANIFEST, f"Bearer {token}", told={**ASKED_FOR, "user": "carol"}))


@pytest.mark.parametrize(("user", "rule"), [("dave", "1"), ("carol", "2")])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_rules(club: Club, user: str, rule: str, method: str) -> None:
    """By their numbers, with who has logged in."""
    token = club.tokens.issue_access_token(user, [f"docker.io/{NAME}"])
    told = {**ASKED_FOR, "user": user}
    look(club, Asked(rule, MANIFEST, f"Bearer {token}", method, told=told))


def test_who_is_named_and_is_not_there(club: Club) -> None:
    """The start tells of a rule that is for nobody, since its users are written otherwise."""
    told = "The configuration names a user who is not in the users file."
    wait_until(lambda: club.proxy.log.count(told) == 4, what="what both workers say")
    named = [line.partition(told)[2] for line in club.proxy.log.splitlines() if told in line]
    assert sorted(named) == [
        *[' location="rule 1" user="nobody here"'] * 2,
        *[" location=groups.barred user=mallory"] * 2,
    ]


def test_slowed(club: Club) -> None:
    """Each wrong password until then is one, and each wait is another thing, a right one's too."""
    wrong = Asked("password", TOKEN, basic("carol", "wrong"), address="192.0.2.77")
    waits = replace(wrong, rule="slowed")
    right = replace(waits, path=MANIFEST, authorization=basic("carol", PASSWORD), told=ASKED_FOR)
    with requests.Session() as session:  # each worker counts by itself
        for _ in range(FREE):
            look(club, wrong, session=session)
        look(club, waits, 429, session)
        look(club, right, 429, session)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/v2/", MANIFEST, "/v1/search?q=nginx"])
def test_how_each_pull_begins(club: Club, path: str, method: str) -> None:
    """Who shows nothing yet is told where to log in, and that is no refusal."""
    before, number = club.refusals(), f"begins-{next(_NUMBERS)}-"
    asked = Asked("", path, method=method, address="203.0.113.255")
    assert club.ask(asked, number).status_code == 401
    assert club.lines(number) == []
    assert club.refusals() == before

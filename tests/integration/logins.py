"""How each container client gets from a user's name and password to what it shows a registry.

As they were seen to do it (docs/registries.md, and the records of tests/hub): where each asks for
the challenge, what it adds to its question for a token, and what it keeps.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

from tests.integration.both_workers import Answer, BothWorkers, Origin

PATH: Final = "/v2/{name}/{rest}"
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One way to write the address of a repository."""

    name: str
    """As it stands in the path and, decoded, in a scope."""
    ns: str = ""
    host: str = ""
    scope_name: str = ""
    """In place of `name`, where that has escapes in it."""
    path: str = PATH

    def target(self, rest: str) -> str:
        """Return what is asked for; `rest` follows the name."""
        path = self.path.format(name=self.name, rest=rest)
        return f"{path}?ns={self.ns}" if self.ns else path

    @property
    def scope(self) -> str:
        """What a client takes the scope for, by the name that it knows."""
        return f"repository:{self.scope_name or self.name}:pull"

    def __str__(self) -> str:
        name = self.path.format(name=self.name, rest="...").removeprefix("/v2/")
        parts = [name.removesuffix("/..."), f"ns={self.ns}" if self.ns else "", self.host]
        return " ".join(filter(None, parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """Somebody at a proxy, who wants something of one repository."""

    both: BothWorkers
    form: Form
    origin: Origin
    name: str
    password: str

    def ask(self, method: str, target: str, **fields: str) -> Answer:
        """Ask at the host that the form says."""
        return self.both.ask(method, target, origin=self.origin, host=self.form.host, fields=fields)

    @property
    def basic(self) -> str:
        """The login as `curl -u` sends it."""
        return basic(self.name, self.password)


def basic(name: str, password: str) -> str:
    """Return a login as Basic has it (RFC 7617)."""
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def challenged(answer: Answer) -> Mapping[str, str]:
    """Return the parameters of a Bearer challenge."""
    if answer.status != 401:
        raise NotChallenged(answer)
    scheme, _, parameters = answer.value("WWW-Authenticate").partition(" ")
    assert scheme == "Bearer"
    return dict(_PARAMETER.findall(parameters))


class NotChallenged(Exception):
    """What a client asked for first was answered, or refused in another way."""


class TokenRefused(Exception):
    """The token endpoint has given none."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _told(answer: Answer) -> dict[str, str]:
    if answer.status != 200:
        raise TokenRefused(answer)
    return dict(json.loads(answer.body))


def _token(
    visit: Visit, method: str, realm: str, fields: list[tuple[str, str]], authorization: str = ""
) -> dict[str, str]:
    """Ask where a challenge says, by a query or a form."""
    at = urlsplit(realm)
    sent = urlencode(fields)
    query = "&".join(filter(None, [at.query, sent if method == "GET" else ""]))
    return _told(
        visit.both.ask(
            method,
            f"{at.path}?{query}" if query else at.path,
            origin=visit.origin,
            host=at.netloc,
            fields={"Authorization": authorization} if authorization else {},
            form=sent if method == "POST" else "",
        )
    )


def _by_ping(visit: Visit) -> Mapping[str, str]:
    """Look how one logs in, before anything is asked for; the scope is the client's own then."""
    ns = f"?ns={visit.form.ns}" if visit.form.ns else ""
    return {**challenged(visit.ask("GET", f"/v2/{ns}")), "scope": visit.form.scope}


def _by_manifest(visit: Visit) -> Mapping[str, str]:
    """Ask for what is wanted, and look at the refusal."""
    return challenged(visit.ask("HEAD", visit.form.target("manifests/1")))


def podman(visit: Visit) -> str:
    """Log in by GET, as podman, skopeo, buildah, and docker with a stored password do."""
    told = _by_ping(visit)
    fields = [
        ("account", visit.name),
        ("scope", told["scope"]),
        ("service", told["service"]),
    ]
    return f"Bearer {_token(visit, 'GET', told['realm'], fields, visit.basic)['token']}"


def oras(visit: Visit) -> str:
    """Log in by GET, with what the challenge says and nothing else."""
    told = _by_manifest(visit)
    fields = [("service", told["service"]), ("scope", told["scope"])]
    return f"Bearer {_token(visit, 'GET', told['realm'], fields, visit.basic)['token']}"


def docker(visit: Visit) -> str:
    """Log in once for a lasting token (`docker login`), and pull with that by POST."""
    told = _by_ping(visit)
    login = [
        ("account", visit.name),
        ("client_id", "docker"),
        ("offline_token", "true"),
        ("service", told["service"]),
    ]
    kept = _token(visit, "GET", told["realm"], login, visit.basic)["refresh_token"]
    again = [
        ("grant_type", "refresh_token"),
        ("refresh_token", kept),
        ("client_id", "docker"),
        ("service", told["service"]),
        ("scope", told["scope"]),
    ]
    return f"Bearer {_token(visit, 'POST', told['realm'], again)['access_token']}"


def containerd(visit: Visit) -> str:
    """Log in by POST with the password, as containerd does, naming both scopes."""
    told = _by_manifest(visit)
    scopes = sorted({told["scope"], visit.form.scope})
    fields = [
        ("grant_type", "password"),
        ("service", told["service"]),
        ("client_id", "containerd-client"),
        ("scope", " ".join(scopes)),
        ("username", visit.name),
        ("password", visit.password),
    ]
    return f"Bearer {_token(visit, 'POST', told['realm'], fields)['access_token']}"


def buildkit(visit: Visit) -> str:
    """Log in by POST for a lasting token, and by POST with that for each scope."""
    told = _by_manifest(visit)
    common = [("client_id", "buildkit-client"), ("service", told["service"])]
    login = [
        ("grant_type", "password"),
        ("username", visit.name),
        ("password", visit.password),
        ("access_type", "offline"),
    ]
    kept = _token(visit, "POST", told["realm"], [*common, *login])["refresh_token"]
    again = [
        ("grant_type", "refresh_token"),
        ("refresh_token", kept),
        ("scope", told["scope"]),
    ]
    return f"Bearer {_token(visit, 'POST', told['realm'], [*common, *again])['access_token']}"


def curl(visit: Visit) -> str:
    """Send the password itself."""
    return visit.basic


Login = Callable[[Visit], str]

LOGINS: Final[Mapping[str, Login]] = {
    login.__name__: login for login in (podman, docker, containerd, buildkit, oras, curl)
}
"""By the client; each returns the Authorization, or raises TokenRefused."""

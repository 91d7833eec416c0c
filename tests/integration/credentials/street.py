"""Registries side by side behind one Docxy, and the ways to address each of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import requests

from tests.hub.hub import Hub
from tests.hub.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.integration.asking import basic
from tests.integration.credentials.ledger import Ledger
from tests.servers import Docxy

ACCEPT: Final = f"{OCI_INDEX}, {DOCKER_LIST}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"
DOCKER: Final = "docker.io"
GHCR: Final = "ghcr.io"
QUAY: Final = "quay.io"
HOSTS: Final = {GHCR: "ghcr.proxy.test", QUAY: "quay.proxy.test"}
PUBLIC: Final = "owner/app"
PRIVATE: Final = "alice/private"
TIMEOUT: Final = 20


@dataclass(frozen=True)
class Ask:
    """One request that a client can send."""

    method: str
    path: str
    query: str = ""
    form: str | None = None
    host: str | None = None

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True)
class Address:
    """A row of the table, and how a client writes it."""

    row: str
    prefix: str = ""
    ns: str | None = None
    host: str | None = None

    def named(self, repository: str) -> str:
        """Return a repository in the client's naming."""
        return f"{self.prefix}/{repository}" if self.prefix else repository

    def scope(self, repository: str) -> str:
        """Return the scope of a pull in the client's naming."""
        return f"repository:{self.named(repository)}:pull"

    def ping(self) -> Ask:
        """Ask for nothing."""
        return self._ask("GET", "/v2/")

    def read(self, repository: str, rest: str, method: str = "GET") -> Ask:
        """Read something of a repository."""
        return self._ask(method, f"/v2/{self.named(repository)}/{rest}")

    def token(self, *fields: str, repository: str = PUBLIC) -> Ask:
        """Ask for a token by GET."""
        query = "&".join([f"scope={self.scope(repository)}", "service=registry.test", *fields])
        return self._ask("GET", "/auth/token", query)

    def post(self, *fields: str, repository: str = PUBLIC) -> Ask:
        """Ask for a token by POST."""
        form = [f"scope={self.scope(repository)}", "client_id=test", *fields]
        asked = self._ask("POST", "/auth/token")
        return Ask("POST", asked.path, asked.query, "&".join(form), asked.host)

    def reads(self, hub: Hub, repository: str = PUBLIC) -> list[Ask]:
        """Return one request of each kind that is not about tokens."""
        image = hub.image(repository, "1")
        blob = f"blobs/{next(iter(image.all_blobs))}"
        return [
            self.ping(),
            self.read(repository, "manifests/1"),
            self.read(repository, f"manifests/{image.digest}", "HEAD"),
            self.read(repository, blob),
            self.read(repository, blob, "HEAD"),
            self.read(repository, "tags/list"),
            self.read(repository, f"referrers/{image.digest}"),
        ]

    def _ask(self, method: str, path: str, query: str = "") -> Ask:
        namespace = f"ns={self.ns}" if self.ns else ""
        return Ask(method, path, "&".join(filter(None, [query, namespace])), None, self.host)


BY_DEFAULT: Final = Address(DOCKER)


def by_prefix(row: str) -> Address:
    """Address a registry by the first component of the name."""
    return Address(row, prefix=row)


def by_ns(row: str) -> Address:
    """Address a registry as containerd does."""
    return Address(row, ns=row)


def by_host(row: str) -> Address:
    """Address a registry by a host of its own."""
    return Address(row, host=HOSTS[row])


@dataclass(frozen=True)
class Street:
    """Hubs by the names of their registries, and a Docxy before them."""

    hubs: Mapping[str, Hub]
    proxy: Docxy
    ledger: Ledger
    session: requests.Session = field(default_factory=requests.Session)

    def send(self, ask: Ask, **headers: str) -> requests.Response:
        """Send a request as it is, and return the whole answer."""
        fields = {"Accept": ACCEPT, "Accept-Encoding": "identity"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        if ask.host:
            fields["Host"] = ask.host
        if ask.form is not None:
            fields["Content-Type"] = "application/x-www-form-urlencoded"
        request = requests.Request(ask.method, self.proxy.url + "/", headers=fields, data=ask.form)
        prepared = self.session.prepare_request(request)
        prepared.url = f"{self.proxy.url}{ask.target}"  # as it is written
        return self.session.send(prepared, allow_redirects=False, timeout=TIMEOUT)

    def token(
        self,
        address: Address,
        user: str = "",
        *fields: str,
        repository: str = PUBLIC,
    ) -> str:
        """Get a token, as a user or as nobody, in the form in which clients keep it."""
        shown = {"Authorization": self.basic(address.row, user)} if user else {}
        answer = self.send(address.token(*fields, repository=repository), **shown)
        assert answer.status_code == 200, answer.text
        self.note(answer, address.row)
        return str(answer.json()["token"])

    def refresh_token(self, address: Address, user: str) -> str:
        """Log in and return what buys tokens from then on."""
        shown = self.basic(address.row, user)
        answer = self.send(address.token("offline_token=true"), Authorization=shown)
        assert answer.status_code == 200, answer.text
        self.note(answer, address.row)
        return str(answer.json()["refresh_token"])

    def note(self, answer: requests.Response, owner: str) -> None:
        """Remember what a token answer holds, without the tag."""
        for name in ("token", "access_token", "refresh_token"):
            if value := answer.json().get(name):
                self.ledger.note(value.rpartition("~")[2], owner)

    def basic(self, row: str, user: str) -> str:
        """Return a user's login at a registry."""
        return basic(user, self.hubs[row].users[user].password)

    def forget(self) -> None:
        """Let every hub be as if nothing had been asked."""
        for hub in self.hubs.values():
            hub.reset()

    def asked(self) -> list[str]:
        """Tell everything that has come to any hub."""
        return [
            f"{name}: {record.part} {record.method} {record.path}"
            for name, hub in self.hubs.items()
            for record in hub.requests
        ]

    def got(self, secret: str) -> set[str]:
        """Name the hubs that have seen a secret."""
        return {
            name
            for name, hub in self.hubs.items()
            for record in hub.requests
            if secret in self.ledger.in_record(record)
        }

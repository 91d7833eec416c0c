"""Docxys with users and rules, before two hubs that have repositories of the same names."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import bcrypt

from tests.hub.content import Push, multi_arch
from tests.hub.hub import Hub
from tests.hub.images import OCI_KIND, Image
from tests.hub.record import Record
from tests.hub.tokens import claims_of
from tests.integration.access_cells import CANDIDATE, TAG, cells
from tests.integration.both_workers import FRONT, Answer, BothWorkers, Origin
from tests.integration.caching import SETTINGS, switched_off
from tests.integration.logins import LOGINS, Form, Visit, basic
from tests.integration.verdicts import Policy
from tests.servers import Docxy, docxy
from tests.tables import write_config

KEY: Final = "the key of this matrix, of 32 bytes and more"
SECRET: Final = "the one secret of all"  # noqa: S105 - of these tests only
REPOSITORIES: Final = ("library/nginx", "team/app")
DEEP: Final = "team/app/deep"
"""One more, which no pattern of one star has."""
REGISTRIES: Final = ("docker.io", "ghcr.io")
ACCOUNT: Final = ("alice", "alicepw")
"""What the proxy is at both hubs, where it is somebody; nobody else may read there."""

ADMIN: Final = Origin(forwarded="10.1.1.1")
"""Whom the first rule of each set-up lets have everything, and who fills the cache."""

PASSWORDS: Final = {name: f"{name}'s password" for name in ("admin", "carol", "dave", "erin")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The settings of one Docxy, but for what its machine says."""

    policy: Policy
    environment: Mapping[str, str] = field(default_factory=dict)
    passwords: Mapping[str, str] = field(default_factory=dict)
    """Of its users, who have a file; empty: it has none."""
    is_managed: bool = True
    """Whether clients' logins are none at the registries."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running one, with everything in its cache."""

    setup: Setup
    hubs: Mapping[str, Hub]
    proxy: Docxy
    both: BothWorkers
    folder: Path

    def forget(self) -> None:
        """Begin with hubs that were asked nothing."""
        for hub in self.hubs.values():
            hub.reset()

    @property
    def asked(self) -> list[Record]:
        """All that any hub was asked."""
        return [record for hub in self.hubs.values() for record in hub.requests]

    def assert_own(self, registry: str, repository: str) -> None:
        """See that a hub was asked for this repository and nothing else, as the proxy's account."""
        for name, hub in self.hubs.items():
            for record in hub.requests:
                assert name == registry, record
                if record.part == "token":
                    assert record.query.get("scope", []) == [f"repository:{repository}:pull"]
                elif record.path != "/v2/" and record.part == "registry":
                    assert record.path.startswith(f"/v2/{repository}/"), record
                assert not self.setup.is_managed or _is_own(record), record

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Let no hub be there."""
        with contextlib.ExitStack() as stack:
            for hub in self.hubs.values():
                stack.enter_context(switched_off(hub))
            yield

    def image(self, registry: str, repository: str) -> Image:
        """Return what is there under both tags."""
        return self.hubs[registry].image(repository, TAG)

    def assert_tells_nothing(self, answer: Answer, registry: str, repository: str) -> None:
        """See that a refusal has nothing of what was asked for, and nothing of how it is had."""
        image = self.image(registry, repository)
        manifests = [image, *image.platforms.values()]
        told = answer.text
        for secret in (
            *(one.digest for one in manifests),
            *(digest for one in manifests for digest in one.all_blobs),
            *(hub.host for hub in self.hubs.values()),
            *ACCOUNT,
            CANDIDATE,
            KEY,
            SECRET,
        ):
            assert secret not in told
        for name in ("Docker-Content-Digest", "ETag", "Content-Range", "Link", "Age", "Warning"):
            assert not answer.value(name)
        assert len(answer.body) < 300


def _is_own(record: Record) -> bool:
    """Tell whether a hub was asked as the proxy itself, and not as any client."""
    scheme, _, secret = record.headers.get("Authorization", "").partition(" ")
    if record.part == "token":
        return f"{scheme} {secret}" == basic(*ACCOUNT)
    return not scheme or claims_of(secret)["sub"] == ACCOUNT[0]


def _content(seed: str) -> tuple[Push, ...]:
    return tuple(
        Push(name, multi_arch(name, OCI_KIND, 1000, seed), (TAG, CANDIDATE), private=True)
        for name in (*REPOSITORIES, DEEP)
    )


@contextlib.contextmanager
def both_hubs() -> Iterator[Mapping[str, Hub]]:
    """Start Docker Hub and ghcr.io, which have no blob in common; all in them is alice's."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(Hub(content=functools.partial(_content, name)))
            for name in REGISTRIES
        }


@functools.cache
def _line(name: str, password: str) -> str:
    """Write a line of the file as `htpasswd -B` does, at the least cost."""
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


def write_users(folder: Path, passwords: Mapping[str, str]) -> Path:
    """Put a file of users in the place of the one that was there."""
    beside = folder / "beside"
    beside.write_text("".join(_line(*one) for one in passwords.items()))
    return beside.replace(folder / "users")


@contextlib.contextmanager
def serving(setup: Setup, hubs: Mapping[str, Hub], folder: Path) -> Iterator[Site]:
    """Run a Docxy with two workers, and let the first of its users fill the cache."""
    name, password = ACCOUNT
    managed = {"credentials": "managed", "username": name, "password": password}
    keys: dict[str, Any] = managed if setup.is_managed else {}
    hosts = {"docker.io": "hub.proxy.test", "ghcr.io": "ghcr.proxy.test"}
    rows = [hub.row(name, hosts=[hosts[name]], **keys) for name, hub in hubs.items()]
    policy = setup.policy
    top_level = {"rules": policy.rules, "groups": policy.groups}
    config = write_config(
        folder / "docxy.toml", rows, **{name: value for name, value in top_level.items() if value}
    )
    environment = {
        **SETTINGS,
        "DOCXY_CONFIG": str(config),
        "DOCXY_CACHE_DIR": str(folder / "cache"),
        "DOCXY_TAG_TTL": "3600",
        "FORWARDED_ALLOW_IPS": FRONT,
        **setup.environment,
    }
    if setup.passwords:
        environment["DOCXY_HTPASSWD_FILE"] = str(write_users(folder, setup.passwords))
    lists = {"ALLOW": policy.allow_networks, "DENY": policy.deny_networks}
    environment |= {f"DOCXY_{kind}_NETWORKS": nets for kind, nets in lists.items() if nets}
    with docxy(**environment) as proxy, BothWorkers(proxy) as both:
        site = Site(setup, hubs, proxy, both, folder)
        _fill(site)
        yield site


def _fill(site: Site) -> None:
    """Ask for everything, as somebody who may have it."""
    known = next(iter(site.setup.passwords.items()), ("anybody", SECRET))
    login = LOGINS["curl"]
    if not site.setup.is_managed:
        known, login = ACCOUNT, LOGINS["podman"]
    for registry in REGISTRIES:
        for repository in (*REPOSITORIES, DEEP):
            form = Form(name=repository, ns=registry)
            authorization = login(
                Visit(both=site.both, form=form, origin=ADMIN, name=known[0], password=known[1])
            )
            for cell in cells(site.image(registry, repository)):
                answer = site.both.ask(
                    cell.method,
                    form.target(cell.rest),
                    origin=ADMIN,
                    fields={**cell.fields, "Authorization": authorization},
                )
                cell.check(answer)

"""How the page leads through the set-up of a client."""

from dataclasses import replace

import pytest
import yaml

from app.registries import Registries
from app.web.clients import CLIENTS
from app.web.setup import Step, build_steps
from tests.unit.web.tables import ALONE, BELOW, HOSTS, PLAIN, USUAL


def contents(name: str, key: str, proxy: object = USUAL) -> list[str]:
    """Return what is to be copied where a text of the page stands."""
    found = build_steps(CLIENTS[name], proxy)  # type: ignore[arg-type]
    return [step.content for step in found if step.key == key]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_file_and_the_line_that_fetches_it(name: str) -> None:
    """Each client has its file as /config has it, and the line that fetches it."""
    client = CLIENTS[name]
    first, fetched = [*build_steps(client, USUAL)][:2]
    assert first == Step(f"setup.{name}", client.path, client.build_config(USUAL))
    assert f"https://proxy.example/config/{name}\n" in fetched.content
    if client.apply_command:
        assert fetched.content.endswith(f"\n{client.apply_command}\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("podman", "sudo curl -fsS --create-dirs -o /etc/containers/registries.conf.d/proxy.conf "),
        ("kind", "curl -fsS -o kind.yaml "),
        ("gitlab-ci", "curl -fsS https://"),
    ],
)
def test_where_it_goes(name: str, line: str) -> None:
    """A file of the system's is root's, and what is part of another file is only printed."""
    (_, fetched, *_) = build_steps(CLIENTS[name], USUAL)
    assert fetched.content.startswith(line)


def test_docker() -> None:
    """Logins of both kinds of engines, and names of every other registry."""
    assert contents("docker", "setup.docker-29") == [
        "docker login proxy.example\ndocker pull proxy.example/me/private\n"
    ]
    (names,) = contents("docker", "setup.docker-names", HOSTS)
    assert "docker pull proxy.example/quay.io/owner/app\n" in names
    assert "docker pull ghcr.proxy.example/owner/app\n" in names


def test_docker_without_its_hub() -> None:
    """At the host of another registry there is no mirror, and no login of Docker Hub."""
    keys = [step.key for step in build_steps(CLIENTS["docker"], ALONE)]
    assert keys == ["setup.docker-no-mirror", "setup.docker-names"]
    assert "insecure-registries" in contents("docker", "setup.docker", PLAIN)[0]


def test_docker_below_a_path() -> None:
    """A name has no place for a path: only the mirror works, and registries with a host."""
    keys = [step.key for step in build_steps(CLIENTS["docker"], BELOW)]
    assert "setup.docker-29" not in keys
    assert contents("docker", "setup.docker-names", BELOW) == [
        "docker pull ghcr.proxy.example/owner/app\n"
    ]


def test_containerd() -> None:
    """The folder is to be named in the configuration of either version."""
    assert len(contents("containerd", "setup.containerd-folder")) == 2


USERS = replace(USUAL, has_users=True)
MANAGED = replace(
    USUAL, registries=Registries([replace(row, managed=True) for row in USUAL.registries.rows])
)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_login_first(name: str) -> None:
    """Where the proxy has users, each client is told so before all else."""
    first = next(build_steps(CLIENTS[name], USERS))
    assert first.key == ("setup.docker-users" if name == "docker" else "setup.users")
    assert (first.content == "") == (name == "kind")
    assert "login" not in next(build_steps(CLIENTS[name], USUAL)).content
    assert next(build_steps(CLIENTS[name], replace(BELOW, has_users=True))).content == ""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("docker", "docker login proxy.example\n"),
        ("buildkit", "docker login proxy.example\n"),
        ("podman", "podman login proxy.example\n"),
        ("containerd", "--user NAME docker.io/library/nginx:latest\n"),
        ("gitlab-ci", '-u "$PROXY_USER" --password-stdin proxy.example\n'),
    ],
)
def test_what_is_typed(name: str, line: str) -> None:
    """At the proxy's own address."""
    first = next(build_steps(CLIENTS[name], USERS))
    assert first.content.endswith(line)
    assert first.place == (CLIENTS[name].path if name == "gitlab-ci" else "")


def test_logins_in_files() -> None:
    """They are what docs/registries.md has for a registry."""
    k3s, talos, github = (
        yaml.safe_load(next(build_steps(CLIENTS[name], USERS)).content)
        for name in ("k3s", "talos", "github-actions")
    )
    assert k3s["configs"]["proxy.example"]["auth"] == {"username": "NAME", "password": "PASSWORD"}
    assert (talos["kind"], talos["name"]) == ("RegistryAuthConfig", "proxy.example")
    assert github[0]["with"]["registry"] == "proxy.example"


def test_docker_at_a_proxy_with_users() -> None:
    """By name only: a mirror would get another login than this proxy's."""
    found = list(build_steps(CLIENTS["docker"], USERS))
    assert [step.key for step in found] == ["setup.docker-users", "setup.docker-names"]
    assert "docker pull proxy.example/owner/app\n" in found[1].content
    assert not found[1].titled


def test_no_login_of_a_registry_where_it_would_go_nowhere() -> None:
    """With users, or with an account of the proxy's own, Docker Hub's login is none here."""
    private = {"setup.docker-28", "setup.docker-29", "setup.podman-private"}
    for name in ("docker", "podman"):
        assert private & {step.key for step in build_steps(CLIENTS[name], USUAL)}
        for proxy in (USERS, MANAGED):
            assert not private & {step.key for step in build_steps(CLIENTS[name], proxy)}

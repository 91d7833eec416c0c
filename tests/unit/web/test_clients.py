"""The files for clients: what docs/registries.md has, and what each format's parser reads."""

import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from app.web import clients
from app.web.proxy import Proxy
from tests.recipes import blocks, example, section
from tests.unit.web.tables import ALL, ALONE, BELOW, GHCR_HOST, HOSTS, OWN, PLAIN, USUAL


def bare(name: str, proxy: Proxy) -> str:
    """Return a client's file without the comments at its head."""
    return re.sub(r"\A(?:#.*\n)+", "", clients.build_file(name, proxy))


def toml(name: str, proxy: Proxy) -> dict[str, Any]:
    """Read a client's file."""
    return tomllib.loads(clients.build_file(name, proxy))


def documents(name: str, proxy: Proxy) -> list[Any]:
    """Read a client's file."""
    return list(yaml.safe_load_all(clients.build_file(name, proxy)))


# The documents


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("podman", example("/etc/containers/registries.conf.d/proxy.conf")),
        ("containerd", example("/etc/containerd/certs.d/_default/hosts.toml")),
        ("buildkit", example("/etc/buildkit/buildkitd.toml")),
        ("kind", blocks(section("### kind"))[0]),
    ],
)
def test_it_is_what_the_documents_say(name: str, block: str) -> None:
    """Whoever reads docs/registries.md and whoever asks for the file get the same."""
    assert bare(name, USUAL) == block


def test_it_means_what_the_documents_mean() -> None:
    """The same for what is written more freely there."""
    assert json.loads(bare("docker", USUAL)) == json.loads(example("/etc/docker/daemon.json"))
    k3s, _, login = blocks(section("### k3s and RKE2"))
    assert documents("k3s", USUAL) == documents("rke2", USUAL) == [yaml.safe_load(k3s)]
    talos = [yaml.safe_load(block) for block in blocks(section("### Talos"))]
    assert documents("talos", USUAL) == talos[:1]
    (ghcr,) = [one for one in toml("podman", HOSTS)["registry"] if one["prefix"] == "ghcr.io"]
    written = tomllib.loads(example("/etc/containers/registries.conf.d/ghcr.conf"))
    assert written == {"registry": [ghcr]}
    (mirrors,) = (one["mirrors"] for one in documents("k3s", HOSTS))
    assert mirrors["ghcr.io"] == yaml.safe_load(login)["mirrors"]["ghcr.io"]


def test_the_place_is_that_of_the_documents() -> None:
    """A file says where it goes, as the documents do."""
    for name in clients.CLIENTS:
        client = clients.CLIENTS[name]
        if client.path.startswith("/etc/"):
            assert f"`{client.path}`" in section("## Each client"), name
        if client.language != "json":
            assert clients.build_file(name, USUAL).startswith(f"# {client.path}\n")


# The parsers


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_it_is_read_by_its_parser(name: str) -> None:
    """Whatever the table is; and no address in it is anyone else's."""
    for proxy in ALL.values():
        text = clients.build_file(name, proxy)
        match clients.CLIENTS[name].language:
            case "json":
                json.loads(text)
            case "toml":
                tomllib.loads(text)
            case "yaml":
                assert all(yaml.safe_load_all(text)), proxy
        scheme = proxy.url.partition("://")[0]
        assert set(re.findall(r"\w+://[^/\s\"',:]+", text)) <= {
            f"{scheme}://proxy.example",
            f"{scheme}://{GHCR_HOST}",
        }, proxy


def test_podman_with_hosts_and_http() -> None:
    """A registry is asked at its own host, where it has one; http is allowed for each."""
    tables = {one["prefix"]: one for one in toml("podman", PLAIN)["registry"]}
    assert tables["docker.io"]["mirror"] == [{"location": "proxy.example:8080", "insecure": True}]
    assert tables["ghcr.io"]["mirror"][0]["location"] == f"{GHCR_HOST}:8080"
    assert tables["quay.io"]["mirror"][0]["location"] == "proxy.example:8080/quay.io"
    assert all(name == one["location"] for name, one in tables.items())


def test_podman_says_what_it_cannot_reach() -> None:
    """What has a port can be no prefix, and nothing can below a path."""
    said = "has no address here without a host."
    assert f"# nowhere.example:5000 {said}" in clients.build_file("podman", OWN)
    assert clients.build_file("podman", BELOW).count(said) == len(BELOW.rows) - 1
    assert said not in clients.build_file("podman", USUAL)


def test_podman_with_other_names() -> None:
    """Aliases that are hosts count; what no prefix can name is left to `ns`."""
    tables = {
        one["prefix"]: one["mirror"][0]["location"] for one in toml("podman", OWN)["registry"]
    }
    assert tables == {
        "company.example": "proxy.example/company.example",
        "docker.io": "proxy.example/docker.io",
        "10.0.0.5:5000": "proxy.example/old",
        "ghcr.io": "proxy.example/ghcr.io",
        "lscr.io": "proxy.example/ghcr.io",
    }


def test_docker_only_has_a_mirror_of_docker_hub() -> None:
    """Where the host stands for another registry, as a mirror it would give that one's images."""
    assert json.loads(clients.build_file("docker", OWN)) == {}
    assert json.loads(clients.build_file("docker", ALONE)) == {}
    assert json.loads(clients.build_file("docker", PLAIN)) == {
        "registry-mirrors": ["http://proxy.example:8080"],
        "insecure-registries": ["proxy.example:8080", f"{GHCR_HOST}:8080"],
    }


def test_a_host_of_one_registry() -> None:
    """Only that registry has an address there; what sends `ns` may ask for all."""
    assert [one["prefix"] for one in toml("podman", ALONE)["registry"]] == ["ghcr.io"]
    assert toml("podman", ALONE)["registry"][0]["mirror"] == [{"location": GHCR_HOST}]
    assert toml("containerd", ALONE)["server"] == f"https://{GHCR_HOST}"


def test_buildkit_with_http() -> None:
    """BuildKit has to be told at each host that it is no https."""
    registry = toml("buildkit", PLAIN)["registry"]
    assert registry["proxy.example:8080"] == registry[f"{GHCR_HOST}:8080"] == {"http": True}
    assert registry["ghcr.io"]["mirrors"] == [f"{GHCR_HOST}:8080"]
    assert toml("buildkit", OWN)["registry"]["nowhere.example:5000"] == {
        "mirrors": ["proxy.example"]
    }


def test_ci() -> None:
    """The steps hold the same settings as the files."""
    (steps,) = documents("github-actions", PLAIN)
    assert json.loads(_echoed(steps[0]["run"])) == json.loads(clients.build_file("docker", PLAIN))
    inline = steps[1]["with"]["buildkitd-config-inline"]
    assert tomllib.loads(inline) == toml("buildkit", PLAIN)
    (without_docker,) = documents("github-actions", OWN)
    assert [step["uses"] for step in without_docker] == ["docker/setup-buildx-action@v3"]
    (job,) = documents("gitlab-ci", PLAIN)
    assert job["build"]["image"] == "proxy.example:8080/docker:cli"
    (service,) = job["build"]["services"]
    assert service["command"][:2] == ["--registry-mirror", "http://proxy.example:8080"]
    assert service["command"].count("--insecure-registry") == 2
    (job,) = documents("gitlab-ci", ALONE)
    assert job["build"]["image"] == "docker:cli"


def _echoed(script: str) -> str:
    """Return what a script adds to the daemon's file."""
    (found,) = re.findall(r"echo '(\{\".*\})'", script)
    return str(found)

"""The examples of docs/registries.md, as they stand there but for the name of the proxy."""

import base64
import contextlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.load import load
from app.registries import WELL_KNOWN
from tests import programs, proxies
from tests.clients.containerd import Containerd, containerd
from tests.clients.docker import Docker, docker
from tests.clients.podman import Podman
from tests.clients.process import CommandFailed
from tests.clients.skopeo import Skopeo
from tests.hub.accounts import default_users
from tests.hub.content import default_content, multi_arch
from tests.hub.door import Login
from tests.hub.hub import Hub
from tests.hub.images import OCI_KIND, Image
from tests.integration.pulling import ours, whole
from tests.recipes import blocks, example, section
from tests.servers import docxy
from tests.tables import write_config

DEAD = "127.0.0.1:9"
REGISTRIES = ["docker.io", "ghcr.io", "registry.k8s.io", "harbor.example"]
APP, PRIVATE = "library/nginx", "alice/private"

ALICE = f"Basic {base64.b64encode(b'alice:alicepw').decode()}"
"""Her login at Docker Hub."""

HOST = "ghcr.proxy.example"
"""The only host of the page that the tests have: localhost stands for it."""


@dataclass(frozen=True)
class Proxy:
    """A Docxy with all registries of the page, behind nginx with TLS."""

    host: str
    ghcr_host: str
    """The one that stands for ghcr.io alone."""

    ca: Path
    hubs: Mapping[str, Hub]

    def there(self, text: str) -> str:
        """Return an example with this proxy's name in place of the page's."""
        assert "proxy.example" in text
        return text.replace(HOST, self.ghcr_host).replace("proxy.example", self.host)

    def image(self, registry: str, name: str = APP, tag: str = "latest") -> Image:
        """Return an image that lies at a registry."""
        return self.hubs[registry].image(name, tag)


def hub(seed: str, login: Login = "token") -> Hub:
    """Return a registry that has Docker Hub's repositories with other images and passwords."""
    return Hub(
        content=lambda: default_content(seed),
        users=default_users(seed),
        login=login,
    )


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run Docxy with Docker Hub, another registry with tokens, and one without."""
    programs.require("docker-registry", "nginx")
    with contextlib.ExitStack() as stack:
        default = stack.enter_context(Hub())
        ghcr = stack.enter_context(hub("ghcr"))
        k8s = stack.enter_context(hub("k8s", login="none"))
        hubs = {
            "docker.io": default, "ghcr.io": ghcr, "registry.k8s.io": k8s,
            # More names for the same, so that each line of the page has somewhere to go.
            "quay.io": ghcr, "gcr.io": ghcr, "public.ecr.aws": ghcr, "mcr.microsoft.com": k8s,
            "harbor.example": ghcr,
        }  # fmt: skip
        rows = [one.row(name) for name, one in hubs.items()]
        for row in rows:
            if row["name"] == "ghcr.io":
                row["hosts"] = ["localhost"]
            if row["name"] == "harbor.example":
                row |= {"credentials": "managed", "username": "alice", "password": "alicepwghcr"}
        config = write_config(tmp_path_factory.mktemp("config") / "docxy.toml", rows)
        backend = stack.enter_context(docxy(DOCXY_CONFIG=str(config), DOCXY_RETRY_BUDGET="0.5"))
        front = stack.enter_context(proxies.nginx(backend.host))
        port = front.host.rpartition(":")[2]
        yield Proxy(f"127.0.0.1:{port}", f"localhost:{port}", front.ca_path, hubs)


@pytest.fixture
def proxy(busy: Proxy) -> Proxy:
    """Return the proxy, its registries healed and without memory."""
    for hub in busy.hubs.values():
        hub.reset()
    return busy


def fail_all(proxy: Proxy) -> None:
    """Let every registry answer 500."""
    for hub in proxy.hubs.values():
        hub.fail(part="registry", path="/manifests/", status=500, times=None)


# Docker


@pytest.fixture
def dockerd(proxy: Proxy) -> Iterator[Docker]:
    programs.require_dockerd()
    mirrors = json.loads(proxy.there(example("/etc/docker/daemon.json")))["registry-mirrors"]
    with docker(mirrors=mirrors, ca=proxy.ca) as daemon:
        yield daemon


@pytest.mark.integration
def test_docker(dockerd: Docker, proxy: Proxy) -> None:
    """Every registry by its name, Docker Hub by the mirror, and the login of one by its host."""
    lines = [
        line.split()[2] for line in section("### Docker").splitlines() if "docker pull" in line
    ]
    assert len(lines) == len(WELL_KNOWN) + 2
    for name in lines:
        registry, repository, tag = meant(name)
        if registry == "ghcr.io" and "private" in name:
            dockerd.login(proxy.ghcr_host, "alice", "alicepwghcr")
        image = multi_arch(name, OCI_KIND, data_size=1000)
        hub = proxy.hubs[registry]
        hub.push(repository, image, [tag])
        if "private" in name:
            hub.make_private(repository)
        assert image.digest in dockerd.pull(proxy.there(name))
    assert proxy.image("docker.io", "library/alpine").digest in dockerd.pull("alpine")
    assert DEAD not in dockerd.server.log


def meant(name: str) -> tuple[str, str, str]:
    """Return the registry, the repository and the tag of an image that the page pulls."""
    host, _, path = name.partition("/")
    path, _, tag = path.partition(":")
    first, _, rest = path.partition("/")
    if host == HOST:
        return "ghcr.io", path, tag or "latest"
    if "." in first:
        return first, rest, tag or "latest"
    return "docker.io", path if rest else f"library/{path}", tag or "latest"


# podman, skopeo


def registries_conf(proxy: Proxy, home: Path, name: str) -> None:
    text = proxy.there(example(f"/etc/containers/registries.conf.d/{name}.conf"))
    (home / "registries.conf").write_text(text)


@pytest.mark.integration
def test_podman(proxy: Proxy, tmp_path: Path) -> None:
    """Every registry by its own name comes through the mirror."""
    programs.require("podman")
    podman = Podman(tmp_path, ca=proxy.ca, mirrors={"": ""})
    registries_conf(proxy, tmp_path, "proxy")
    for registry in REGISTRIES:
        assert ours(proxy.image(registry)).digest in podman.pull(f"{registry}/{APP}:latest")


@pytest.mark.integration
def test_skopeo(proxy: Proxy, tmp_path: Path) -> None:
    """So it does with skopeo, though one has a login at the proxy, which goes to Docker Hub."""
    programs.require("skopeo")
    skopeo = Skopeo(tmp_path, ca=proxy.ca, mirrors={"": ""})
    registries_conf(proxy, tmp_path, "proxy")
    skopeo.login(proxy.host, "alice", "alicepw")
    for registry in REGISTRIES:
        assert skopeo.copy_all(f"{registry}/{APP}:latest") == whole(proxy.image(registry))
    assert skopeo.copy_all(f"docker.io/{PRIVATE}:1") == whole(
        proxy.image("docker.io", PRIVATE, "1")
    )
    with pytest.raises(CommandFailed, match=DEAD):
        skopeo.copy_all(f"ghcr.io/{PRIVATE}:1")
    for asked in proxy.hubs["ghcr.io"].requests:
        assert asked.headers.get("Authorization") != ALICE


@pytest.mark.integration
def test_skopeo_without_a_fall_back(proxy: Proxy, tmp_path: Path) -> None:
    """The proxy in the registry's place: nothing is asked elsewhere, though all fails."""
    programs.require("skopeo")
    skopeo = Skopeo(tmp_path, ca=proxy.ca, mirrors={"": ""})
    registries_conf(proxy, tmp_path, "only-proxy")
    for registry in ("docker.io", "ghcr.io"):
        assert skopeo.copy_all(f"{registry}/{APP}:latest") == whole(proxy.image(registry))
    fail_all(proxy)
    for registry in ("docker.io", "ghcr.io"):
        with pytest.raises(CommandFailed) as failure:
            skopeo.copy_all(f"{registry}/{APP}:latest")
        assert DEAD not in failure.value.output


@pytest.mark.integration
def test_skopeo_at_the_registrys_host(proxy: Proxy, tmp_path: Path) -> None:
    """A login at the registry's host opens what is private there."""
    programs.require("skopeo")
    skopeo = Skopeo(tmp_path, ca=proxy.ca, mirrors={"": ""})
    registries_conf(proxy, tmp_path, "ghcr")
    skopeo.login(proxy.ghcr_host, "alice", "alicepwghcr")
    image = proxy.image("ghcr.io", PRIVATE, "1")
    assert skopeo.copy_all(f"ghcr.io/{PRIVATE}:1") == whole(image)


# containerd, and what is made of it


@pytest.fixture
def ctr(proxy: Proxy) -> Iterator[Containerd]:
    programs.require_containerd()
    with containerd(ca=proxy.ca) as daemon:
        yield daemon


def pull(daemon: Containerd, hosts: Path, reference: str, *options: str) -> frozenset[str]:
    command = ["images", "pull", "--snapshotter", "native", "--hosts-dir", str(hosts)]
    daemon.ctr(*command, *options, reference)
    return daemon.digests(reference)


def hosts_toml(text: str, hosts: Path, registry: str) -> Path:
    (hosts / registry).mkdir(parents=True)
    (hosts / registry / "hosts.toml").write_text(text)
    return hosts


@pytest.mark.integration
def test_containerd(ctr: Containerd, proxy: Proxy, tmp_path: Path) -> None:
    """One file for all registries, and none is asked elsewhere when the proxy fails."""
    text = proxy.there(example("/etc/containerd/certs.d/_default/hosts.toml"))
    hosts = hosts_toml(text, tmp_path, "_default")
    for registry in REGISTRIES:
        reference = f"{registry}/{APP}:latest"
        assert proxy.image(registry).digest in pull(ctr, hosts, reference)
    fail_all(proxy)
    for registry in REGISTRIES:
        with pytest.raises(CommandFailed) as failure:
            pull(ctr, hosts, f"{registry}/library/alpine:latest")
        assert DEAD not in failure.value.output
    with pytest.raises(CommandFailed) as failure:
        pull(ctr, hosts, f"unknown.example/{APP}:latest")
    assert DEAD not in failure.value.output


@pytest.mark.integration
def test_containerd_without_server(ctr: Containerd, proxy: Proxy, tmp_path: Path) -> None:
    """Without `server`, what is asked last is the registry itself."""
    text = proxy.there(example("/etc/containerd/certs.d/_default/hosts.toml"))
    hosts = hosts_toml(re.sub(r"server = .*", "", text), tmp_path, "_default")
    fail_all(proxy)
    with pytest.raises(CommandFailed, match=DEAD):
        pull(ctr, hosts, f"ghcr.io/{APP}:latest")


@pytest.mark.integration
def test_containerd_at_the_registrys_host(ctr: Containerd, proxy: Proxy, tmp_path: Path) -> None:
    """A login at the registry's host opens what is private there."""
    text = proxy.there(example("/etc/containerd/certs.d/ghcr.io/hosts.toml"))
    hosts = hosts_toml(text, tmp_path, "ghcr.io")
    reference = f"ghcr.io/{PRIVATE}:1"
    found = pull(ctr, hosts, reference, "--user", "alice:alicepwghcr")
    assert proxy.image("ghcr.io", PRIVATE, "1").digest in found


@pytest.mark.integration
def test_a_prefix_and_ns_at_once(ctr: Containerd, proxy: Proxy, tmp_path: Path) -> None:
    """What Talos with overridePath, k3s with a rewrite and BuildKit with a path ask for."""
    (entry,) = [one for one in talos() if one["name"] == "ghcr.io"]
    (endpoint,) = entry["endpoints"]
    assert endpoint["overridePath"]
    assert entry["skipFallback"]
    url = proxy.there(endpoint["url"])
    text = f'[host."{url}"]\ncapabilities = ["pull", "resolve"]\noverride_path = true\n'
    hosts = hosts_toml(text, tmp_path, "ghcr.io")
    assert proxy.image("ghcr.io").digest in pull(ctr, hosts, f"ghcr.io/{APP}:latest")
    paths = {asked.path for asked in proxy.hubs["ghcr.io"].select("registry", path="/manifests/")}
    assert all(path.startswith(f"/v2/{APP}/") for path in paths)


# What is only parsed


def talos() -> list[dict[str, Any]]:
    """Return the documents for Talos 1.12 and later."""
    written = [yaml.safe_load(block) for block in blocks(section("### Talos"))]
    return [one for one in written if "kind" in one]


def expected(registry: str) -> str:
    """Return the address of a registry at the proxy, as a client without `ns` writes it."""
    return "proxy.example" if registry == "docker.io" else f"proxy.example/{registry}"


def test_every_registry_has_its_mirror() -> None:
    """Each well-known registry, and one more, has its place in every list of mirrors."""
    names = {*WELL_KNOWN, "harbor.example"}
    conf = tomllib.loads(example("/etc/containers/registries.conf.d/proxy.conf"))["registry"]
    assert {one["prefix"]: one["mirror"][0]["location"] for one in conf} == {
        name: expected(name) for name in names
    }
    assert all(one["location"] == one["prefix"] for one in conf)
    buildkit = tomllib.loads(example("/etc/buildkit/buildkitd.toml"))["registry"]
    assert {name: one["mirrors"] for name, one in buildkit.items()} == {
        name: [expected(name)] for name in names
    }
    wildcard, each, login = map(yaml.safe_load, blocks(section("### k3s and RKE2")))
    assert wildcard == {"mirrors": {"*": {"endpoint": ["https://proxy.example"]}}}
    assert {*each["mirrors"]} == names
    for name, mirror in each["mirrors"].items():
        assert mirror["endpoint"] == ["https://proxy.example"]
        rewrite = {"^(.*)": f"{name}/$1"} if name != "docker.io" else None
        assert mirror.get("rewrite") == rewrite
    assert login["mirrors"] == {"ghcr.io": {"endpoint": [f"https://{HOST}"]}}
    assert login["configs"].keys() == {HOST}


def test_talos() -> None:
    """Both ways of writing it say the same."""
    (machine,) = [
        one for one in map(yaml.safe_load, blocks(section("### Talos"))) if "machine" in one
    ]
    mirrors = machine["machine"]["registries"]["mirrors"]
    for entry in talos():
        old = mirrors[entry["name"]]
        assert old["endpoints"] == [one["url"] for one in entry["endpoints"]]
        assert old["skipFallback"] is entry["skipFallback"] is True
        assert old.get("overridePath") == entry["endpoints"][0].get("overridePath")


def test_kind() -> None:
    """The folder that is mounted is the one that containerd is told, and that the page fills."""
    (block,) = blocks(section("### kind"))
    cluster = yaml.safe_load(block)
    (mount,) = cluster["nodes"][0]["extraMounts"]
    assert mount["hostPath"] == mount["containerPath"] == "/etc/containerd/certs.d"
    (patch,) = map(tomllib.loads, cluster["containerdConfigPatches"])
    registry = patch["plugins"]["io.containerd.grpc.v1.cri"]["registry"]
    assert registry == {"config_path": mount["containerPath"]}
    (both,) = [block for block in blocks(section("### containerd and nerdctl")) if "3" in block]
    assert {
        plugin["registry"]["config_path"] for plugin in tomllib.loads(both)["plugins"].values()
    } == {mount["containerPath"]}


def tables() -> list[str]:
    """Return every file of tables that the page shows."""
    return [block for block in blocks(section("## Each registry")) if "[[registries]]" in block]


def test_a_table_with_redirects_from(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Docxy takes it as it stands there."""
    (text,) = blocks(section("## Redirects"))
    config = tmp_path / "docxy.toml"
    config.write_text(text)
    environment.setenv("DOCXY_CONFIG", str(config))
    public, private = load().build_registries().rows
    assert private.redirects_from == {public.name}


@pytest.mark.parametrize("text", tables())
def test_tables(text: str, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Docxy takes each of them, the files of passwords and authorities being there."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    text = re.sub(r"ca_bundle = .*\n", "", text)
    text = re.sub(r'(?<=password_file = )".*"', f'"{password}"', text)
    config = tmp_path / "docxy.toml"
    config.write_text(text)
    environment.setenv("DOCXY_CONFIG", str(config))
    (row,) = load().build_registries().rows
    (written,) = tomllib.loads(text)["registries"]
    assert row.name == written["name"]
    assert row.url == written.get("url", row.url)


def test_the_well_known_have_a_section() -> None:
    """Whoever looks for a registry that is served by default finds it."""
    shown = [tomllib.loads(text)["registries"][0]["name"] for text in tables()]
    assert {*WELL_KNOWN} <= {*shown}

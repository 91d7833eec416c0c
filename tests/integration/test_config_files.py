"""The files of /config/ in the real programs, as they come; what is rewritten; the search."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import programs, proxies
from tests.clients.containerd import containerd
from tests.clients.docker import Docker, docker
from tests.clients.podman import Podman
from tests.clients.process import hermetic, run
from tests.hub.accounts import default_users
from tests.hub.content import default_content
from tests.hub.hub import Hub
from tests.hub.images import Image
from tests.integration.curling import Answer, curl
from tests.integration.pulling import ours
from tests.proxies import Front
from tests.servers import Docxy, docxy
from tests.tables import write_config

pytestmark = pytest.mark.integration

DEAD = "127.0.0.1:9"
APP = "library/nginx"
REGISTRIES = ["docker.io", "ghcr.io", "registry.k8s.io"]


@dataclass(frozen=True)
class Proxy:
    """A Docxy with three registries, one of them with a host of its own, and nginx before it."""

    front: Front
    """At `localhost`, it stands for ghcr.io alone."""

    backend: Docxy
    hubs: Mapping[str, Hub]

    @property
    def host(self) -> str:
        """The proxy's own name."""
        return f"127.0.0.1:{self.front.host.rpartition(':')[2]}"

    def ask(self, path: str, *arguments: str) -> Answer:
        """Ask it by curl."""
        return curl(self.front, f"https://{self.host}{path}", *arguments)

    def file(self, name: str, folder: Path) -> Path:
        """Fetch a client's file by curl."""
        answer = self.ask(f"/config/{name}")
        assert answer.status == 200
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(answer.body)
        return path

    def rewritten(self, text: str) -> str:
        """Return a text as the page rewrites it."""
        answer = self.ask("/page/rewrite", "--data-binary", text)
        assert answer.status == 200
        return str(json.loads(answer.body)["text"])

    def image(self, registry: str) -> Image:
        """Return the image that each has, with other bytes."""
        return self.hubs[registry].image(APP, "latest")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run it all."""
    programs.require("docker-registry", "nginx", "curl")
    with contextlib.ExitStack() as stack:
        hubs = {"docker.io": stack.enter_context(Hub())}
        for name, seed in (("ghcr.io", "ghcr"), ("registry.k8s.io", "k8s")):
            users = default_users(seed)
            content = lambda seed=seed: default_content(seed)  # noqa: E731
            hubs[name] = stack.enter_context(Hub(content=content, users=users))
        rows = [hub.row(name) for name, hub in hubs.items()]
        rows[1]["hosts"] = ["localhost"]
        config = write_config(tmp_path_factory.mktemp("config") / "docxy.toml", rows)
        index = hubs["docker.io"].index_url
        backend = stack.enter_context(docxy(DOCXY_CONFIG=str(config), DOCXY_INDEX_URL=index))
        front = stack.enter_context(proxies.nginx(backend.host))
        yield Proxy(front, backend, hubs)


@pytest.fixture
def proxy(busy: Proxy) -> Proxy:
    """Return the proxy, its registries healed and without memory."""
    for hub in busy.hubs.values():
        hub.reset()
    return busy


def test_podman(proxy: Proxy, tmp_path: Path) -> None:
    """Every registry by its own name comes through the proxy, as the file has it."""
    programs.require("podman")
    podman = Podman(tmp_path, ca=proxy.front.ca_path, mirrors={"": ""})
    proxy.file("podman", tmp_path).replace(tmp_path / "registries.conf")
    for registry in REGISTRIES:
        assert ours(proxy.image(registry)).digest in podman.pull(f"{registry}/{APP}:latest")
    podman.login(proxy.front.host, "alice", "alicepwghcr")
    private = proxy.hubs["ghcr.io"].image("alice/private", "1")
    assert ours(private).digest in podman.pull("ghcr.io/alice/private:1")


def test_podman_with_http(proxy: Proxy, tmp_path: Path) -> None:
    """Where the proxy has no TLS, its file says so."""
    programs.require("podman")
    podman = Podman(tmp_path, mirrors={"": ""})
    url = f"{proxy.backend.url}/config/podman"
    (tmp_path / "registries.conf").write_bytes(curl(proxy.front, url).body)
    assert ours(proxy.image("docker.io")).digest in podman.pull(f"docker.io/{APP}:latest")


def test_containerd(proxy: Proxy, tmp_path: Path) -> None:
    """One file for every registry."""
    programs.require_containerd()
    (tmp_path / "_default").mkdir()
    proxy.file("containerd", tmp_path).replace(tmp_path / "_default/hosts.toml")
    with containerd(ca=proxy.front.ca_path) as daemon:
        for registry in REGISTRIES:
            name = f"{registry}/{APP}:latest"
            options = ["--snapshotter", "native", "--hosts-dir", str(tmp_path)]
            daemon.ctr("images", "pull", *options, name)
            assert proxy.image(registry).digest in daemon.digests(name)


@pytest.fixture
def dockerd(proxy: Proxy, tmp_path: Path) -> Iterator[Docker]:
    """Return a dockerd that has the mirrors of the file."""
    programs.require_dockerd()
    settings = json.loads(proxy.file("docker", tmp_path).read_text())
    assert settings.keys() == {"registry-mirrors"}
    with docker(mirrors=settings["registry-mirrors"], ca=proxy.front.ca_path) as daemon:
        yield daemon


def test_docker(dockerd: Docker, proxy: Proxy) -> None:
    """By the mirror, and by the commands that come back; a build takes what comes back, too."""
    assert proxy.image("docker.io").digest in dockerd.pull("nginx")
    script = "docker pull -q ghcr.io/library/nginx && docker pull registry.k8s.io/library/nginx"
    first, _, second = proxy.rewritten(script).partition(" && ")
    for command in (first, second):
        dockerd.docker(*command.split()[1:])
    names = [command.split()[-1] for command in (first, second)]
    for name, registry in zip(names, REGISTRIES[1:], strict=True):
        assert proxy.image(registry).digest in dockerd.digests(name)
    dockerfile = proxy.rewritten("FROM ghcr.io/library/nginx:latest AS base\nFROM base\nLABEL a=b")
    assert dockerd.build(dockerfile, "built")
    assert DEAD not in dockerd.server.log


def test_docker_search(dockerd: Docker, proxy: Proxy) -> None:
    """Docker Hub is searched through the proxy, and the login at the proxy stays here."""
    dockerd.store_login(proxy.host, "alice", "alicepw")
    shown = dockerd.docker("search", "--format", "{{json .}}", f"{proxy.host}/nginx")
    found = [json.loads(line) for line in shown.splitlines()]
    assert [(one["Name"], one["StarCount"]) for one in found] == [
        ("nginx", "20000"),
        ("alice/nginx", "3"),
    ]
    (asked,) = proxy.hubs["docker.io"].select("index")
    assert asked.raw_query == "q=nginx&n=25&page=1"
    assert not {"Authorization", "X-Docker-Token"} & {name for name, _ in asked.headers}
    proxy.hubs["docker.io"].fail(part="index", status=429, times=None)
    with pytest.raises(Exception, match="429"):
        dockerd.docker("search", f"{proxy.host}/other")


def test_podman_search(proxy: Proxy, tmp_path: Path) -> None:
    """So does podman."""
    programs.require("podman")
    environment = hermetic(tmp_path, ca=proxy.front.ca_path)
    shown = run(
        ["podman", "search", "--format", "{{.Name}}", f"{proxy.host}/nginx"], env=environment
    )
    assert shown.split() == [f"{proxy.host}/nginx", f"{proxy.host}/alice/nginx"]


def test_tags(proxy: Proxy) -> None:
    """The tags of an image at each registry; what is private is nobody's to see."""
    for image in (APP, "docker.io/nginx", f"ghcr.io/{APP}", f"registry.k8s.io/{APP}"):
        answer = proxy.ask(f"/page/tags?image={image}")
        assert answer.status == 200
        assert "latest" in json.loads(answer.body)["tags"]
    secret = proxy.ask("/page/tags?image=alice/private", "--user", "alice:alicepw")
    assert secret.status == 403

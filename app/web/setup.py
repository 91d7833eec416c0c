"""How the page leads through the set-up of a client: what to read, and what to copy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.registries import DOCKER_HUB
from app.web.clients import Client
from app.web.proxy import Proxy
from app.web.signing_in import TERMINAL, written

_CONTAINERD_FILES: Final = {
    "containerd 2.x · /etc/containerd/config.toml": "io.containerd.cri.v1.images",
    "containerd 1.x · /etc/containerd/config.toml": "io.containerd.grpc.v1.cri",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A text of the page, by its key, and what it is about: where that goes, and what it is.

    Where there is a `titled`, there is a title too, by the key with `-title`.
    """

    key: str
    place: str = TERMINAL
    content: str = ""
    titled: bool = False


def steps(client: Client, proxy: Proxy) -> Iterator[Step]:
    """Give the steps of one client in their order."""
    if proxy.has_users:
        # A mirror gets Docker's login for Docker Hub, which is another one than this proxy's.
        key = "setup.docker-users" if client.name == "docker" else "setup.users"
        yield Step(key, *written(client, proxy))
    if client.name == "docker":
        yield from _docker(client, proxy)
        return
    yield Step(f"setup.{client.name}", client.path, client.made(proxy))
    yield Step(*_fetched(client, proxy))
    if client.name == "podman" and _takes_logins_of_hub(proxy):
        yield Step("setup.podman-private", TERMINAL, f"podman login {proxy.authority}\n")
    if client.name == "containerd":
        for place, plugin in _CONTAINERD_FILES.items():
            content = f'[plugins."{plugin}".registry]\n  config_path = "/etc/containerd/certs.d"\n'
            yield Step("setup.containerd-folder", place, content)


def _fetched(client: Client, proxy: Proxy) -> tuple[str, str, str]:
    """Return the step that does the same from a shell."""
    url = f"{proxy.url}/config/{client.name}"
    if client.path.startswith("."):
        return "setup.printed", TERMINAL, f"curl -fsS {url}\n"
    if client.path.startswith("/"):
        curl = f"sudo curl -fsS --create-dirs -o {client.path} {url}\n"
    else:
        curl = f"curl -fsS -o {client.path} {url}\n"
    then = f"{client.then}\n" if client.then else ""
    return "setup.fetched", TERMINAL, f"{curl}{then}"


def _docker(client: Client, proxy: Proxy) -> Iterator[Step]:
    """Give what only Docker has: logins that its versions treat differently, and names."""
    hub = next((row for row in proxy.rows if row.name == DOCKER_HUB), None)
    mirror = None if proxy.has_users else proxy.mirror_of_hub
    if mirror is None and not proxy.has_users:
        yield Step("setup.docker-no-mirror")
    if mirror or proxy.is_plain:
        yield Step("setup.docker", client.path, client.made(proxy))
        yield Step(*_fetched(client, proxy))
    private = hub and not hub.managed and proxy.name(hub, "me/private")
    if private and mirror:
        login = f"docker login {private.partition('/')[0]}\ndocker pull {private}\n"
        yield Step("setup.docker-28", TERMINAL, "docker login\n", titled=True)
        yield Step("setup.docker-29", TERMINAL, login, titled=True)
    rows = [row for row in proxy.rows if row is not hub or proxy.has_users]
    names = [proxy.name(row, "owner/app") for row in rows]
    pulls = [f"docker pull {name}\n" for name in names if name]
    if pulls:
        yield Step("setup.docker-names", TERMINAL, "".join(pulls), titled=not proxy.has_users)


def _takes_logins_of_hub(proxy: Proxy) -> bool:
    """Whether a login at this proxy's own address is one at Docker Hub."""
    row = proxy.default
    is_hubs = row.name == DOCKER_HUB and not row.managed
    return is_hubs and not (proxy.has_users or proxy.is_below_a_path)

"""The steps with which the page explains how to set up a client: texts, and code to copy."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from app.registries import DOCKER_HUB
from app.web.clients import ClientRecipe
from app.web.files import CERTS
from app.web.proxy import Proxy

# How each client logs in to a proxy that has its own users.

TERMINAL: Final = ""
"""The place of a command for the terminal, as opposed to the path of a file."""


def build_login(client: ClientRecipe, proxy: Proxy) -> tuple[str, str]:
    """Return the place and the text of a client's login: a file's path or TERMINAL.

    The text is empty if the client has no login of its own, or if the proxy is below a path.
    """
    location, format_login = _LOGINS.get(client.name, (TERMINAL, _format_no_login))
    if proxy.has_path:  # clients log in to hosts
        return TERMINAL, ""
    return (client.path if location else TERMINAL), format_login(proxy.authority)


def _format_no_login(_: str) -> str:
    return ""


def _format_docker_login(authority: str) -> str:
    return f"docker login {authority}\n"


def _format_podman_login(authority: str) -> str:
    return f"podman login {authority}\n"


def _format_containerd_login(_: str) -> str:
    return f"ctr images pull --hosts-dir {CERTS} --user NAME docker.io/library/nginx:latest\n"


def _format_k3s_login(authority: str) -> str:
    return f"""\
configs:
  "{authority}":
    auth:
      username: NAME
      password: PASSWORD
"""


def _format_talos_login(authority: str) -> str:
    return f"""\
apiVersion: v1alpha1
kind: RegistryAuthConfig
name: {authority}
username: NAME
password: PASSWORD
"""


def _format_github_login(authority: str) -> str:
    return f"""\
- uses: docker/login-action@v3
  with:
    registry: {authority}
    username: ${{{{ secrets.PROXY_USER }}}}
    password: ${{{{ secrets.PROXY_PASSWORD }}}}
"""


def _format_gitlab_login(authority: str) -> str:
    return (
        "before_script:\n"
        f'  - echo "$PROXY_PASSWORD" | docker login -u "$PROXY_USER" --password-stdin {authority}\n'
    )


_FILE: Final = "file"
_LOGINS: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "docker": (TERMINAL, _format_docker_login),
    "podman": (TERMINAL, _format_podman_login),
    "containerd": (TERMINAL, _format_containerd_login),
    "k3s": (_FILE, _format_k3s_login),
    "rke2": (_FILE, _format_k3s_login),
    "buildkit": (TERMINAL, _format_docker_login),
    "talos": (_FILE, _format_talos_login),
    "github-actions": (_FILE, _format_github_login),
    "gitlab-ci": (_FILE, _format_gitlab_login),
}
"""Each client's place and text. Nodes of kind have no login: images use a Kubernetes secret."""


_CONTAINERD_FILES: Final = {
    "containerd 2.x · /etc/containerd/config.toml": "io.containerd.cri.v1.images",
    "containerd 1.x · /etc/containerd/config.toml": "io.containerd.grpc.v1.cri",
}


@dataclass(frozen=True, slots=True)
class Step:
    """A step: the key of its text, and the content to copy with the place where it goes.

    If `titled`, the step has a title too, whose key is `key` with `-title`.
    """

    key: str
    place: str = TERMINAL
    content: str = ""
    titled: bool = False


def build_steps(client: ClientRecipe, proxy: Proxy) -> Iterator[Step]:
    """Yield the steps that set up one client, in order."""
    if proxy.has_users:
        # Docker sends its Docker Hub login to a mirror, and that login is not this proxy's.
        key = "setup.docker-users" if client.name == "docker" else "setup.users"
        yield Step(key, *build_login(client, proxy))
    if client.name == "docker":
        yield from _build_docker_steps(client, proxy)
        return
    yield Step(f"setup.{client.name}", client.path, client.build_config(proxy))
    yield Step(*_build_install(client, proxy))
    if client.name == "podman" and _takes_logins_of_hub(proxy):
        yield Step("setup.podman-private", TERMINAL, f"podman login {proxy.authority}\n")
    if client.name == "containerd":
        for location, plugin in _CONTAINERD_FILES.items():
            content = f'[plugins."{plugin}".registry]\n  config_path = "/etc/containerd/certs.d"\n'
            yield Step("setup.containerd-folder", location, content)


def _build_install(client: ClientRecipe, proxy: Proxy) -> tuple[str, str, str]:
    """Return the arguments of a Step that installs the client's file from a shell."""
    url = f"{proxy.url}/config/{client.name}"
    if client.path.startswith("."):
        return "setup.printed", TERMINAL, f"curl -fsS {url}\n"
    if client.path.startswith("/"):
        curl = f"sudo curl -fsS --create-dirs -o {client.path} {url}\n"
    else:
        curl = f"curl -fsS -o {client.path} {url}\n"
    apply_command = f"{client.apply_command}\n" if client.apply_command else ""
    return "setup.fetched", TERMINAL, f"{curl}{apply_command}"


def _build_docker_steps(client: ClientRecipe, proxy: Proxy) -> Iterator[Step]:
    """Yield Docker's steps: the mirror, logins (Docker 28 and 29 differ), and names to pull."""
    hub = next((row for row in proxy.rows if row.name == DOCKER_HUB), None)
    mirror = None if proxy.has_users else proxy.hub_mirror_url
    if mirror is None and not proxy.has_users:
        yield Step("setup.docker-no-mirror")
    if mirror or proxy.is_plain:
        yield Step("setup.docker", client.path, client.build_config(proxy))
        yield Step(*_build_install(client, proxy))
    private = hub and not hub.managed and proxy.build_name(hub, "me/private")
    if private and mirror:
        login = f"docker login {private.partition('/')[0]}\ndocker pull {private}\n"
        yield Step("setup.docker-28", TERMINAL, "docker login\n", titled=True)
        yield Step("setup.docker-29", TERMINAL, login, titled=True)
    rows = [row for row in proxy.rows if row is not hub or proxy.has_users]
    names = [proxy.build_name(row, "owner/app") for row in rows]
    pulls = [f"docker pull {name}\n" for name in names if name]
    if pulls:
        yield Step("setup.docker-names", TERMINAL, "".join(pulls), titled=not proxy.has_users)


def _takes_logins_of_hub(proxy: Proxy) -> bool:
    """Return whether a login to this proxy's own address is a login to Docker Hub."""
    row = proxy.default
    takes_login = row.name == DOCKER_HUB and not row.managed
    return takes_login and not (proxy.has_users or proxy.has_path)

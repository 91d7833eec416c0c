"""How each client logs in at a proxy that has users of its own."""

from collections.abc import Callable, Mapping
from typing import Final

from app.web.clients import Client
from app.web.files import CERTS
from app.web.proxy import Proxy

TERMINAL: Final = ""
"""The place of what is typed, and goes into no file."""


def written(client: Client, proxy: Proxy) -> tuple[str, str]:
    """Return where it goes and what it is; both are empty where a client has no way of its own."""
    place, text = _WAYS.get(client.name, (TERMINAL, _nothing))
    if proxy.is_below_a_path:  # clients log in at hosts
        return TERMINAL, ""
    return (client.path if place else TERMINAL), text(proxy.authority)


def _nothing(_: str) -> str:
    return ""


def _docker(authority: str) -> str:
    return f"docker login {authority}\n"


def _podman(authority: str) -> str:
    return f"podman login {authority}\n"


def _ctr(_: str) -> str:
    return f"ctr images pull --hosts-dir {CERTS} --user NAME docker.io/library/nginx:latest\n"


def _k3s(authority: str) -> str:
    return f"""\
configs:
  "{authority}":
    auth:
      username: NAME
      password: PASSWORD
"""


def _talos(authority: str) -> str:
    return f"""\
apiVersion: v1alpha1
kind: RegistryAuthConfig
name: {authority}
username: NAME
password: PASSWORD
"""


def _github(authority: str) -> str:
    return f"""\
- uses: docker/login-action@v3
  with:
    registry: {authority}
    username: ${{{{ secrets.PROXY_USER }}}}
    password: ${{{{ secrets.PROXY_PASSWORD }}}}
"""


def _gitlab(authority: str) -> str:
    return (
        "before_script:\n"
        f'  - echo "$PROXY_PASSWORD" | docker login -u "$PROXY_USER" --password-stdin {authority}\n'
    )


_FILE: Final = "file"
_WAYS: Final[Mapping[str, tuple[str, Callable[[str], str]]]] = {
    "docker": (TERMINAL, _docker),
    "podman": (TERMINAL, _podman),
    "containerd": (TERMINAL, _ctr),
    "k3s": (_FILE, _k3s),
    "rke2": (_FILE, _k3s),
    "buildkit": (TERMINAL, _docker),
    "talos": (_FILE, _talos),
    "github-actions": (_FILE, _github),
    "gitlab-ci": (_FILE, _gitlab),
}
"""kind's nodes have no login of their own; an image's is a Kubernetes secret."""

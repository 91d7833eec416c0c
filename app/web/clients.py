"""The clients that can pull through this proxy, and the file each needs (docs/registries.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from app.web import files
from app.web.proxy import Proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client and its configuration file.

    `path` is where the file goes, `language` its syntax, and `made` returns its content. `then` is
    the command that applies it, or "" if none is needed.
    """

    name: str
    title: str
    path: str
    language: str
    made: Callable[[Proxy], str]
    then: str = ""


def text(name: str, proxy: Proxy) -> str:
    """Return a client's whole file; raise KeyError if `name` is not in CLIENTS.

    The first line is a comment with the file's path, except in JSON, which has no comments.
    """
    client = CLIENTS[name]
    head = "" if client.language == "json" else f"# {client.path}\n"
    return f"{head}{client.made(proxy)}"


CLIENTS: Final[Mapping[str, Client]] = {
    client.name: client
    for client in (
        Client(
            name="docker",
            title="Docker",
            path="/etc/docker/daemon.json",
            language="json",
            made=files.docker,
            then="sudo systemctl restart docker",
        ),
        Client(
            name="podman",
            title="podman, buildah, skopeo, CRI-O",
            path="/etc/containers/registries.conf.d/proxy.conf",
            language="toml",
            made=files.podman,
        ),
        Client(
            name="containerd",
            title="containerd, nerdctl",
            path=f"{files.CERTS}/_default/hosts.toml",
            language="toml",
            made=files.containerd,
        ),
        Client(
            name="k3s",
            title="k3s",
            path="/etc/rancher/k3s/registries.yaml",
            language="yaml",
            made=files.k3s,
            then="sudo systemctl restart k3s",
        ),
        Client(
            name="rke2",
            title="RKE2",
            path="/etc/rancher/rke2/registries.yaml",
            language="yaml",
            made=files.k3s,
            then="sudo systemctl restart rke2-server",
        ),
        Client(
            name="buildkit",
            title="BuildKit",
            path="/etc/buildkit/buildkitd.toml",
            language="toml",
            made=files.buildkit,
            then="docker buildx create --use --driver docker-container "
            "--buildkitd-config /etc/buildkit/buildkitd.toml",
        ),
        Client(
            name="kind",
            title="kind",
            path="kind.yaml",
            language="yaml",
            made=files.kind,
            then="kind create cluster --config kind.yaml",
        ),
        Client(
            name="talos",
            title="Talos",
            path="proxy.yaml",
            language="yaml",
            made=files.talos,
            then="talosctl patch machineconfig --patch @proxy.yaml",
        ),
        Client(
            name="github-actions",
            title="GitHub Actions",
            path=".github/workflows/build.yml",
            language="yaml",
            made=files.github_actions,
        ),
        Client(
            name="gitlab-ci",
            title="GitLab CI",
            path=".gitlab-ci.yml",
            language="yaml",
            made=files.gitlab_ci,
        ),
    )
}
"""The clients by their names in `/config/<name>`, in the order of the page."""

"""The clients that can pull through this proxy, and the file each needs (docs/registries.md)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from app.web import files
from app.web.proxy import Proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecipe:
    """A client and its configuration file.

    `path` is where the file goes, `language` its syntax, and `build_config` returns its content.
    `apply_command` is the command that applies it, or "" if none is needed.
    """

    name: str
    title: str
    path: str
    language: str
    build_config: Callable[[Proxy], str]
    apply_command: str = ""


def build_file(name: str, proxy: Proxy) -> str:
    """Return a client's whole file; raise KeyError if `name` is not in CLIENTS.

    The first line is a comment with the file's path, except in JSON, which has no comments.
    """
    client = CLIENTS[name]
    head = "" if client.language == "json" else f"# {client.path}\n"
    return f"{head}{client.build_config(proxy)}"


CLIENTS: Final[Mapping[str, ClientRecipe]] = {
    client.name: client
    for client in (
        ClientRecipe(
            name="docker",
            title="Docker",
            path="/etc/docker/daemon.json",
            language="json",
            build_config=files.docker,
            apply_command="sudo systemctl restart docker",
        ),
        ClientRecipe(
            name="podman",
            title="podman, buildah, skopeo, CRI-O",
            path="/etc/containers/registries.conf.d/proxy.conf",
            language="toml",
            build_config=files.podman,
        ),
        ClientRecipe(
            name="containerd",
            title="containerd, nerdctl",
            path=f"{files.CERTS}/_default/hosts.toml",
            language="toml",
            build_config=files.containerd,
        ),
        ClientRecipe(
            name="k3s",
            title="k3s",
            path="/etc/rancher/k3s/registries.yaml",
            language="yaml",
            build_config=files.k3s,
            apply_command="sudo systemctl restart k3s",
        ),
        ClientRecipe(
            name="rke2",
            title="RKE2",
            path="/etc/rancher/rke2/registries.yaml",
            language="yaml",
            build_config=files.k3s,
            apply_command="sudo systemctl restart rke2-server",
        ),
        ClientRecipe(
            name="buildkit",
            title="BuildKit",
            path="/etc/buildkit/buildkitd.toml",
            language="toml",
            build_config=files.buildkit,
            apply_command="docker buildx create --use --driver docker-container "
            "--buildkitd-config /etc/buildkit/buildkitd.toml",
        ),
        ClientRecipe(
            name="kind",
            title="kind",
            path="kind.yaml",
            language="yaml",
            build_config=files.kind,
            apply_command="kind create cluster --config kind.yaml",
        ),
        ClientRecipe(
            name="talos",
            title="Talos",
            path="proxy.yaml",
            language="yaml",
            build_config=files.talos,
            apply_command="talosctl patch machineconfig --patch @proxy.yaml",
        ),
        ClientRecipe(
            name="github-actions",
            title="GitHub Actions",
            path=".github/workflows/build.yml",
            language="yaml",
            build_config=files.github_actions,
        ),
        ClientRecipe(
            name="gitlab-ci",
            title="GitLab CI",
            path=".gitlab-ci.yml",
            language="yaml",
            build_config=files.gitlab_ci,
        ),
    )
}
"""The clients by their names in `/config/<name>`, in the order of the page."""

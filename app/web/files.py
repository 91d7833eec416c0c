"""The content of each client's configuration file.

The files send requests for a registry that has its own host here to that host, because logins for
the registry are valid there. Each function returns the whole text of a file.
"""

import json
from collections.abc import Iterator
from typing import Final

from app.registries import DOCKER_HUB
from app.web.proxy import Proxy

CERTS: Final = "/etc/containerd/certs.d"
"""The directory that containerd is configured to read `hosts.toml` files from."""

_quote: Final = json.dumps
"""JSON's quoting is valid in TOML and YAML too."""


def docker(proxy: Proxy) -> str:
    """Return `daemon.json` with this proxy as Docker's mirror, or `{}` if nothing is to be set.

    Docker needs a host that stands for Docker Hub alone; without one there is no mirror. A proxy
    on plain http is listed under `insecure-registries`.
    """
    return f"{json.dumps(_build_daemon_settings(proxy), indent=2)}\n"


def _build_daemon_settings(proxy: Proxy) -> dict[str, list[str]]:
    mirror = proxy.hub_mirror_url
    settings = {"registry-mirrors": [mirror]} if mirror else {}
    if proxy.is_plain:
        settings["insecure-registries"] = _list_authorities(proxy)
    return settings


def _list_authorities(proxy: Proxy) -> list[str]:
    """Return each `host[:port]` at which clients reach this proxy, once."""
    own_locations = [
        location
        for row in proxy.rows
        if proxy.has_own_host(row) and (location := proxy.find_mirror_location(row))
    ]
    return list(dict.fromkeys([proxy.authority, *own_locations]))


def podman(proxy: Proxy) -> str:
    """Return `registries.conf` with a mirror for each registry that has a prefix or host here.

    These clients send no `ns` parameter, so a comment names each registry that has neither.
    """
    insecure = "insecure = true\n" if proxy.is_plain else ""
    tables = [
        f"[[registry]]\nprefix = {_quote(name)}\nlocation = {_quote(name)}\n"
        f"[[registry.mirror]]\nlocation = {_quote(location)}\n{insecure}"
        for name, location in _list_mirrors(proxy)
    ]
    reachable = {name for name, _ in _list_mirrors(proxy)}
    unreachable = [name for name, _ in proxy.list_mirrored() if name not in reachable]
    return "\n".join(
        [*tables, *(f"# {name} has no address here without a host.\n" for name in unreachable)]
    )


def _list_mirrors(proxy: Proxy) -> Iterator[tuple[str, str]]:
    """Yield each registry name and its address here, for clients that send no `ns`."""
    for name, row in proxy.list_mirrored():
        if location := proxy.find_mirror_location(row):
            yield name, location


def containerd(proxy: Proxy) -> str:
    """Return `_default/hosts.toml`, which applies to all registries.

    `server` is this proxy too, so containerd does not fall back to the registry itself.
    """
    comments = [
        f"# For logins at {name}: the same with {url}, in {CERTS}/{name}/hosts.toml\n"
        for name, url in _list_own_hosts(proxy)
    ]
    url = _quote(proxy.url)
    return (
        f'{"".join(comments)}server = {url}\n\n[host.{url}]\n  capabilities = ["pull", "resolve"]\n'
    )


def _list_own_hosts(proxy: Proxy) -> Iterator[tuple[str, str]]:
    """Yield the names and URLs of the registries that have their own hosts here."""
    for name, row in proxy.list_mirrored():
        if proxy.has_own_host(row):
            yield name, proxy.url_of(row)


def k3s(proxy: Proxy) -> str:
    """Return `registries.yaml` with a mirror for `*` and for each registry with its own host."""
    mirrors = [
        f"  {_quote(name)}:\n    endpoint:\n      - {_quote(url)}\n"
        for name, url in [("*", proxy.url), *_list_own_hosts(proxy)]
    ]
    return f"mirrors:\n{''.join(mirrors)}"


def buildkit(proxy: Proxy) -> str:
    """Return `buildkitd.toml` with a mirror for each registry: BuildKit has no wildcard."""
    tables = []
    for name, row in proxy.list_mirrored():
        # BuildKit also sends `ns`, so a registry without a usable prefix is still reachable.
        location = proxy.find_mirror_location(row) or ("" if proxy.has_path else proxy.authority)
        mirrors = [location] if location else []
        tables.append(f"[registry.{_quote(name)}]\n  mirrors = {json.dumps(mirrors)}\n")
    if proxy.is_plain:
        tables += [
            f"[registry.{_quote(authority)}]\n  http = true\n"
            for authority in _list_authorities(proxy)
        ]
    return "\n".join(tables)


def talos(proxy: Proxy) -> str:
    """Return RegistryMirrorConfig documents (Talos 1.12 and later), one per k3s mirror.

    Talos does not fall back to the registry itself.
    """
    documents = [
        f"apiVersion: v1alpha1\nkind: RegistryMirrorConfig\nname: {_quote(name)}\n"
        f"endpoints:\n  - url: {_quote(url)}\nskipFallback: true\n"
        for name, url in [("*", proxy.url), *_list_own_hosts(proxy)]
    ]
    return "---\n".join(documents)


def kind(proxy: Proxy) -> str:
    """Return a cluster configuration whose node mounts containerd's files from the machine."""
    folder = f"{CERTS}/_default"
    return f"""\
# First: mkdir -p {folder} && curl -fsS {proxy.url}/config/containerd -o {folder}/hosts.toml
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "{CERTS}"
nodes:
  - role: control-plane
    extraMounts:
      - hostPath: {CERTS}
        containerPath: {CERTS}
"""


def github_actions(proxy: Proxy) -> str:
    """Return workflow steps that set up Docker and Buildx.

    A hosted runner's `daemon.json` already has settings; the step merges ours into it.
    """
    steps = []
    if settings := _build_daemon_settings(proxy):
        steps.append(f"""\
- name: Let Docker pull through the proxy
  run: |
    test -s /etc/docker/daemon.json || echo '{{}}' | sudo tee /etc/docker/daemon.json
    echo '{json.dumps(settings)}' | jq -s add /etc/docker/daemon.json - > "$RUNNER_TEMP/daemon.json"
    sudo cp "$RUNNER_TEMP/daemon.json" /etc/docker/daemon.json
    sudo systemctl restart docker
""")
    lines = "".join(f"{line}\n" for line in _indent(buildkit(proxy), 6))
    steps.append(f"""\
- name: Let Buildx pull through the proxy
  uses: docker/setup-buildx-action@v3
  with:
    buildkitd-config-inline: |
{lines}""")
    return "".join(steps)


def _indent(block: str, count: int) -> list[str]:
    return [f"{' ' * count}{line}".rstrip() for line in block.splitlines()]


def gitlab_ci(proxy: Proxy) -> str:
    """Return a job that builds with Docker in Docker, its image and daemon using this proxy."""
    rows = {row.name: row for row in proxy.rows}
    hub = rows.get(DOCKER_HUB)
    image = (hub and proxy.build_name(hub, "docker")) or "docker"
    options = []
    if mirror := proxy.hub_mirror_url:
        options += ["--registry-mirror", mirror]
    if proxy.is_plain:
        options += [
            word
            for authority in _list_authorities(proxy)
            for word in ("--insecure-registry", authority)
        ]
    command = f"      command: {json.dumps(options)}\n" if options else ""
    return f"""\
build:
  image: {_quote(f"{image}:cli")}
  services:
    - name: {_quote(f"{image}:dind")}
      alias: docker
{command}  script:
    - docker build .
"""

"""What stands in the file of each client.

A registry with a host of its own is asked there, since that is where its logins count.
"""

import json
from collections.abc import Iterator
from typing import Final

from app.registries import DOCKER_HUB
from app.web.proxy import Proxy

CERTS: Final = "/etc/containerd/certs.d"
"""Where containerd looks for a registry's hosts, if it is told so."""

_quoted: Final = json.dumps
"""A JSON string is one in TOML and YAML as well."""


def docker(proxy: Proxy) -> str:
    """Return an empty object where Docker Hub is not what a whole host here stands for."""
    return f"{json.dumps(_daemon(proxy), indent=2)}\n"


def _daemon(proxy: Proxy) -> dict[str, list[str]]:
    mirror = proxy.mirror_of_hub
    settings = {"registry-mirrors": [mirror]} if mirror else {}
    if proxy.is_plain:
        settings["insecure-registries"] = _authorities(proxy)
    return settings


def _authorities(proxy: Proxy) -> list[str]:
    """Return every host and port that this proxy is asked at."""
    alone = [place for row in proxy.rows if proxy.is_alone_at(row) and (place := proxy.place(row))]
    return list(dict.fromkeys([proxy.authority, *alone]))


def podman(proxy: Proxy) -> str:
    """Return a mirror for each registry that a prefix or a host names, since no `ns` is sent."""
    insecure = "insecure = true\n" if proxy.is_plain else ""
    tables = [
        f"[[registry]]\nprefix = {_quoted(name)}\nlocation = {_quoted(name)}\n"
        f"[[registry.mirror]]\nlocation = {_quoted(place)}\n{insecure}"
        for name, place in _places(proxy)
    ]
    found = {name for name, _ in _places(proxy)}
    left = [name for name, _ in proxy.mirrored() if name not in found]
    return "\n".join(
        [*tables, *(f"# {name} has no address here without a host.\n" for name in left)]
    )


def _places(proxy: Proxy) -> Iterator[tuple[str, str]]:
    """Give each registry's names with what is asked in its place, by clients that send no `ns`."""
    for name, row in proxy.mirrored():
        if place := proxy.place(row):
            yield name, place


def containerd(proxy: Proxy) -> str:
    """Return the file for every registry, with no fall-back: `server` leads here as well."""
    alone = [
        f"# For logins at {name}: the same with {url}, in {CERTS}/{name}/hosts.toml\n"
        for name, url in _alone(proxy)
    ]
    url = _quoted(proxy.url)
    return f'{"".join(alone)}server = {url}\n\n[host.{url}]\n  capabilities = ["pull", "resolve"]\n'


def _alone(proxy: Proxy) -> Iterator[tuple[str, str]]:
    """Give the names of the registries that have hosts of their own here, with their URLs."""
    for name, row in proxy.mirrored():
        if proxy.is_alone_at(row):
            yield name, proxy.url_of(row)


def k3s(proxy: Proxy) -> str:
    """Return one mirror for every registry, and one for each that has a host of its own here."""
    mirrors = [
        f"  {_quoted(name)}:\n    endpoint:\n      - {_quoted(url)}\n"
        for name, url in [("*", proxy.url), *_alone(proxy)]
    ]
    return f"mirrors:\n{''.join(mirrors)}"


def buildkit(proxy: Proxy) -> str:
    """Return a mirror for each registry: BuildKit knows no other way."""
    tables = []
    for name, row in proxy.mirrored():
        # BuildKit sends `ns` too, for a registry that no prefix can name.
        place = proxy.place(row) or ("" if proxy.is_below_a_path else proxy.authority)
        mirrors = [place] if place else []
        tables.append(f"[registry.{_quoted(name)}]\n  mirrors = {json.dumps(mirrors)}\n")
    if proxy.is_plain:
        tables += [f"[registry.{_quoted(one)}]\n  http = true\n" for one in _authorities(proxy)]
    return "\n".join(tables)


def talos(proxy: Proxy) -> str:
    """Return documents as Talos 1.12 and later have them, like those of k3s."""
    documents = [
        f"apiVersion: v1alpha1\nkind: RegistryMirrorConfig\nname: {_quoted(name)}\n"
        f"endpoints:\n  - url: {_quoted(url)}\nskipFallback: true\n"
        for name, url in [("*", proxy.url), *_alone(proxy)]
    ]
    return "---\n".join(documents)


def kind(proxy: Proxy) -> str:
    """Return a cluster whose nodes have containerd's files from a folder of the machine."""
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
    """Return steps: the daemon's file of a hosted runner has settings already, which stay."""
    steps = []
    if settings := _daemon(proxy):
        steps.append(f"""\
- name: Let Docker pull through the proxy
  run: |
    test -s /etc/docker/daemon.json || echo '{{}}' | sudo tee /etc/docker/daemon.json
    echo '{json.dumps(settings)}' | jq -s add /etc/docker/daemon.json - > "$RUNNER_TEMP/daemon.json"
    sudo cp "$RUNNER_TEMP/daemon.json" /etc/docker/daemon.json
    sudo systemctl restart docker
""")
    lines = "".join(f"{line}\n" for line in _indented(buildkit(proxy), 6))
    steps.append(f"""\
- name: Let Buildx pull through the proxy
  uses: docker/setup-buildx-action@v3
  with:
    buildkitd-config-inline: |
{lines}""")
    return "".join(steps)


def _indented(block: str, count: int) -> list[str]:
    return [f"{' ' * count}{line}".rstrip() for line in block.splitlines()]


def gitlab_ci(proxy: Proxy) -> str:
    """Return a job that builds with Docker in Docker."""
    rows = {row.name: row for row in proxy.rows}
    hub = rows.get(DOCKER_HUB)
    image = (hub and proxy.name(hub, "docker")) or "docker"
    options = []
    if mirror := proxy.mirror_of_hub:
        options += ["--registry-mirror", mirror]
    if proxy.is_plain:
        options += [word for one in _authorities(proxy) for word in ("--insecure-registry", one)]
    command = f"      command: {json.dumps(options)}\n" if options else ""
    return f"""\
build:
  image: {_quoted(f"{image}:cli")}
  services:
    - name: {_quoted(f"{image}:dind")}
      alias: docker
{command}  script:
    - docker build .
"""

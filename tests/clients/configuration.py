"""The files that skopeo, podman and buildah share: policy, registries and stored logins."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.clients.process import hermetic

NO_MIRRORS: Mapping[str, str] = {}


def containers_environment(
    home: Path, *, ca: Path | None = None, mirrors: Mapping[str, str] = NO_MIRRORS
) -> dict[str, str]:
    """Write the configuration below `home` and return the environment that makes a client read it.

    `mirrors` maps a registry to the host that is asked first. Without `ca` it speaks plain HTTP.
    """
    environment = hermetic(home, ca=ca) | {
        "CONTAINERS_REGISTRIES_CONF": str(home / "registries.conf"),
        "REGISTRY_AUTH_FILE": str(home / "auth.json"),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
    }
    # It comes before /etc/containers/policy.json, whatever that forbids.
    policy = home / ".config/containers/policy.json"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    # buildah fails when REGISTRY_AUTH_FILE names a file that does not exist.
    auth = home / "auth.json"
    if not auth.exists():
        auth.write_text("{}")
    (home / "registries.conf").write_text(_registries_conf(mirrors, insecure=ca is None))
    return environment


def _registries_conf(mirrors: Mapping[str, str], *, insecure: bool) -> str:
    tables = [
        f'[[registry]]\nprefix = "{registry}"\nlocation = "{registry}"\n'
        f'[[registry.mirror]]\nlocation = "{mirror}"\ninsecure = {str(insecure).lower()}\n'
        for registry, mirror in mirrors.items()
    ]
    head = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n'
    return head + "".join(tables)

"""Public registries that need no more than their name to be served."""

from collections.abc import Mapping
from typing import Final

from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Registry

HUB: Final = Registry(
    name=DOCKER_HUB,
    url="https://registry-1.docker.io",
    token_url="https://auth.docker.io/token",  # noqa: S106 - the address of a service
    token_service="registry.docker.io",  # noqa: S106 - the name of a service
    aliases=DOCKER_HUB_ALIASES,
    library_prefix=True,
)

# Their token services are on their own hosts, and so they are learned from their challenges.
_OTHERS: Final = (
    "ghcr.io",
    "quay.io",
    "gcr.io",
    "registry.k8s.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
)

WELL_KNOWN: Final[Mapping[str, Registry]] = {
    HUB.name: HUB,
    **{name: Registry(name=name, url=f"https://{name}") for name in _OTHERS},
}

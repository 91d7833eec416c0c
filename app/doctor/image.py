"""The image to pull, as one writes it behind the proxy's address."""

from dataclasses import dataclass
from typing import Final, Self

from app.oci.errors import RegistryError
from app.oci.reference import Reference, RepositoryName, Tag, parse_reference
from app.registries import DOCKER_HUB

DEFAULT: Final = "hello-world"
"""Docker Hub's smallest: some 13 KB."""


@dataclass(frozen=True, slots=True)
class Image:
    """A repository, by prefix or of the default registry, and a tag or digest."""

    name: RepositoryName
    reference: Reference

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what is meant; raise ValueError."""
        rest, at, digest = text.partition("@")
        path, slash, last = rest.rpartition("/")
        last, _, tag = last.partition(":")
        try:
            reference = parse_reference(digest) if at else Tag.parse(tag or "latest")
            return cls(RepositoryName.parse(f"{path}{slash}{last}"), reference)
        except RegistryError as error:
            message = f"{text}: {error}; write an image like hello-world or ghcr.io/owner/app:1"
            raise ValueError(message) from error

    @property
    def registry(self) -> str:
        """Return the registry that a prefix names, or Docker Hub."""
        first, slash, _ = self.name.partition("/")
        return first if slash and "." in first else DOCKER_HUB

    @property
    def repository(self) -> str:
        """Return the name that the registry itself has for it."""
        name = self.name.removeprefix(f"{self.registry}/")
        if self.registry == DOCKER_HUB and "/" not in name:
            return f"library/{name}"
        return name

    def by(self, name: str) -> str:
        """Return the path of its manifest, with the repository called so."""
        return f"/v2/{name}/manifests/{self.reference}"

    def __str__(self) -> str:
        return f"{self.name}{'@' if ':' in self.reference else ':'}{self.reference}"

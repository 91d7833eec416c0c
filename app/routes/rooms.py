"""What the views use, put there by create_app."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from flask import Flask, current_app, request

from app.content import Source
from app.oci.reference import RepositoryName
from app.registries import Address, Registries, Registry, Selection
from app.routes.forwarded import Forwarded

_KEY: Final = "docxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The registries, the source of each by its name, and what to believe of a request."""

    registries: Registries
    sources: Mapping[str, Source]
    forwarded: Forwarded
    write_timeout: float

    def put_into(self, app: Flask) -> None:
        """Hand this to the views of an application."""
        app.extensions[_KEY] = self


def rooms() -> Rooms:
    """Return what create_app has put there."""
    return cast("Rooms", current_app.extensions[_KEY])


def namespace() -> str | None:
    """Return the `ns` that containerd adds when it asks a mirror."""
    return request.args.get("ns") or None if request.query_string else None


def selected() -> Selection:
    """Return the registry that a request without a repository name addresses."""
    return rooms().registries.select(ns=namespace(), host=host())


def located(asked: RepositoryName) -> Address:
    """Return the registry and repository that a request addresses."""
    return rooms().registries.resolve(asked, ns=namespace(), host=host())


def host() -> str:
    """Return the host name of this proxy that the client asked."""
    return rooms().forwarded.host(request.environ)


def source(registry: Registry) -> Source:
    """Return where a registry is read from."""
    return rooms().sources[registry.name]

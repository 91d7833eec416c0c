"""Docxy: a registry proxy."""

import logging
from typing import Final

from flask import Flask
from pydantic import SecretStr

from app.content import Source
from app.registries import DOCKER_HUB, DOCKER_HUB_ALIASES, Registries, Registry
from app.routes import answer, challenge, converters, health, render, repository, token
from app.routes.forwarded import Forwarded
from app.routes.rooms import Rooms
from app.settings import HUB_TOKEN_SERVICE, HUB_TOKEN_URL, Settings
from app.upstream.client import Upstream
from app.upstream.outbound import OutboundProxies
from app.upstream.session import Session
from app.version import VERSION

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

MAX_TOKEN_REQUEST: Final = 1024 * 1024
"""Bytes of a request's body; only token requests have one, the largest with a 20 KB token."""


def create_app(settings: Settings) -> Flask:
    """Wire everything; connect to nothing."""
    registries = Registries([_default_registry(settings)])
    proxies = OutboundProxies(
        https=_revealed(settings.https_proxy),
        http=_revealed(settings.http_proxy),
        no_proxy=settings.no_proxy,
    )
    sources: dict[str, Source] = {}
    for row in registries.rows:
        session = Session(
            ca_bundle=settings.ca_bundle,
            proxies=proxies,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
        )
        sources[row.name] = Upstream(row, session)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_TOKEN_REQUEST
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    converters.register(app.url_map)
    answer.register(app)
    render.register(app)
    for blueprint in (health.bp, challenge.bp, token.bp, repository.bp):
        app.register_blueprint(blueprint)
    Rooms(
        registries=registries,
        sources=sources,
        forwarded=Forwarded(trusted=settings.forwarded_allow_ips, public_url=settings.public_url),
        write_timeout=settings.write_timeout,
    ).put_into(app)
    logger.info("Docxy %s is ready. default_registry=%s", VERSION, registries.default.url)
    return app


def _default_registry(settings: Settings) -> Registry:
    is_hub = settings.registry_name in DOCKER_HUB_ALIASES
    pinned = settings.is_docker_hub
    return Registry(
        name=DOCKER_HUB if is_hub else settings.registry_name,
        url=settings.registry_url,
        token_url=settings.token_url or (HUB_TOKEN_URL if pinned else None),
        token_service=settings.token_service or (HUB_TOKEN_SERVICE if pinned else None),
        aliases=DOCKER_HUB_ALIASES if is_hub else frozenset(),
        library_prefix=is_hub,
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None

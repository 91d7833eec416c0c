"""Build the Flask application of Docxy, a registry proxy, from its settings."""

import logging
from collections.abc import Mapping
from typing import Final

from flask import Flask
from pydantic import SecretStr

from app.access.htpasswd import Htpasswd
from app.access.logins import LoginChecker
from app.access.networks import NetworkPolicy, Networks
from app.access.tokens import Guard, TokenIssuer
from app.access.users import SharedSecret, Users
from app.cache import confirming, head_start
from app.cache.blobs.unfinished import measure_unfinished, remove_spools
from app.cache.policy import CachePolicy
from app.cache.source import Cache
from app.cli import commands
from app.cli.context import CliContext, check_owner
from app.config.settings import Settings
from app.events import NOBODY, UNWATCHED, ExchangeObserver, Observer
from app.metrics.figures import Figures, Metrics
from app.registries import DOCKER_HUB, Registries
from app.routes import (
    authentication,
    context,
    flask_app,
    relay,
    render,
    repository,
    search,
    status,
    token,
)
from app.routes.access_log import AccessLog
from app.routes.context import Services
from app.routes.flask_app import Application
from app.routes.forwarded import ForwardedHeaders
from app.source import Source
from app.store.blobs import SizeLimits
from app.store.secret import load_token_key
from app.store.store import find_owner, open_directory
from app.transfer.watch import UnreadLimits
from app.upstream.client import Upstream
from app.upstream.http.connect import Connector
from app.upstream.http.known_registries import KnownRegistries
from app.upstream.http.retries import Reliability
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from app.upstream.managed import ManagedSource
from app.upstream.search import HubSearchIndex
from app.version import VERSION
from app.web import api, assets, config, page

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

MAX_TOKEN_REQUEST: Final = 1024 * 1024
"""The maximum size of a request's body in bytes. Only token requests have one; the largest carry a
token of 20 KB."""


def create_app(settings: Settings) -> Flask:
    """Return the application with all its parts wired, without connecting to anything.

    Raise StoreError if the cache directory cannot be used.
    """
    registries = settings.build_registries()
    proxies = OutboundProxies(
        https=_reveal(settings.https_proxy),
        http=_reveal(settings.http_proxy),
        no_proxy=settings.no_proxy,
    )
    reliability = Reliability(
        retry_budget=settings.retry_budget,
        resume_budget=settings.resume_budget,
        verify_blobs=settings.verify_blobs,
    )
    known_registries = KnownRegistries()
    process_metrics = Metrics() if settings.metrics and not commands.is_command_running() else None
    cache = _build_cache(settings, process_metrics or NOBODY)
    # A command makes only the requests that the operator asked for.
    is_serving = not commands.is_command_running()
    background = confirming.build_background() if is_serving else None
    head_starts = head_start.build_pool() if is_serving else None
    sources: dict[str, Source] = {}
    index: HubSearchIndex | None = None
    for row in registries.rows:
        observer = ExchangeObserver(
            process_metrics.build_observer(row.name) if process_metrics else NOBODY
        )
        session = Session(
            ca_bundles=[bundle for bundle in (settings.ca_bundle, row.ca_bundle) if bundle],
            proxies=proxies,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            connector=Connector(row.allow_private, settings.prefer_ipv4),
            observer=observer,
        )
        upstream = Upstream(row, session, known_registries, reliability)
        known_registries.add(row, upstream)
        if row is registries.default and row.name == DOCKER_HUB:
            index = HubSearchIndex(settings.index_url, session, reliability)
        inner: Source = ManagedSource(upstream, row) if row.managed else upstream
        sources[row.name] = (
            cache.wrap(inner, row, observer, background, head_starts) if cache else inner
        )
    app = Application(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_TOKEN_REQUEST
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    flask_app.register(app.url_map)
    context.register(app)
    users = _build_users(settings)
    guard = _build_guard(settings, users)
    network_policy = NetworkPolicy(allow=settings.allow_networks, deny=settings.deny_networks)
    rules = settings.build_rules(registries)
    authentication.register_network_policy(app, network_policy)
    authentication.register_connection_limit(app, settings.client_connections)
    authentication.register_users(app, guard)
    all_are_equal = guard is None and network_policy.admits_all and not rules.depends_on_client
    relay.register_cache_control(app, all_are_equal=all_are_equal)
    _register_limits(app, settings)
    render.register(app)
    page_blueprints = (page.bp, assets.bp, config.bp, api.bp, search.bp) if settings.page else ()
    core_blueprints = (
        status.health_bp,
        status.metrics_bp,
        status.drip_bp,
        repository.challenge_bp,
        token.bp,
        repository.bp,
    )
    for blueprint in (*core_blueprints, *page_blueprints):
        app.register_blueprint(blueprint)
    Services(
        registries=registries,
        sources=sources,
        forwarded=ForwardedHeaders(
            trusted=settings.forwarded_allow_ips,
            public_url=settings.public_url,
            hosts=registries.hosts,
        ),
        write_timeout=settings.write_timeout,
        figures_networks=Networks(settings.figures_networks),
        figures=_build_figures(process_metrics, sources, registries, cache),
        access_log=AccessLog(process_metrics.watcher if process_metrics else UNWATCHED),
        index=index,
        cache=cache,
        rules=None if rules.is_empty else rules,
        guard=guard,
    ).install(app)
    CliContext(
        registries=registries,
        sources=sources,
        cache=cache,
        lists=network_policy,
        users=users,
        rules=rules,
    ).install(app)
    commands.register(app)
    if not commands.is_command_running():
        _log_start(registries, has_users=guard is not None)
        if guard is not None:
            _warn_of_unknown_users(settings, guard.logins.users)
    return app


def _build_users(settings: Settings) -> Users | None:
    if settings.htpasswd_file is not None:
        return Htpasswd(settings.htpasswd_file.path, settings.htpasswd_file.accepted)
    if settings.shared_secret is not None:
        return SharedSecret(settings.shared_secret.get_secret_value())
    return None


def _build_guard(settings: Settings, users: Users | None) -> Guard | None:
    """Return the guard that checks logins and tokens, or None if it is not needed.

    Its key is the one in the settings, or else the one in the cache directory.
    """
    if users is None or commands.is_command_running():
        return None
    if settings.token_key is not None:
        key = settings.token_key.get_secret_value().encode()
    elif settings.cache_dir is not None:
        key = load_token_key(settings.cache_dir)
    else:
        raise AssertionError  # the settings require one of the two
    return Guard(LoginChecker(users), TokenIssuer(key, users))


def _register_limits(app: Flask, settings: Settings) -> None:
    if settings.allowance.is_unlimited or commands.is_command_running():
        return
    # The libraries for limits take 7 MB in each worker and 80 ms of each start.
    from app.routes import limits as routes_limits  # noqa: PLC0415

    url = _reveal(settings.redis_url)
    # With a shared password, a client may log in under any name.
    users_are_known = settings.htpasswd_file is not None
    routes_limits.register(app, settings.allowance, url, users_are_known=users_are_known)


def _build_cache(settings: Settings, observer: Observer) -> Cache | None:
    if settings.cache_dir is None:
        return None
    if commands.is_command_running():
        check_owner(settings.cache_dir, find_owner(settings.cache_dir))
    limits = SizeLimits(max_size=settings.cache_max_size, min_free=settings.cache_min_free)
    policy = CachePolicy(
        grant_ttl=settings.grant_ttl,
        tag_ttl=settings.tag_ttl,
        stale_ttl=settings.stale_ttl,
        unread_limits=build_unread_limits(settings),
        fetch_connections=settings.fetch_connections,
        resume_budget=settings.resume_budget,
        accel_location=settings.accel_location,
        verify_blobs=settings.verify_blobs,
    )
    storage = open_directory(
        settings.cache_dir, limits, measure_unfinished=lambda path: measure_unfinished(path)[1]
    )
    if not commands.is_command_running():
        remove_spools(storage.unfinished)
    return Cache(storage, policy, observer)


def build_unread_limits(settings: Settings) -> UnreadLimits:
    """Return how many bytes of a blob are fetched after its last reader has left."""
    if settings.cache_unread_limit is not None:
        return UnreadLimits.fixed(settings.cache_unread_limit)
    return UnreadLimits() if settings.allowance.is_unlimited else UnreadLimits.for_limited_clients()


def _build_figures(
    process_metrics: Metrics | None,
    sources: Mapping[str, Source],
    registries: Registries,
    cache: Cache | None,
) -> Figures | None:
    if process_metrics is None:
        return None
    return process_metrics.build_figures(sources, registries.default.name, cache)


def _log_start(registries: Registries, *, has_users: bool) -> None:
    """Log what is served, and warn about settings that the operator may not have intended."""
    default = registries.default
    names = ",".join(row.name for row in registries.rows)
    fields = {"version": VERSION, "default": default.url, "registries": names}
    logger.info("Docxy is ready.", extra={"fields": fields})
    for row in registries.rows:
        if row.account and not has_users:
            logger.warning(
                "Any client can pull what this proxy's own account may read at the registry; "
                "docs/access.md says how to restrict that.",
                extra={"fields": {"registry": row.name}},
            )
        if default.managed and not row.managed and not row.hosts:
            logger.warning(
                "Docker and podman request no tokens for this registry by prefix, because the "
                "default registry needs none. If this registry needs tokens, set its credentials "
                'to "managed", or give it a host of its own.',
                extra={"fields": {"registry": row.name}},
            )


def _warn_of_unknown_users(settings: Settings, users: Users) -> None:
    """Warn about users that the settings name but the file of users lacks.

    A rule for a user that does not exist may be a typing error.
    """
    for location, user in settings.iter_named_users():
        if users.lookup_secret(user) is None:
            logger.warning(
                "The configuration names a user who is not in the users file.",
                extra={"fields": {"location": location, "user": user}},
            )


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None

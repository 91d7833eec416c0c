"""Check the settings of this machine, and the disk of its cache."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from app.config.load import SettingsError, load, read_variable
from app.config.settings import CacheSettings, Settings
from app.doctor.findings import StepResult
from app.doctor.target import Endpoint

_FRONT_TIMEOUT: Final = 1800
"""The time-out in deploy/nginx.conf, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDisk:
    """The cache's directory, with its disk's size and free space in bytes and its owner's UID.

    If the directory does not exist yet, disk and owner are those of its nearest existing parent.
    """

    path: Path
    total: int
    free: int
    owner: int
    content_owner: int
    """The UID of the owner of `content` in the directory, or else of the directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The settings and the cache's disk, or the faults found in the settings."""

    settings: Settings | None = None
    faults: tuple[str, ...] = ()
    disk: CacheDisk | None = None


def inspect_machine() -> Machine:
    """Read the settings and inspect the cache's disk; invalid settings become faults."""
    try:
        settings = load()
    except SettingsError as error:
        return Machine(faults=tuple(error.faults))
    return Machine(settings=settings, disk=_inspect_disk(settings.cache_dir))


def _inspect_disk(path: Path | None) -> CacheDisk | None:
    if path is None:
        return None
    content = path / "content"
    existing = next(
        candidate for candidate in (path, *path.parents) if candidate.exists()
    )  # Docxy creates the rest
    status = existing.stat()
    content_status = content.stat() if content.is_dir() else status
    usage = shutil.disk_usage(existing)
    return CacheDisk(
        path=path,
        total=usage.total,
        free=usage.free,
        owner=status.st_uid,
        content_owner=content_status.st_uid,
    )


def read_public_endpoint(machine: Machine) -> Endpoint | None:
    """Return DOCXY_PUBLIC_URL, even if other settings are wrong; None if it is unset or invalid."""
    settings = machine.settings
    text = (
        (settings.public_url or "") if settings else read_variable(Settings.variable("public_url"))
    )
    try:
        return Endpoint.parse(text) if text else None
    except ValueError:
        return None


def judge_machine(machine: Machine) -> Iterator[StepResult]:
    """Yield the steps for the settings, each alone and in combination, and for the cache's disk."""
    for fault in machine.faults:
        is_directory = fault.startswith(("DOCXY_CACHE_DIR:", "cache_dir:"))
        yield StepResult("settings", fault, "cache-directory" if is_directory else "settings")
    settings = machine.settings
    if settings is None:
        return
    steps = list(_find_contradictions(settings))
    yield from steps
    if not steps:
        yield StepResult("settings", "valid")
    if machine.disk:
        yield _judge_disk(machine.disk, settings)


def judge_address(settings: Settings | None, endpoint: Endpoint) -> StepResult | None:
    """Judge whether the examined address is DOCXY_PUBLIC_URL; return None if that is not set."""
    if settings is None or not settings.public_url:
        return None
    action = "DOCXY_PUBLIC_URL"
    if settings.public_url == str(endpoint):
        return StepResult(action, f"{endpoint}, as tested")
    return StepResult(action, f"{settings.public_url}, but {endpoint} was tested", "other-address")


def _find_contradictions(settings: Settings) -> Iterator[StepResult]:
    set_fields = settings.model_fields_set
    public = urlsplit(settings.public_url or "")
    if public.scheme == "http" and not Endpoint("http", public.hostname or "", 0).is_loopback:
        yield StepResult("settings", f"DOCXY_PUBLIC_URL={settings.public_url}", "public-http")
    cache_fields = sorted(set_fields & CacheSettings.model_fields.keys() - {"cache_dir"})
    if cache_fields and settings.cache_dir is None:
        names = ", ".join(map(Settings.variable, cache_fields))
        yield StepResult("settings", f"{names} without DOCXY_CACHE_DIR", "cache-off")
    long_timeouts = [
        f"{Settings.variable(name)}={getattr(settings, name):g}"
        for name in ("read_timeout", "write_timeout")
        if getattr(settings, name) >= _FRONT_TIMEOUT
    ]
    if long_timeouts:
        outcome = f"{', '.join(long_timeouts)}, and the shipped nginx.conf waits {_FRONT_TIMEOUT} s"
        yield StepResult("settings", outcome, "timeouts")
    yield from _check_registries(settings, public.netloc)


def _check_registries(settings: Settings, public: str) -> Iterator[StepResult]:
    table = settings.build_registries()
    for row in table.rows:
        if public and urlsplit(row.url).netloc == public:
            yield StepResult(
                "settings", f"{row.name} has the URL {row.url}, which is this proxy", "loop"
            )
    unmanaged = [row.name for row in table.rows if not row.managed and not row.hosts]
    if table.default.managed and unmanaged:
        outcome = f"{table.default.name} is managed, but not {', '.join(unmanaged)}"
        yield StepResult("settings", outcome, "managed-mixed")


def _judge_disk(disk: CacheDisk, settings: Settings) -> StepResult:
    action = f"cache: {disk.path}"
    if disk.owner != disk.content_owner:
        # For example because a command ran as root.
        outcome = f"it belongs to user {disk.owner}, and its content to user {disk.content_owner}"
        return StepResult(action, outcome, "cache-directory")
    outcome = f"{_format_gib(disk.free)} of {_format_gib(disk.total)} is free"
    if disk.free < settings.cache_min_free:
        min_free = _format_gib(settings.cache_min_free)
        return StepResult(
            action, f"{outcome}, and DOCXY_CACHE_MIN_FREE is {min_free}", "cache-space"
        )
    max_size = settings.cache_max_size
    if max_size is not None and max_size > disk.total - settings.cache_min_free:
        return StepResult(
            action, f"{outcome}, and DOCXY_CACHE_MAX_SIZE is {_format_gib(max_size)}", "cache-size"
        )
    return StepResult(action, outcome)


def _format_gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"

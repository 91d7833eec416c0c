"""Check the settings of this machine, and the disk of its cache."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from app.config.load import SettingsError, load, told
from app.config.settings import CacheSettings, Settings
from app.doctor.findings import Step
from app.doctor.target import Place

_FRONT: Final = 1800
"""The time-out in deploy/nginx.conf, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The cache's directory, with its disk's size and free space in bytes and its owner's UID.

    If the directory does not exist yet, these are those of its nearest parent.
    """

    path: Path
    total: int
    free: int
    owner: int
    keeper: int
    """The UID of the owner of `content` in the directory, or else of the directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The settings and the cache's disk, or the faults of the settings."""

    settings: Settings | None = None
    faults: tuple[str, ...] = ()
    disk: Disk | None = None


def look() -> Machine:
    """Read the settings and inspect the cache's disk; invalid settings become faults."""
    try:
        settings = load()
    except SettingsError as error:
        return Machine(faults=tuple(error.faults))
    return Machine(settings=settings, disk=_disk(settings.cache_dir))


def _disk(path: Path | None) -> Disk | None:
    if path is None:
        return None
    content = path / "content"
    there = next(one for one in (path, *path.parents) if one.exists())  # Docxy creates the rest
    owner = there.stat()
    keeper = content.stat() if content.is_dir() else owner
    usage = shutil.disk_usage(there)
    return Disk(
        path=path,
        total=usage.total,
        free=usage.free,
        owner=owner.st_uid,
        keeper=keeper.st_uid,
    )


def public_place(machine: Machine) -> Place | None:
    """Return DOCXY_PUBLIC_URL, even if other settings are wrong; None if it is unset or invalid."""
    settings = machine.settings
    text = (settings.public_url or "") if settings else told(Settings.variable("public_url"))
    try:
        return Place.parse(text) if text else None
    except ValueError:
        return None


def judge(machine: Machine) -> Iterator[Step]:
    """Yield the steps for the settings, each alone and in combination, and for the cache's disk."""
    for fault in machine.faults:
        directory = fault.startswith(("DOCXY_CACHE_DIR:", "cache_dir:"))
        yield Step("settings", fault, "cache-directory" if directory else "settings")
    settings = machine.settings
    if settings is None:
        return
    wrong = list(_contradictions(settings))
    yield from wrong
    if not wrong:
        yield Step("settings", "nothing is wrong with them")
    if machine.disk:
        yield _judge_disk(machine.disk, settings)


def judge_address(settings: Settings | None, place: Place) -> Step | None:
    """Judge whether the examined address is DOCXY_PUBLIC_URL; return None if that is not set."""
    if settings is None or not settings.public_url:
        return None
    tried = "DOCXY_PUBLIC_URL"
    if settings.public_url == str(place):
        return Step(tried, f"{place}, as it was asked")
    return Step(tried, f"{settings.public_url}, and {place} was asked", "other-address")


def _contradictions(settings: Settings) -> Iterator[Step]:
    written = settings.model_fields_set
    public = urlsplit(settings.public_url or "")
    if public.scheme == "http" and not Place("http", public.hostname or "", 0).is_loopback:
        yield Step("settings", f"DOCXY_PUBLIC_URL={settings.public_url}", "public-http")
    without = sorted(written & CacheSettings.model_fields.keys() - {"cache_dir"})
    if without and settings.cache_dir is None:
        names = ", ".join(map(Settings.variable, without))
        yield Step("settings", f"{names}, and no DOCXY_CACHE_DIR", "cache-off")
    slow = [
        f"{Settings.variable(name)}={getattr(settings, name):g}"
        for name in ("read_timeout", "write_timeout")
        if getattr(settings, name) >= _FRONT
    ]
    if slow:
        came = f"{', '.join(slow)}, and the shipped nginx.conf waits {_FRONT} s"
        yield Step("settings", came, "timeouts")
    yield from _of_registries(settings, public.netloc)


def _of_registries(settings: Settings, public: str) -> Iterator[Step]:
    table = settings.table()
    for row in table.rows:
        if public and urlsplit(row.url).netloc == public:
            yield Step("settings", f"{row.name} is at {row.url}, which is this proxy", "loop")
    mixed = [row.name for row in table.rows if not row.managed and not row.hosts]
    if table.default.managed and mixed:
        came = f"{table.default.name} is managed, and {', '.join(mixed)} not"
        yield Step("settings", came, "managed-mixed")


def _judge_disk(disk: Disk, settings: Settings) -> Step:
    tried = f"cache: {disk.path}"
    if disk.owner != disk.keeper:
        # For example because a command ran as root.
        came = f"it is the user {disk.owner}'s, and what is in it the user {disk.keeper}'s"
        return Step(tried, came, "cache-directory")
    came = f"{_gib(disk.free)} of {_gib(disk.total)} are free"
    if disk.free < settings.cache_min_free:
        least = _gib(settings.cache_min_free)
        return Step(tried, f"{came}, and DOCXY_CACHE_MIN_FREE leaves {least}", "cache-space")
    most = settings.cache_max_size
    if most is not None and most > disk.total - settings.cache_min_free:
        return Step(tried, f"{came}, and DOCXY_CACHE_MAX_SIZE is {_gib(most)}", "cache-size")
    return Step(tried, came)


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"

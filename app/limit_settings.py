"""The settings of how much each may ask of this proxy: part of Settings."""

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from app.access.allowance import Allowance
from app.setting_values import Size

_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})

Count = Annotated[int, Field(gt=0, le=10**12)]


def _redis_url(secret: SecretStr) -> SecretStr:
    """Check the URL without telling its password."""
    try:
        parts = urlsplit(secret.get_secret_value())
        is_one = bool(parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        is_one = False
    else:
        database = parts.path.strip("/")
        is_number = parts.scheme == "unix" or not database or database.isdecimal()
        is_one = is_one and parts.scheme in _SCHEMES and is_number and not parts.fragment
    if not is_one:
        message = (
            "write a URL like redis://:password@redis.example:6379/0, rediss:// for TLS, or "
            "unix:///run/redis.sock"
        )
        raise ValueError(message)
    return secret


class LimitSettings(BaseModel):
    """What each user, or each address, may have."""

    limit_requests: Count | None = Field(
        None,
        description="How many requests a minute each user may send, or each address: an IPv6 "
        "network of 64 bits is one. More are answered 429 with `Retry-After`. Unset: any number.",
    )
    limit_downloads: Count | None = Field(
        None, description="How many layers each may download at once. Unset: any number."
    )
    limit_bytes: Annotated[Size, Field(gt=0)] | None = Field(
        None,
        description="How many bytes each may download in a day, like `50GB`. What has begun goes "
        "on. Unset: any number.",
    )
    limit_pulls: Count | None = Field(
        None,
        description="How many pulls each may make in a day: GETs of manifests that were answered, "
        "as Docker Hub counts. Unset: any number.",
    )
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = Field(
        None,
        description="The Redis where they are counted, like `redis://:password@redis.example/0`; "
        "several workers need one, and replicas share it. Unset: they are counted in memory.",
    )
    web_concurrency: int = Field(
        1,
        validation_alias="WEB_CONCURRENCY",
        description="Worker processes: gunicorn's own setting, which says its default.",
    )

    @property
    def allowance(self) -> Allowance:
        """What each may have."""
        return Allowance(
            requests=self.limit_requests,
            downloads=self.limit_downloads,
            size=self.limit_bytes,
            pulls=self.limit_pulls,
        )

    def check_limits(self) -> None:
        """Raise ValueError where limits are set that could not be counted."""
        if self.allowance.is_all:
            if self.redis_url:
                message = (
                    "DOCXY_REDIS_URL: limits are counted there, and none is set; set one of "
                    "DOCXY_LIMIT_REQUESTS, DOCXY_LIMIT_DOWNLOADS, DOCXY_LIMIT_BYTES and "
                    "DOCXY_LIMIT_PULLS"
                )
                raise ValueError(message)
            return
        if self.web_concurrency > 1 and not self.redis_url:
            names = ("limit_requests", "limit_downloads", "limit_bytes", "limit_pulls")
            told = ", ".join(f"DOCXY_{name.upper()}" for name in names if getattr(self, name))
            message = (
                f"{told}: {self.web_concurrency} workers would each count by themselves; set "
                "DOCXY_REDIS_URL, where they count together, or WEB_CONCURRENCY=1"
            )
            raise ValueError(message)

"""The settings of how much each may ask of this proxy: part of Settings."""

from typing import Annotated, Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr

from app.access.allowance import Allowance
from app.setting_values import Size

_OPTIONS: Final = {
    "redis": {"db"},
    "rediss": {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"},
    "unix": {"db"},
}
"""What may stand behind `?`, by scheme; redis-py would take more, and fail at the first request."""

Count = Annotated[int, Field(gt=0, le=10**12)]


def _redis_url(secret: SecretStr) -> SecretStr:
    """Check the URL without telling its password."""
    try:
        is_one = _is_redis(urlsplit(secret.get_secret_value()))
    except ValueError:
        is_one = False
    if not is_one:
        message = (
            "write a URL like redis://:password@redis.example:6379/0, rediss:// for TLS, or "
            "unix:///run/redis.sock"
        )
        raise ValueError(message)
    return secret


def _is_redis(parts: SplitResult) -> bool:
    options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    if parts.fragment or not options.keys() <= _OPTIONS.get(parts.scheme, set()):
        return False
    numbers = options.get("db", [])
    if parts.scheme == "unix":
        is_somewhere = bool(parts.path)
    else:
        is_somewhere = bool(parts.hostname) and parts.port != 0
        numbers = [*numbers, parts.path.strip("/") or "0"]
    return parts.scheme in _OPTIONS and is_somewhere and all(map(str.isdecimal, numbers))


def _workers(value: object) -> object:
    text = str(value).strip()
    if not text.isdecimal() or not int(text):
        message = "write how many worker processes there are, like 2; --workers says it too"
        raise ValueError(message)
    return int(text)


class LimitSettings(BaseModel):
    """What each user, or each address, may have."""

    client_connections: Count = Field(
        500,
        description="How many requests of one client address, or of one IPv6 network of 64 bits, "
        "each worker serves at once; a download is one until its last byte. More are answered 429 "
        "with `Retry-After`. Name servers in front in `FORWARDED_ALLOW_IPS`, or all their clients "
        "count as one. It needs no Redis.",
    )
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
    web_concurrency: Annotated[int, BeforeValidator(_workers)] = Field(
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
                "DOCXY_REDIS_URL, where they count together, or have one worker: "
                "WEB_CONCURRENCY=1, and no --workers"
            )
            raise ValueError(message)

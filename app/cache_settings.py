"""The settings of the cache: part of Settings."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.setting_values import AccelLocation, Bytes, CacheDirectory, Duration, Size


class CacheSettings(BaseModel):
    """Whether something is kept, how much of it, and for how long it counts."""

    cache_dir: CacheDirectory | None = Field(
        None,
        description="A directory for what was pulled, made if it is not there. Unset: nothing is "
        "kept and nothing is written.",
    )
    cache_max_size: Annotated[Size, Field(gt=0)] | None = Field(
        None,
        description="How many bytes the cache may take, like `50GB` or `10GiB`, with what is being "
        "fetched; what was used longest ago goes first. Unset: as many as "
        "`DOCXY_CACHE_MIN_FREE` leaves.",
    )
    cache_min_free: Size = Field(
        Bytes(5 << 30), description="How many bytes of the disk the cache leaves free in any case."
    )
    cache_unread_limit: Size | None = Field(
        None,
        description="How many bytes more of a layer are fetched after the last client that read it "
        "has left; `0` stops at once. Unset: `1GiB`; `16MiB` if the client that began the fetch "
        "asked for a part, or a `DOCXY_LIMIT_*` is set.",
    )
    grant_ttl: Duration = Field(
        300,
        description="Seconds for which a registry's yes to a client, for one repository, lets this "
        "client read what is kept of it; never longer than its token lives.",
    )
    tag_ttl: Duration = Field(
        0,
        description="Seconds for which a tag is answered without asking the registry what it "
        "means. `0`: it is asked at each pull, with a HEAD, which is no pull to Docker Hub.",
    )
    stale_ttl: Duration = Field(
        7 * 24 * 3600,
        description="Seconds after its last proof of being public for which a repository is served "
        "from the cache while its registry does not answer, or answers 429 or 5xx. `0`: never.",
    )
    accel_location: AccelLocation | None = Field(
        None,
        description="An `internal` location of the nginx in front, like `/docxy-cache/`, that "
        "serves `content/` of the cache's directory: what is kept is handed over to it "
        "(`X-Accel-Redirect`). Unset: Docxy sends it itself.",
    )

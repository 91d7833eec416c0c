"""The settings of the page and what belongs to it: part of Settings."""

from typing import Final

from pydantic import BaseModel, Field

from app.setting_values import BaseUrl

HUB_INDEX: Final = "https://index.docker.io"
"""Where Docker Hub searches: the address that Docker itself asks."""


class PageSettings(BaseModel):
    """Whether there is something to look at, and where a search is asked."""

    page: bool = Field(
        default=True,
        description="`false` switches off the page at `/`, the files of `/config/` and the search.",
    )
    index_url: BaseUrl = Field(
        HUB_INDEX,
        description="Where Docker Hub's images are searched, for `docker search` and the page; it "
        "counts where the default registry is `docker.io`.",
    )

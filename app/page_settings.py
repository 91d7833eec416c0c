"""The settings of the page and what belongs to it: part of Settings."""

from typing import Final

from pydantic import BaseModel, Field

from app.setting_values import BaseUrl, TrustedPeers

HUB_INDEX: Final = "https://index.docker.io"
"""Where Docker Hub searches: the address that Docker itself asks."""


LOCAL_NETWORKS: Final = "127.0.0.0/8,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,fe80::/10"
"""Loopback and private (RFC 1918, RFC 4193, RFC 4291)."""


class PageSettings(BaseModel):
    """Whether there is something to look at, and where a search is asked."""

    page: bool = Field(
        default=True,
        description="`false` switches off the page at `/`, the files of `/config/` and the search.",
    )
    metrics: bool = Field(
        default=True,
        description="`false` counts nothing: there is no `/metrics`, and no figures on the page.",
    )
    figures_networks: TrustedPeers = Field(
        LOCAL_NETWORKS,
        description="Comma-separated addresses and networks of clients that may see `/metrics`, "
        "figures and the downloads that are running; `*` for all. Unset: this machine and private "
        "networks. Who comes through a server in front that is not among `FORWARDED_ALLOW_IPS` "
        "sees none.",
    )
    index_url: BaseUrl = Field(
        HUB_INDEX,
        description="Where Docker Hub's images are searched, for `docker search` and the page; it "
        "counts where the default registry is `docker.io`.",
    )

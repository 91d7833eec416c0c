"""The settings of who may ask this proxy: part of Settings."""

from pydantic import BaseModel, Field

from app.setting_values import ClientNetworks


class AccessSettings(BaseModel):
    """Whose requests are answered."""

    allow_networks: ClientNetworks | None = Field(
        None,
        description="Comma-separated addresses and networks of the clients that may use this "
        "proxy; `/health` answers everybody. Unset: all may, but for `DOCXY_DENY_NETWORKS`.",
    )
    deny_networks: ClientNetworks | None = Field(
        None,
        description="Comma-separated addresses and networks of clients that may not, even where "
        "`DOCXY_ALLOW_NETWORKS` has them.",
    )

"""The settings of how registries are reached: part of Settings."""

from pydantic import AliasChoices, BaseModel, Field

from app.setting_values import AuthoritiesFile, ProxyUrl, Seconds


class UpstreamSettings(BaseModel):
    """What is believed of registries, by which way they are reached, and how long one waits."""

    ca_bundle: AuthoritiesFile | None = Field(
        None,
        description="A PEM file with certificate authorities for TLS to registries, added to the "
        "usual ones.",
    )
    connect_timeout: Seconds = Field(
        5, description="Seconds to wait for a connection to a registry, for each of its addresses."
    )
    read_timeout: Seconds = Field(
        30,
        description="Seconds that a registry may be silent, before it answers and in the middle of "
        "a body, which then goes on where it stopped. There is no limit on the whole.",
    )
    retry_budget: Seconds = Field(
        45,
        description="Seconds after which a request that has no answer yet is not tried again.",
    )
    resume_budget: Seconds = Field(
        60, description="Seconds without a byte after which a body that broke off is given up."
    )
    prefer_ipv4: bool = Field(
        default=False,
        description="`true` tries a registry's IPv4 addresses first. Else the system decides, and "
        "an address that does not answer in a quarter of a second has the next one tried beside "
        "it.",
    )
    verify_blobs: bool = Field(
        default=False,
        description="`true` hashes every whole blob that passes, holds its last piece back until "
        "the digest is right, and cuts the connection if it is not. Parts of blobs, and digests by "
        "other algorithms than sha256 and sha512, pass unverified. Clients check digests "
        "themselves; this costs processor time.",
    )
    https_proxy: ProxyUrl | None = Field(
        None,
        validation_alias=AliasChoices("HTTPS_PROXY", "ALL_PROXY"),
        description="The outbound proxy for https registries: `http://`, `https://`, `socks5://` "
        "or `socks5h://`.",
    )
    http_proxy: ProxyUrl | None = Field(
        None,
        validation_alias=AliasChoices("HTTP_PROXY", "ALL_PROXY"),
        description="The outbound proxy for http registries.",
    )
    no_proxy: str = Field(
        "",
        validation_alias="NO_PROXY",
        description="Comma-separated hosts, domains, addresses and networks that are reached "
        "without the outbound proxy; `*` for all.",
    )

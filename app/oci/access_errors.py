"""Errors of who may ask this proxy, and for what.

ClientRefused            403  a client that this proxy is not for
RuleRefused              403  what a rule of this proxy denies
ClientHidden             403  one whose address cannot be told, where it decides
FiguresRefused           403  one that may not see what is counted
"""

from app.oci.errors import Denied


class ClientRefused(Denied):
    """A client in a network that this proxy is not for."""

    message = "this proxy does not serve your network"
    refused_by = "networks"


class RuleRefused(Denied):
    """What a rule of this proxy denies; its `detail` says which one, and stands for the word."""

    message = "a rule of this proxy denies it"
    refused_by = "rule"


class ClientHidden(Denied):
    """A client behind a server that is not believed, or that does not say for whom it asks."""

    message = (
        "this proxy serves some networks only, and cannot tell which one you are in: "
        "FORWARDED_ALLOW_IPS names the servers in front that it believes"
    )
    refused_by = "hidden"


class FiguresRefused(Denied):
    """A client that may not see what is counted."""

    message = "figures are for the networks of DOCXY_FIGURES_NETWORKS"
    refused_by = "figures"

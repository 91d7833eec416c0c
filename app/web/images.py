"""An image as one writes it, split as Docker splits it."""

import re
from dataclasses import dataclass
from typing import Final

from app.oci.reference import DIGEST_PATTERN, NAME_PATTERN
from app.registries import DOCKER_HUB

# Possessive: the letters of a variable are also those of a tag, and each way to divide them would
# be tried, so that a hundred characters could stop a worker for ever.
_VARIABLE: Final = r"\$(?:\{[^{}]*+\}|[A-Za-z_]\w*+)"
_HOST: Final = (
    r"(?:localhost|(?=[^/]*[.:])(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9A-Fa-f:.]+\]))"
    r"(?::\d{1,5})?"
)
_IMAGE: Final = re.compile(
    rf"(?:(?P<registry>{_HOST})/)?(?P<repository>{NAME_PATTERN})"
    rf"(?P<version>(?::(?:{_VARIABLE}|[\w.-])++)?(?:@(?:{DIGEST_PATTERN}|{_VARIABLE}))?)"
)
_ID: Final = re.compile(r"[0-9a-f]{64}")
_LONGEST: Final = 1024
"""Characters: a host, a name, a tag and a digest are fewer."""


@dataclass(frozen=True, slots=True)
class Image:
    """`ghcr.io`, `owner/app` and `:1@sha256:...`; the last may hold variables, or nothing."""

    registry: str
    repository: str
    version: str


def image(text: str) -> Image | None:
    """Return what a text means as an image; None for what is none, such as the id of one."""
    if len(text) > _LONGEST or _ID.fullmatch(text) or not text.isascii():
        return None
    found = _IMAGE.fullmatch(text)
    if found is None:
        return None
    return Image(found["registry"] or DOCKER_HUB, found["repository"], found["version"])


def has_variable(text: str) -> bool:
    """Tell whether a text is known only to whoever sets its variables."""
    return "$" in text

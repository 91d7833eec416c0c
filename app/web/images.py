"""Parse an image name as Docker does."""

import re
from dataclasses import dataclass
from typing import Final

from app.oci.reference import DIGEST_PATTERN, NAME_PATTERN
from app.registries import DOCKER_HUB

# Possessive, because a variable's letters can also be part of a tag: the matcher would try every
# way to divide them, and a hundred characters could stop a worker for ever.
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
_MAX_LENGTH: Final = 1024
"""In characters; a host, a name, a tag and a digest together are shorter."""


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image name in parts, such as `ghcr.io`, `owner/app` and `:1@sha256:...`.

    `version` includes its separators. It may contain shell variables, and may be empty.
    """

    registry: str
    repository: str
    version: str


def parse_image_name(text: str) -> ImageName | None:
    """Return the image that a text names, or None if it is not a name, such as an image ID.

    The registry is Docker Hub if the text has none.
    """
    if len(text) > _MAX_LENGTH or _ID.fullmatch(text) or not text.isascii():
        return None
    match = _IMAGE.fullmatch(text)
    if match is None:
        return None
    return ImageName(match["registry"] or DOCKER_HUB, match["repository"], match["version"])


def has_variable(text: str) -> bool:
    """Return whether a text contains a variable, so that its value is not known here."""
    return "$" in text

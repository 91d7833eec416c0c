"""Text in the URL becomes RepositoryName, Tag or Digest, or matches no route.

What matches none is explained by `repository.unmatched`.
"""

from werkzeug.routing import BaseConverter, Map

from app.oci.reference import (
    DIGEST_PATTERN,
    NAME_PATTERN,
    TAG_PATTERN,
    Digest,
    Reference,
    RepositoryName,
    Tag,
)


class RepositoryConverter(BaseConverter):
    """A repository name, slashes and all."""

    regex = NAME_PATTERN
    part_isolating = False

    def to_python(self, value: str) -> RepositoryName:
        """Trust the pattern; the length is checked where the name is complete."""
        return RepositoryName(value)


class ReferenceConverter(BaseConverter):
    """A tag or a digest."""

    regex = f"(?:{DIGEST_PATTERN}|{TAG_PATTERN})"
    part_isolating = False

    def to_python(self, value: str) -> Reference:
        """Tell them apart by the colon, which no tag has."""
        return Digest(value) if ":" in value else Tag(value)


class DigestConverter(BaseConverter):
    """A digest."""

    regex = DIGEST_PATTERN
    part_isolating = False

    def to_python(self, value: str) -> Digest:
        """Trust the pattern."""
        return Digest(value)


class RestConverter(BaseConverter):
    """Anything at all, when nothing else matches."""

    regex = "(?s:.*)"
    part_isolating = False
    weight = 1000


def register(url_map: Map) -> None:
    """Make the converters known, and keep paths as they were sent."""
    url_map.converters["repository"] = RepositoryConverter
    url_map.converters["reference"] = ReferenceConverter
    url_map.converters["digest"] = DigestConverter
    url_map.converters["rest"] = RestConverter
    url_map.merge_slashes = False
    url_map.strict_slashes = False

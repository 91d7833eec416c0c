"""What registries give out as JSON: always an object."""

import json
from collections.abc import Callable
from typing import Any

Fields = Callable[[list[tuple[str, Any]]], dict[str, Any]]


def read(document: bytes, fields: Fields | None = None) -> dict[str, Any]:
    """Return the object; raise ValueError. `fields` makes each object of its names and values."""
    try:
        found = json.loads(document, object_pairs_hook=fields)
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error
    if not isinstance(found, dict):
        message = "it is no JSON object"
        raise ValueError(message)  # noqa: TRY004 - what was read is wrong, not the caller
    return found

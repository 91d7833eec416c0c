"""Reads documents that should be small, and parses JSON documents that must be objects."""

import json
from collections.abc import Callable, Iterable
from typing import Any

ObjectHook = Callable[[list[tuple[str, Any]]], dict[str, Any]]


def read_up_to(pieces: Iterable[bytes], limit: int) -> bytes | None:
    """Return all pieces as one, or None if they have more than `limit` bytes.

    At most one piece beyond the limit is read.
    """
    joined = bytearray()
    for piece in pieces:
        joined += piece
        if len(joined) > limit:
            return None
    return bytes(joined)


def parse_object(document: bytes, fields: ObjectHook | None = None) -> dict[str, Any]:
    """Return the JSON object in a document; raise ValueError if there is none.

    `fields` builds each object from its pairs of name and value, as `object_pairs_hook` of
    `json.loads` does.
    """
    try:
        value = json.loads(document, object_pairs_hook=fields)
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error
    if not isinstance(value, dict):
        message = "it is not a JSON object"
        raise ValueError(message)  # noqa: TRY004 - the document is wrong, not the caller
    return value


def parse_object_or_empty(document: bytes) -> dict[str, Any]:
    """Return the JSON object in a document, or {} if there is none."""
    try:
        return parse_object(document)
    except ValueError:
        return {}

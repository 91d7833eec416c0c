"""Whose each secret is, and where it was seen."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote_plus

from tests.hub.hub import Hub
from tests.hub.record import Record

_BASE64 = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}")


class Ledger:
    """Every secret of a session, with the names of those who may see it."""

    def __init__(self) -> None:
        self._owners: dict[str, frozenset[str]] = {}

    def note(self, secret: str, *owners: str) -> str:
        """Remember a secret and return it; without owners it is nobody's but the client's."""
        self._owners[secret] = frozenset(owners)
        return secret

    @property
    def secrets(self) -> Iterable[str]:
        """All of them."""
        return self._owners.keys()

    def strays(self, hubs: Mapping[str, Hub]) -> list[str]:
        """Tell of each secret that has come where it has no business."""
        return [
            f"{name}: {record.part} {record.method} {record.path} got {secret}"
            for name, hub in hubs.items()
            for record in hub.requests
            for secret in self.in_record(record)
            if name not in self._owners[secret] or record.part in {"cdn", "region"}
        ]

    def in_record(self, record: Record) -> list[str]:
        """Return the secrets that are anywhere in a request, written in whatever way."""
        said = "\n".join(_spellings(_said(record)))
        return [secret for secret in self._owners if secret in said]


def _said(record: Record) -> str:
    lines = [f"{name}: {value}" for name, value in record.headers]
    form = [f"{name}={value}" for name, values in record.body.items() for value in values]
    return "\n".join([record.path, record.raw_query, *lines, *form])


def _spellings(text: str) -> Iterator[str]:
    """Yield a text as it is, with its percent signs resolved, and what is base64 in it."""
    plain = unquote_plus(text)
    yield from (text, plain)
    for match in _BASE64.finditer(plain):
        written = match[0].rstrip("=")
        whole = written[: len(written) - (len(written) % 4 == 1)]  # one character more says nothing
        yield base64.b64decode(whole + "=" * (-len(whole) % 4)).decode(errors="replace")

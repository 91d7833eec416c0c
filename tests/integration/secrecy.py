"""What must not be logged, and whether it was."""

import base64
from collections.abc import Iterator

from tests.hub.record import Record
from tests.servers import Docxy


class Secrets:
    """All that was secret in what the hub was asked so far, looked for in Docxy's growing log."""

    def __init__(self, proxy: Docxy) -> None:
        self._proxy = proxy
        self._read = 0
        self._known = {"alicepw", "bobpw", "wrong-password", "signature=", "expires="}

    def look_for(self, records: list[Record]) -> list[str]:
        """Return what the log has told since the last time; it should be nothing.

        A line may come a moment after its request has ended: then it is looked at the next time.
        """
        for record in records:
            self._known.update(secrets_of(record))
        log = self._proxy.log
        fresh, self._read = log[self._read :], len(log)
        return [secret for secret in self._known if secret in fresh]


def secrets_of(record: Record) -> Iterator[str]:
    """Yield what nobody but the two ends of a request may know."""
    for value in record.headers.getlist("Authorization"):
        scheme, _, secret = value.partition(" ")
        yield secret
        if scheme == "Basic":
            yield base64.b64decode(secret).decode().partition(":")[2]
    for name in ("password", "refresh_token"):
        yield from record.body.get(name, [])
    if record.part == "cdn":
        yield from record.query.get("signature", [])

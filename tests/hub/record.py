"""What the hub was asked: one record for each request, in the order of arrival."""

import dataclasses
import re
import threading
import time
from dataclasses import dataclass
from urllib.parse import parse_qs

from werkzeug.datastructures import Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request and, as far as it is known yet, its answer."""

    part: str
    """registry, token, cdn, region or index."""
    method: str
    path: str
    raw_query: str
    headers: Headers = dataclasses.field(repr=False)
    """Case-insensitive; `getlist` has every line of a name."""
    at: float
    """When it came, by the monotonic clock."""
    body: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """The form of a token POST."""
    status: int = 0
    """0 until the answer begins."""
    sent: int | None = None
    """Body bytes sent; None until the answer has ended, well or not."""

    @property
    def query(self) -> dict[str, list[str]]:
        """The fields of the query."""
        return parse_qs(self.raw_query, keep_blank_values=True)


class Recorder:
    """All records since the last `forget`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[int, Record] = {}
        self._arrivals = 0

    def arrived(self, part: str, method: str, path: str, raw_query: str, headers: Headers) -> int:
        """Note a request and return the number under which it is kept."""
        record = Record(
            part=part,
            method=method,
            path=path,
            raw_query=raw_query,
            headers=headers,
            at=time.monotonic(),
        )
        with self._lock:
            self._arrivals += 1
            self._records[self._arrivals] = record
            return self._arrivals

    def answered(self, number: int, status: int, body: dict[str, list[str]]) -> None:
        """Note the status and the form, before the first byte of the answer goes out."""
        with self._lock:
            if number in self._records:
                self._records[number] = dataclasses.replace(
                    self._records[number], status=status, body=body
                )

    def ended(self, number: int, sent: int) -> None:
        """Note how many bytes of the body went out."""
        with self._lock:
            if number in self._records:
                self._records[number] = dataclasses.replace(self._records[number], sent=sent)

    def forget(self) -> None:
        """Drop all records, also of requests that are still being answered."""
        with self._lock:
            self._records.clear()

    def all(self) -> list[Record]:
        """Return the records, oldest first."""
        with self._lock:
            return list(self._records.values())

    def select(
        self,
        part: str | None = None,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
    ) -> list[Record]:
        """Return the records that fit; `path` is a regular expression to be found in the path."""
        return [
            record
            for record in self.all()
            if part in {None, record.part}
            and method in {None, record.method}
            and status in {None, record.status}
            and (path is None or re.search(path, record.path))
        ]

    def count(
        self,
        part: str | None = None,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
    ) -> int:
        """Count the records that fit."""
        return len(self.select(part, method, path, status))

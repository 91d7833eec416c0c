"""The registry is asked for a blob, in the name of one who wants it."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from app.cache.callers import Caller
from app.cache.gate import Gate
from app.content import Payer, Reply, Request, Source
from app.oci import headers
from app.oci.reference import Digest, RepositoryName

_OF_THE_ANSWER: Final = (
    "range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
)  # fmt: skip
"""What asks for less than the blob: answered here, where the blob is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who wants which blob of which repository; each question tells the gate what is answered.

    `began` is the moment, by the gate's clock, before the first question.
    """

    inner: Source
    gate: Gate
    caller: Caller
    name: RepositoryName
    digest: Digest
    request: Request
    began: float
    only_verified: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells this question from others, in one registry."""
        return (self.caller.name, self.name, self.digest)

    @property
    def payer(self) -> Payer | None:
        """The client that pays for what nobody else reads; None is nobody."""
        return self.request.payer

    def as_it_is(self) -> Reply:
        """Ask what the client asks."""
        return self._ask(self.request)

    def head(self) -> Reply:
        """Ask whether it may be read, and how long it is."""
        return self._ask(self._plain("HEAD"))

    def rest(self, offset: int) -> Reply:
        """Ask for all from a byte on, for everybody: nobody's leaving ends it."""
        request = replace(self._plain("GET"), client=None, has_fallback=None)
        return self._ask(_with_range(request, f"bytes={offset}-") if offset else request)

    def part(self, start: int, end: int) -> Reply:
        """Ask for bytes `start` to `end`, the last one not counted, for this client alone."""
        request = replace(self._plain("GET"), has_fallback=None)  # the body has begun
        return self._ask(_with_range(request, f"bytes={start}-{end - 1}"))

    def verified(self) -> None:
        """Note that this repository holds the blob, of which all bytes came and are right."""
        self.gate.verified(self.caller, self.name, self.digest, ("", self.began))

    def _plain(self, method: str) -> Request:
        fields = headers.without(self.request.headers, *_OF_THE_ANSWER)
        return replace(self.request, method=method, headers=fields)

    def _ask(self, request: Request) -> Reply:
        question = partial(self.inner.blob, self.name, self.digest, request)
        return self.gate.ask(self.caller, self.name, question, self.digest)


def _with_range(request: Request, wanted: str) -> Request:
    return replace(request, headers=[*request.headers, ("Range", wanted)])

"""One who may fetch a blob does it for everybody."""

from contextlib import ExitStack, suppress
from dataclasses import replace
from http import HTTPStatus

from app.cache import fitting
from app.cache.asking import Asking
from app.cache.head_first import conclude
from app.cache.parts import part_for
from app.content import BodyBroken, Reply
from app.oci.errors import UpstreamUnavailable
from app.oci.reference import Digest
from app.spools.fetches import Fetches
from app.spools.filling import fill
from app.spools.lead import Lead
from app.spools.record import State
from app.spools.resuming import Rest, rest_of, size_of
from app.spools.spool import Spool
from app.store.verifying import digest_of


class Refused(Exception):
    """The registry has answered, and not with the blob; `reply` is to be passed on."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def led(asking: Asking, lead: Lead, fetches: Fetches) -> Spool | None:
    """Fetch, and return what is there of it; None if it cannot be fetched for all.

    Raise Refused, RegistryError, or OSError where the disk does not let it be.
    """
    with ExitStack() as stack:
        stack.callback(_release, lead)
        found = _rest(asking, lead)
        if found is None:
            return None
        rest, size = found
        stack.callback(rest.close)
        try:
            lead.begin(size)
            spool = fetches.join(asking.digest, asking.payer)
        except OSError:
            with suppress(OSError):
                lead.discard(State.GIVEN_UP)
            raise
        if spool is None:
            return None
        stack.pop_all()
    part = part_for(asking.request, asking.digest, size)
    fill(lead, rest, asking, whole=part.is_whole)
    return spool


def _release(lead: Lead) -> None:
    with suppress(OSError):
        lead.release()


def _rest(asking: Asking, lead: Lead) -> tuple[Rest, int] | None:
    """Return the bytes that are lacking, and the size of the whole."""
    if lead.size is not None and lead.offset == lead.size:
        return _nothing_more(asking, lead.size)
    reply = asking.rest(lead.offset)
    if not reply.is_error and not fitting.is_blob(reply, asking.digest):
        reply = _proved(reply, asking.digest)
    if reply.status != HTTPStatus.OK and (not lead.offset or _is_refusal(reply)):
        raise Refused(reply)
    size = size_of(reply)
    if size is None or lead.size not in {None, size}:
        reply.close()
        return None
    rest = rest_of(reply, lead.offset, size)
    return None if rest is None else (rest, size)


def _is_refusal(reply: Reply) -> bool:
    """Tell whether the whole blob would be refused as well as the rest of it is."""
    return reply.is_error and reply.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _proved(reply: Reply, digest: Digest) -> Reply:
    """Read what has the type of a server's own words, and return it if it is the blob.

    Some registries and CDNs call configs JSON, or text. Raise Refused for all else.
    """
    if reply.status != HTTPStatus.OK or reply.length is None or reply.length >= fitting.WORDS:
        raise Refused(reply)
    try:
        data = b"".join(reply.body)
    except BodyBroken as error:
        message = "the registry broke off in a blob"
        raise UpstreamUnavailable(message) from error
    finally:
        reply.close()
    reply = replace(reply, body=[data], close=_close_nothing)
    if fitting.is_page(reply) or digest_of(data, digest) != digest:
        raise Refused(reply)
    return reply


def _nothing_more(asking: Asking, size: int) -> tuple[Rest, int] | None:
    """Ask whether it may be read at all; all of it was fetched by one who did not finish.

    Raise Refused where the answer is already the client's.
    """
    reply = asking.head()
    if refusal := conclude(reply, asking.request):
        raise Refused(refusal)
    reply.close()
    fits = reply.length == size and fitting.is_blob(reply, asking.digest)
    if reply.status != HTTPStatus.OK or not fits:
        return None
    return Rest((), _close_nothing), size


def _close_nothing() -> None:
    pass

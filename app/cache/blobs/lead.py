"""Leading a fetch: the client that may fetch a blob does so for all its readers."""

from contextlib import ExitStack, suppress
from dataclasses import replace
from http import HTTPStatus

from app.cache.authz import evidence
from app.cache.blobs.serve import BlobRequest, select_range
from app.cache.head_first import find_refusal
from app.oci.errors import UpstreamUnavailable
from app.oci.reference import Digest
from app.source import BodyBroken, Reply, do_nothing
from app.spools.fetches import Fetches, Spool
from app.spools.files import FetchState
from app.spools.filling import RemainingBody, parse_rest, parse_size, start_fetch_thread
from app.spools.lead import FetchLease


class BlobRefused(Exception):
    """The registry answered with something other than the blob; relay `reply` to the client."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def lead_fetch(asking: BlobRequest, lead: FetchLease, fetches: Fetches) -> Spool | None:
    """Start the fetch and return its spool; None if it cannot be fetched for all readers.

    Raise BlobRefused if the registry answers with something else, RegistryError if it does not
    answer, and OSError if nothing can be written. `lead` is released in all these cases.
    """
    with ExitStack() as stack:
        stack.callback(_release, lead)
        found = _fetch_rest(asking, lead)
        if found is None:
            return None
        rest, size = found
        stack.callback(rest.close)
        try:
            lead.start(size)
            spool = fetches.join(asking.digest, asking.payer)
        except OSError:
            with suppress(OSError):
                lead.discard(FetchState.GIVEN_UP)
            raise
        if spool is None:
            return None
        stack.pop_all()
    part = select_range(asking.request, asking.digest, size)
    start_fetch_thread(lead, rest, asking, whole=part.is_whole)
    return spool


def _release(lead: FetchLease) -> None:
    with suppress(OSError):
        lead.release()


def _fetch_rest(asking: BlobRequest, lead: FetchLease) -> tuple[RemainingBody, int] | None:
    """Return the missing bytes, and the size of the whole blob; None if they do not fit."""
    if lead.size is not None and lead.offset == lead.size:
        return _confirm_complete(asking, lead.size)
    reply = asking.fetch_rest(lead.offset)
    if not reply.is_error and not evidence.is_blob(reply, asking.digest):
        reply = _verify_buffered(reply, asking.digest)
    if reply.status != HTTPStatus.OK and (not lead.offset or _is_refusal(reply)):
        raise BlobRefused(reply)
    size = parse_size(reply)
    if size is None or lead.size not in {None, size}:
        reply.close()
        return None
    rest = parse_rest(reply, lead.offset, size)
    return None if rest is None else (rest, size)


def _is_refusal(reply: Reply) -> bool:
    """Return whether the registry would refuse the whole blob too, and not only its rest."""
    return reply.is_error and reply.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def _verify_buffered(reply: Reply, digest: Digest) -> Reply:
    """Read an answer with the media type of an error document, and return it if it is the blob.

    Some registries and CDNs send configs as JSON or text. Raise BlobRefused if it is anything else,
    and UpstreamUnavailable if the body breaks off.
    """
    if reply.status != HTTPStatus.OK or reply.length is None or reply.length >= evidence.WORDS:
        raise BlobRefused(reply)
    try:
        data = reply.read()
    except BodyBroken as error:
        message = "the registry broke off in a blob"
        raise UpstreamUnavailable(message) from error
    finally:
        reply.close()
    reply = replace(reply, body=data, close=do_nothing)
    if evidence.is_page(reply) or not digest.matches(data):
        raise BlobRefused(reply)
    return reply


def _confirm_complete(asking: BlobRequest, size: int) -> tuple[RemainingBody, int] | None:
    """Ask with a HEAD whether the caller may read a blob whose bytes are all here already.

    An earlier leader fetched them and did not finish. Return None if the registry does not confirm
    the blob and its size. Raise BlobRefused if its answer settles the client's request.
    """
    reply = asking.fetch_head()
    if refusal := find_refusal(reply, asking.request):
        raise BlobRefused(refusal)
    reply.close()
    fits = reply.length == size and evidence.is_blob(reply, asking.digest)
    if reply.status != HTTPStatus.OK or not fits:
        return None
    return RemainingBody((), do_nothing), size

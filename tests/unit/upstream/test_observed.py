"""What happens while a registry is asked is told once, and in few words."""

import pytest
import requests
import responses

from app.events import Event
from app.oci.errors import UpstreamTimeout, UpstreamUnreachable
from app.oci.reference import Operation, RepositoryName, Tag
from app.registries import Registry
from app.source import Request
from app.upstream import replies
from app.upstream.client import Upstream
from app.upstream.http.backoff import CircuitBreaker
from app.upstream.http.connect import Connector
from app.upstream.http.deadlines import NO_LIMIT, Call
from app.upstream.http.known_registries import KnownRegistries
from app.upstream.http.retries import Reliability, Retrier
from app.upstream.http.session import Session
from app.upstream.http.urls import OutboundProxies
from tests.unit.observing import Remembering
from tests.unit.upstream.blobs import BLOB, DIGEST, NAME, Answer, Hosts
from tests.unit.upstream.clock import Clock
from tests.unit.upstream.hurry import hurried

MANIFEST = "https://registry.example.com/v2/library/nginx/manifests/latest"
NGINX = RepositoryName("library/nginx")


def session(observer: Remembering) -> Session:
    """Return a session that tells an observer."""
    return Session(
        ca_bundles=(),
        proxies=OutboundProxies(https=None, http=None, no_proxy=""),
        connect_timeout=5,
        read_timeout=5,
        connector=Connector(allow_private=True, prefer_ipv4=False),
        observer=observer,
    )


def upstream(observer: Remembering, url: str = "https://registry.example.com") -> Upstream:
    """Return a registry that is watched."""
    row = Registry(name="r.example", url=url, allow_private=True)
    reliability = Reliability(retry_budget=45, resume_budget=60)
    return Upstream(row, session(observer), KnownRegistries(), reliability)


def test_a_body_that_goes_on() -> None:
    """Each request, each answer, each byte and the resume are told."""
    watched = Remembering()
    hosts = Hosts(BLOB, [Answer(cut=300)])
    with hosts.up(), hurried():
        reply = upstream(watched, hosts.url).answer(
            Operation.blob(NAME, DIGEST), Request(method="GET")
        )
        assert reply.read() == BLOB
        reply.close()
    assert watched.counts == {
        (Event.REQUEST_SENT, ""): 3,
        (Event.RESPONSE_RECEIVED, "307"): 1,
        (Event.RESPONSE_RECEIVED, "200"): 1,
        (Event.RESPONSE_RECEIVED, "206"): 1,
        (Event.RESUMED, ""): 1,
        (Event.BODY_RECEIVED, ""): watched.counts[Event.BODY_RECEIVED, ""],
    }
    assert watched.amounts[Event.BODY_RECEIVED] == len(BLOB)


@pytest.mark.parametrize(("method", "spent"), [("GET", 1), ("HEAD", 0)])
def test_a_pull(method: str, spent: int) -> None:
    """A GET of a manifest is one, a HEAD is none; both tell what is left."""
    watched = Remembering()
    fields = {
        "ratelimit-limit": "100;w=21600",
        "ratelimit-remaining": "76;w=21600",
        "docker-ratelimit-source": "203.0.113.7",
    }
    with responses.RequestsMock() as mock:
        mock.add(method, MANIFEST, body=b"{}", headers=fields)
        upstream(watched).answer(
            Operation.manifest(NGINX, Tag("latest")), Request(method=method)
        ).close()
    assert watched.counts[Event.PULL_SPENT, ""] == spent
    (told,) = watched.budgets
    assert (told.limit, told.remaining, told.window) == (100, 76, 21600)
    assert told.identity.startswith("address-")
    assert "203.0.113.7" not in told.identity


def test_what_is_asked_again(clock: Clock) -> None:
    """A retry is told when it is made, a failure with its kind."""
    del clock
    watched = Remembering()
    with responses.RequestsMock() as mock:
        mock.get(MANIFEST, status=503)
        mock.get(MANIFEST, body=requests.exceptions.ReadTimeout())
        mock.get(MANIFEST, body=b"{}")
        with hurried():
            reply = upstream(watched).answer(
                Operation.manifest(NGINX, Tag("latest")), Request(method="GET")
            )
    assert reply.status == 200
    assert watched.counts[Event.RETRIED, ""] == 2
    assert watched.counts[Event.REQUEST_FAILED, "timeout"] == 1
    assert watched.counts[Event.REQUEST_SENT, ""] == 3


def test_a_host_that_is_left_alone(clock: Clock) -> None:
    """It is told when that begins and when it ends."""
    watched = Remembering()
    breaker = CircuitBreaker(watched)

    def fail() -> None:
        with pytest.raises(UpstreamTimeout), breaker.guard("r.example"):
            raise UpstreamTimeout

    for _ in range(4):
        fail()
    clock.pass_by(3)
    fail()
    assert watched.counts == {(Event.CIRCUIT_OPENED, ""): 1}
    clock.pass_by(30)
    with breaker.guard("r.example"):
        pass
    assert watched.counts == {(Event.CIRCUIT_OPENED, ""): 1, (Event.CIRCUIT_CLOSED, ""): 1}


def test_what_is_not_asked_again() -> None:
    """A failure that is the last is no retry."""
    watched = Remembering()

    def ask(call: Call) -> requests.Response:
        del call
        raise UpstreamUnreachable

    with pytest.raises(UpstreamUnreachable):
        Retrier(0, observer=watched)(ask, NO_LIMIT)
    assert not watched.counts


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"ratelimit-limit": "100;w=60"}, None, id="half"),
        pytest.param(
            {"ratelimit-limit": "many", "ratelimit-remaining": "few"}, None, id="no numbers"
        ),
        pytest.param(
            {"ratelimit-limit": "100", "ratelimit-remaining": "7"},
            ("unknown", 100, 7, 21600),
            id="no window, no source",
        ),
        pytest.param(
            {
                "ratelimit-limit": "200;w=60",
                "ratelimit-remaining": "9;w=60",
                "docker-ratelimit-source": "b5a0a0a0-0000-4000-8000-000000000000",
            },
            ("account", 200, 9, 60),
            id="an account",
        ),
    ],
)
def test_what_is_left(fields: dict[str, str], told: tuple[str, int, int, int] | None) -> None:
    """What cannot be read is not there; who it is of is not told."""
    response = requests.Response()
    response.headers.update(fields)
    read = replies.parse_budget(response)
    found = read and (read.identity.partition("-")[0], read.limit, read.remaining, read.window)
    assert found == told

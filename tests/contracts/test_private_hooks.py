"""What Docxy needs of its libraries beyond their documentation: read this before upgrading one.

Each contract names the module that needs it, and the private names in it. These tests come first
(tests/conftest.py), so that an upgrade fails here before anywhere else. They need no fixture, and
so they also run where the application itself cannot be imported any more:

    .venv/bin/python -m pytest --noconftest tests/contracts

The last test finds the private names in the code, so the list of them is complete.
"""

import ast
import contextlib
import importlib
import inspect
import io
import os
import socket
import ssl
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pytest

# ruff: noqa: D401 - a contract says what the library does, and not what the test does
# ruff: noqa: PLC0415 - an import that fails is a failure of the contract that needs it
# ruff: noqa: SLF001 - private names are what this is about

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).relative_to(ROOT)
LONG: Final = 64 * 1024


@dataclass(frozen=True)
class Contract:
    """What a module of ours relies on; entered, it explains a failure."""

    user: str
    library: str
    private: frozenset[str]
    holds: Callable[[], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        if failure is not None:
            failure.add_note(
                f"{self.user} relies on this, and the installed {self.library} does not keep it. "
                f"Read {HERE} before upgrading {self.library}."
            )


CONTRACTS: Final[list[Contract]] = []


def contract(
    user: str, library: str, *private: str
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Make a contract of a function that fails where it is broken."""

    def add(holds: Callable[[], None]) -> Callable[[], None]:
        CONTRACTS.append(Contract(user, library, frozenset(private), holds))
        return holds

    return add


@pytest.mark.parametrize("kept", CONTRACTS, ids=lambda kept: kept.holds.__name__)
def test_contract(kept: Contract) -> None:
    """The library still does what our module relies on."""
    with kept:
        kept.holds()


def names_in(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a function and the functions within it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def assert_uses(function: Any, *names: str) -> None:
    """See that a function of a library calls, or reads, what we replace."""
    assert set(names) <= set(names_in(inspect.unwrap(function).__code__))


def assert_takes(function: Any, *names: str) -> None:
    """See that a function of a library has these arguments, in this order and first."""
    taken = [name for name in inspect.signature(function).parameters if name != "self"]
    assert taken[: len(names)] == list(names)


def assert_overrides(ours: type, theirs: type, *names: str) -> None:
    """See that a library's class has the methods that ours overrides, and ours take the same."""
    for name in names:
        assert getattr(ours, name) is not getattr(theirs, name)
        wanted = inspect.signature(getattr(theirs, name)).parameters.values()
        given = inspect.signature(getattr(ours, name)).parameters
        kinds = {one.kind for one in given.values()}
        for one in wanted:
            is_taken = one.name in given or inspect.Parameter.VAR_KEYWORD in kinds
            assert is_taken or one.kind is inspect.Parameter.VAR_POSITIONAL, (name, one)


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the two ends of a connection."""
    here, there = socket.socketpair()
    with here, there:
        here.settimeout(5)
        there.settimeout(5)
        yield here, there


# gunicorn: the request and its body


def read_request(*pieces: bytes) -> Any:
    """Let gunicorn's parser read a request that is there from the beginning."""
    from gunicorn import http
    from gunicorn.config import Config

    import server.request  # noqa: F401 - makes gunicorn's parser make our requests

    cfg = Config()
    cfg.set("http_parser", "python")
    cfg.set("limit_request_line", 0)
    cfg.set("limit_request_field_size", LONG)
    parser: Any = http.get_parser(cfg, iter(pieces[1:]), ("127.0.0.1", 1))
    parser.unreader.unread(pieces[0])
    return next(parser)


@contract("server.request", "gunicorn")
def gunicorns_parser_makes_our_request() -> None:
    from server.request import BoundedRequest

    made = read_request(b"GET /v2/?a=b HTTP/1.1\r\nHost: a\r\n\r\n")
    assert type(made) is BoundedRequest
    assert (made.path, made.query, made.version, made.req_number) == ("/v2/", "a=b", (1, 1), 1)
    assert made.peer_addr == ("127.0.0.1", 1)
    assert made.cfg.keepalive


@contract("server.request", "gunicorn")
def gunicorns_request_heeds_our_bounds() -> None:
    from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine

    with pytest.raises(LimitRequestLine):
        read_request(b"GET /?" + b"a" * LONG + b" HTTP/1.1\r\n\r\n")
    fields = [b"A%d: " % number + b"a" * 60_000 + b"\r\n" for number in range(6)]
    with pytest.raises(LimitRequestHeaders):
        read_request(b"GET / HTTP/1.1\r\n", *fields, b"\r\n")


@contract("server.request", "gunicorn", "_peer_is_trusted_proxy")
def gunicorns_request_asks_whom_to_trust() -> None:
    """It asks by a method that ours replaces, and each response asks for what ours caches."""
    from gunicorn.http import wsgi
    from gunicorn.http.message import Request

    base: Any = Request
    assert_uses(base._peer_trusted_for_forwarded, "_peer_is_trusted_proxy")
    assert_uses(base._peer_is_trusted_proxy, "peer_addr", "forwarded_allow_ips", "cfg")
    assert_takes(base._peer_is_trusted_proxy)
    assert_uses(wsgi.base_environ, "WSGIErrorsWrapper")
    assert_uses(wsgi.Response.default_headers, "http_date")


@contract("server.request", "gunicorn")
def gunicorns_readers_know_what_is_left() -> None:
    from gunicorn.http.body import ChunkedReader, LengthReader

    head = b"PUT / HTTP/1.1\r\nHost: a\r\n"
    nothing = read_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (type(nothing.body.reader), nothing.body.reader.length) == (LengthReader, 0)
    known = read_request(head + b"Content-Length: 3\r\n\r\nabc")
    assert (type(known.body.reader), known.body.reader.length) == (LengthReader, 3)
    assert (known.body.read(), known.body.reader.length) == (b"abc", 0)
    chunked = read_request(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert type(chunked.body.reader) is ChunkedReader
    assert chunked.body.reader.parser is not None
    assert chunked.body.read() == b"abc"
    assert chunked.body.reader.parser is None


@contract("server.request", "gunicorn")
def gunicorns_unreader() -> None:
    from gunicorn.http.unreader import SocketUnreader

    with connected() as (here, there):
        unreader: Any = SocketUnreader(here)
        there.sendall(b"ab")
        assert unreader.sock is here
        assert unreader.take_buffered() == b""
        assert unreader.chunk() == b"ab"
        unreader.unread(b"ab")
        assert unreader.take_buffered() == b"ab"


# gunicorn: the worker


def async_worker(**more: Any) -> Any:
    """Return a worker of gunicorn's that has begun to serve, with some methods replaced."""
    from gunicorn.config import Config
    from gunicorn.workers.base_async import AsyncWorker

    worker: Any = AsyncWorker.__new__(type("Worker", (AsyncWorker,), {}))
    log = dict.fromkeys(("debug", "info", "exception", "access"), lambda *_, **__: None)
    own = {
        "cfg": Config(), "log": types.SimpleNamespace(**log), "nr": 0, "max_requests": 1000,
        "alive": True, "timeout_ctx": contextlib.nullcontext,
    }  # fmt: skip
    worker.__dict__.update(own | more)
    return worker


@contract("server.worker", "gunicorn")
def gunicorns_worker_hands_on_requests() -> None:
    """`handle` gives us each request, ends at StopIteration, and tells us of what is no request."""
    from gunicorn.http.errors import ParseException

    served: list[Any] = []
    failed: list[Any] = []

    def serve(*about: Any) -> bool:
        served.append(about)
        if len(served) == 2:
            raise StopIteration
        return True

    worker = async_worker(handle_request=serve, handle_error=lambda *about: failed.append(about))
    peer = ("127.0.0.1", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with connected() as (here, there):
            there.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            worker.handle(listener, here, peer)
            name = listener.getsockname()
            assert [(about[0], *about[2:]) for about in served] == [(name, here, peer)] * 2
        with connected() as (here, there):
            there.sendall(b"what?\r\n\r\n")
            worker.handle(listener, here, peer)
            ((*about, failure),) = failed
            assert about == [None, here, peer]
            assert isinstance(failure, ParseException)


@contract("server.worker", "gunicorn")
def gunicorns_worker_serves_a_request() -> None:
    """It says whether the connection goes on, and hands the socket to the application."""
    seen: list[Any] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["gunicorn.socket"])
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    worker = async_worker(wsgi=application)
    kept = read_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    last = read_request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    with connected() as (here, there):
        assert worker.handle_request(("127.0.0.1", 2), kept, here, ("127.0.0.1", 1)) is True
        with pytest.raises(StopIteration):
            worker.handle_request(("127.0.0.1", 2), last, here, ("127.0.0.1", 1))
        assert seen == [here, here]
        assert there.recv(LONG).startswith(b"HTTP/1.1 200 OK\r\n")


@contract("server.worker", "gunicorn")
def gunicorns_gevent_worker() -> None:
    """It makes a server of `server_class`, with a pool of `worker_connections` greenlets."""
    from gunicorn import util
    from gunicorn.workers.ggevent import GeventWorker

    from server.worker import Worker

    assert_overrides(
        Worker, GeventWorker, "patch", "run", "load_wsgi", "handle", "handle_request",
        "timeout_ctx", "handle_error", "notify", "handle_quit",
    )  # fmt: skip
    assert_uses(GeventWorker.init_process, "patch")
    assert_takes(util.close_graceful, "sock")
    made: list[dict[str, Any]] = []

    class Server:
        def __init__(self, listener: Any, **given: Any) -> None:
            made.append(given | {"listener": listener})
            self.pool = given["spawn"]

        def start(self) -> None:
            pass

        close = start

    worker: Any = GeventWorker.__new__(GeventWorker)
    like = async_worker(alive=False, worker_connections=7, server_class=Server, wsgi=None)
    with socket.socket() as listener:
        worker.__dict__.update(vars(like) | {"sockets": [listener]})
        worker.run()
    assert (made[0]["listener"], made[0]["spawn"].size) == (listener, 7)


@contract("server.arbiter", "gunicorn")
def gunicorns_arbiter() -> None:
    """It calls on itself the methods that we replace, and keeps its workers where we hide some."""
    from gunicorn.arbiter import Arbiter
    from gunicorn.errors import HaltServer
    from gunicorn.workers.base import Worker

    assert_uses(Arbiter.run, "start", "manage_workers", "wait_for_signals", "HaltServer")
    assert_takes(Arbiter.wait_for_signals, "timeout")
    assert_takes(Arbiter.kill_worker, "pid", "sig")
    assert_uses(Arbiter.handle_hup, "reload")
    assert_uses(Arbiter.handle_chld, "reap_workers")
    assert_uses(Arbiter.reload, "setup", "worker_age", "spawn_worker", "manage_workers")
    assert_uses(Arbiter.manage_workers, "WORKERS", "num_workers", "spawn_workers")
    assert_uses(Arbiter.spawn_worker, "WORKERS", "worker_age", "pre_fork", "post_fork", "tmp")
    assert_uses(Arbiter.reap_workers, "WORKERS", "HaltServer")
    assert_uses(Arbiter.__init__, "SIG_QUEUE", "SimpleQueue")
    assert_uses(Worker.__init__, "age", "alive", "tmp")
    halt = HaltServer("why", 3)
    assert (halt.reason, halt.exit_status) == ("why", 3)


@contract("gunicorn.conf", "gunicorn")
def gunicorns_configuration() -> None:
    """The start sees what arguments have made of the settings that are pinned."""
    from gunicorn import glogging
    from gunicorn.arbiter import Arbiter
    from gunicorn.config import Config

    cfg = Config()
    cfg.set("http_protocols", "h1")
    assert (cfg.protocol, cfg.http_protocols, cfg.http2_cleartext) == ("http", ["h1"], "off")
    cfg.set("forwarded_allow_ips", "10.0.0.0/8,::1")
    assert [str(one) for one in cfg.forwarded_allow_networks()] == ["10.0.0.0/8", "::1/128"]
    assert_uses(Arbiter.start, "on_starting", "when_ready")
    assert_uses(Arbiter.setup, "worker_class")
    assert_takes(glogging.Logger.setup, "cfg")
    assert_uses(glogging.Logger.setup, "error_log")


@contract("app.logs", "gunicorn")
def gunicorns_line_about_a_malformed_request() -> None:
    """Docxy takes out of it what it quotes of the request."""
    from gunicorn.workers.base import Worker

    texts = [one for one in Worker.handle_error.__code__.co_consts if isinstance(one, str)]
    assert any(text.startswith("Invalid request from ip={ip}: ") for text in texts)


# gevent


@contract("server.client_socket", "gevent", "_wait", "_write_event")
def gevents_socket() -> None:
    """`send` takes a timeout of its own, and waits as `send_file` does."""
    from gevent import socket as gevent_socket

    here: Any
    here, there = gevent_socket.socketpair()

    def fill() -> None:
        while True:
            here.send(b"a" * LONG, 0, timeout=0.0)

    with contextlib.closing(here), contextlib.closing(there):
        assert here.send(b"a", 0, timeout=0.0) == 1
        here._wait(here._write_event)
        with pytest.raises(BlockingIOError):
            fill()
        here.settimeout(0.01)
        with pytest.raises(TimeoutError):
            here._wait(here._write_event)


@contract("server.worker", "gevent")
def gevents_server() -> None:
    """It asks `do_read` for connections, and can leave them to others for a while."""
    from gevent.baseserver import BaseServer
    from gevent.server import StreamServer

    from server.worker import Server

    assert_overrides(Server, StreamServer, "do_read")
    assert_takes(StreamServer.__init__, "listener", "handle", "backlog", "spawn")
    base: Any = BaseServer
    assert_uses(base._do_read, "max_accept", "full", "do_read", "do_handle")
    assert callable(BaseServer.start_accepting)
    assert callable(BaseServer.stop_accepting)
    assert isinstance(vars(BaseServer)["started"], property)


@contract("server.worker", "gevent")
def gevents_hub() -> None:
    """It tells of a failed greenlet by `print_exception`, which may be set on the hub."""
    import gevent

    told: list[Any] = []
    hub: Any = gevent.get_hub()
    hub.print_exception = lambda *about: told.append(about)
    try:
        gevent.spawn(int, "x")
        gevent.sleep(0.001)
    finally:
        del hub.print_exception
    ((_, kind, failure, trace),) = told
    assert (kind, type(failure), type(trace)) == (ValueError, ValueError, types.TracebackType)


@contract("app.threads", "gevent")
def gevents_threads() -> None:
    """A result tells in its own thread that it is there."""
    from gevent.threadpool import ThreadPool

    pool: Any = ThreadPool(1)
    told: list[Any] = []
    outcome = pool.spawn(int, "7")
    outcome.rawlink(told.append)
    assert outcome.get(timeout=5) == 7
    pool.join()
    pool.kill()
    assert told == [outcome]


# http.client and ssl


@contract("app.upstream.http.response", "http.client", "_close_conn", "_read_status")
def http_clients_response() -> None:
    """Its `fp` can be replaced, and it is asked in the ways that ours answers."""
    from http.client import HTTPConnection, HTTPResponse

    from app.upstream.http.response import UpstreamResponse

    assert_overrides(UpstreamResponse, HTTPResponse, "begin", "read", "read1", "_close_conn")
    assert_uses(HTTPConnection.getresponse, "response_class", "begin", "will_close")
    assert_uses(HTTPConnection._tunnel, "response_class", "_read_status")  # type: ignore[attr-defined]
    assert_uses(HTTPResponse.isclosed, "fp")
    with connected() as (here, there):
        response: Any = HTTPResponse(here, method="GET")
        assert isinstance(response.fp, io.BufferedReader)
        response.fp = io.BufferedReader(response.fp.detach())
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        version, status, reason = response._read_status()
        assert (version, status, reason.strip()) == ("HTTP/1.1", 200, "OK")
        assert not response.isclosed()
        response._close_conn()
        assert response.isclosed()
        response.close()


@contract("app.doctor.front", "http.client")
def http_client_needs_only_makefile() -> None:
    """A response can be read of bytes that are there."""
    from http.client import HTTPResponse

    whole = types.SimpleNamespace(makefile=lambda _: io.BytesIO(b"HTTP/1.0 200 OK\r\n\r\nok"))
    with HTTPResponse(whole) as response:  # type: ignore[arg-type] # as front.py does
        response.begin()
        assert (response.status, response.read()) == (200, b"ok")


@contract("app.upstream.http.pools", "ssl")
def ssls_socket() -> None:
    """A context makes sockets of our class, whose ragged ends can be told; they can be peeked."""
    from app.upstream.http.pools import TLSSocket

    context = ssl.create_default_context()
    context.sslsocket_class = TLSSocket
    assert_overrides(TLSSocket, ssl.SSLSocket, "do_handshake")
    with connected() as (here, there):
        wrapped = context.wrap_socket(here, do_handshake_on_connect=False, server_hostname="a")
        with wrapped:
            assert type(wrapped) is TLSSocket
            assert vars(wrapped)["suppress_ragged_eofs"] is True
            there.sendall(b"ab")
            assert socket.socket.recv(wrapped, 1, socket.MSG_PEEK) == b"a"


# urllib3 and requests


@contract("app.upstream.http.pools", "urllib3", "_new_conn", "_dns_host", "_socks_options")
def urllib3s_connections() -> None:
    """They connect by `_new_conn`, to the host that `_dns_host` has."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.contrib.socks import SOCKSConnection

    from app.upstream.http import pools

    assert_uses(HTTPConnection.connect, "_new_conn")
    assert_uses(HTTPSConnection.connect, "_new_conn")
    assert_uses(SOCKSConnection._new_conn, "_socks_options", "host", "port", "timeout")
    assert_overrides(pools._SOCKSConnection, SOCKSConnection, "_new_conn", "close", "getresponse")
    assert_overrides(pools._Connection, HTTPConnection, "_new_conn", "close", "getresponse")
    options: Any = {"proxy_host": "b", "proxy_port": 1, "rdns": False}
    connection: Any = SOCKSConnection(host="a", _socks_options=options)
    assert (connection._dns_host, connection._socks_options["rdns"]) == ("a", False)
    connection._dns_host = "192.0.2.1"
    assert connection.host == "192.0.2.1"


@contract("app.upstream.http.pools", "urllib3", "_make_request", "_original_response")
def urllib3s_pools() -> None:
    """They make our connections, ask each by `_make_request`, and wrap http.client's response."""
    from urllib3 import HTTPConnectionPool
    from urllib3.connection import HTTPConnection

    from app.upstream.http import pools

    assert_uses(HTTPConnectionPool._new_conn, "ConnectionCls")
    assert_uses(HTTPConnectionPool._get_conn, "is_connection_dropped")
    assert_uses(HTTPConnectionPool.urlopen, "_make_request")
    assert_takes(HTTPConnectionPool._make_request, "conn", "method", "url")
    assert_overrides(pools._Pool, HTTPConnectionPool, "urlopen", "_make_request")
    assert isinstance(vars(HTTPConnection)["is_connected"], property)
    with connected() as (here, there):
        connection: Any = HTTPConnection("a")
        connection.sock = here
        connection.request("GET", "/", preload_content=False)
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        response: Any = connection.getresponse()
        assert isinstance(response._original_response, connection.response_class)
        assert response.length_remaining == 2
        assert not response.chunked
        assert response.read1(1, decode_content=False) == b"o"
        response.close()


@contract("app.upstream.http.session", "urllib3")
def urllib3s_managers() -> None:
    """A manager makes pools of our classes, and a header can be left out."""
    from urllib3 import PoolManager
    from urllib3.util import SKIP_HEADER

    made: list[Any] = []

    def pool(*about: Any, **_: Any) -> Any:
        made.append(about)
        return types.SimpleNamespace(close=lambda: None)

    manager: Any = PoolManager()
    manager.pool_classes_by_scheme = {"http": pool}
    manager.connection_from_host("a", 1, "http")
    assert made == [("a", 1)]
    assert str(SKIP_HEADER) == "@@@SKIP_HEADER@@@"


@contract("app.upstream.http.session", "requests")
def requests_adapter() -> None:
    """`send` finds the pool, checks the certificate and makes the response in ways of ours."""
    from requests.adapters import HTTPAdapter

    from app.upstream.http.session import _Adapter

    replaced = (
        "get_connection_with_tls_context", "cert_verify", "request_url", "build_response",
    )  # fmt: skip
    assert_uses(HTTPAdapter.send, "urlopen", *replaced)
    assert_uses(HTTPAdapter.__init__, "init_poolmanager", "proxy_manager")
    assert_uses(HTTPAdapter.init_poolmanager, "poolmanager")
    assert_uses(HTTPAdapter.get_connection_with_tls_context, "proxy_manager_for")
    assert_overrides(_Adapter, HTTPAdapter, "init_poolmanager", "proxy_manager_for", *replaced)
    assert_takes(HTTPAdapter.send, "request", "stream", "timeout", "verify", "cert", "proxies")


# prometheus_client, Redis, Werkzeug


@contract("app.metrics.multiprocess", "prometheus_client", "_multiprocess", "_file", "_key")
def prometheus_clients_files() -> None:
    """What is written into the file of a series is what all processes read."""
    from prometheus_client import values
    from prometheus_client.mmap_dict import MmapedDict

    one: Any = values
    assert one.MutexValue._multiprocess is False
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", directory)
        value: Any = one.MultiProcessValue()("counter", "a", "a_total", (), (), "help")
        assert value._multiprocess is True
        assert value.get() == 0
        value._file.write_value(value._key, 5.0, 0.0)
        value._file.close()
        (path,) = Path(directory).glob(f"counter_{os.getpid()}.db")
        file: Any = MmapedDict
        ((key, read, _, _),) = file.read_all_values_from_file(str(path))
        assert (key, read) == (value._key, 5.0)
        into = file(str(path))
        assert into.read_value(key)[0] == 5.0
        into.close()


@contract(
    "app.metrics.multiprocess", "prometheus_client",
    "_value", "_sum", "_buckets", "_upper_bounds", "_path",
)  # fmt: skip
def prometheus_clients_series() -> None:
    """A series has its value, or its sum and one value for each bucket."""
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.multiprocess import MultiProcessCollector

    own = CollectorRegistry()
    counter: Any = Counter("a", "help", registry=own)
    counter._value.inc(2)
    assert counter._value.get() == 2
    histogram: Any = Histogram("b", "help", ["c"], buckets=(1, 2), registry=own).labels("d")
    histogram.observe(1.5)
    assert histogram._upper_bounds == [1, 2, float("inf")]
    assert [bucket.get() for bucket in histogram._buckets] == [0, 1, 0]
    assert histogram._sum.get() == 1.5
    with tempfile.TemporaryDirectory() as directory:
        collector: Any = MultiProcessCollector(None, path=directory)  # type: ignore[no-untyped-call]
        assert collector._path == directory


@contract("app.access.shared_redis", "redis", "_connect")
def redis_connections() -> None:
    """They connect to `host` by `_connect`; the pool makes them with arguments of ours."""
    from redis.connection import BlockingConnectionPool, Connection, SSLConnection

    assert_uses(Connection._connect, "host", "port", "getaddrinfo")
    assert_uses(SSLConnection._connect, "_connect", "_wrap_socket_with_ssl")
    assert_uses(SSLConnection._wrap_socket_with_ssl, "host")
    assert_uses(Connection.connect_check_health, "_connect")
    pool = BlockingConnectionPool.from_url("rediss://a:1/0", timeout=1)
    assert pool.connection_class is SSLConnection
    assert pool.connection_kwargs["host"] == "a"


@contract("app.routes.context", "werkzeug", "_get_current_object")
def werkzeugs_proxies() -> None:
    """They give the object behind them; Werkzeug documents that."""
    from werkzeug.local import LocalProxy

    assert LocalProxy(lambda: sys)._get_current_object() is sys


# The list is complete.

DOCUMENTED: Final = {"_replace", "_exit", "_abc_impl", "_is_protocol"}
"""Names with an underscore that Python documents (namedtuple, os), or gives to every ABC."""
PLAIN: Final = {"app", "server", "builtins", "typing", "abc", "enum"}
"""What classes are ours, or have no private names that matter."""


def is_private(name: str) -> bool:
    """Tell whether a name is a library's own."""
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def foreign_names(source: str) -> set[str]:
    """Return the private names that a module uses of others, but defines nowhere itself."""
    tree = ast.parse(source)
    used, own = set[str](), set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ctx=ast.Store()) | ast.Attribute(value=ast.Name(id="self" | "cls")):
                own.add(node.attr)
            case ast.Attribute():
                used.add(node.attr)
            case ast.FunctionDef() | ast.ClassDef():
                own.add(node.name)
            case ast.Name(ctx=ast.Store()):
                own.add(node.id)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] not in PLAIN:
                used.update(alias.name for alias in node.names)
    return set(filter(is_private, used - own))


def names_of_bases(module: types.ModuleType) -> set[str]:
    """Return the private names that classes of a module share with the libraries' they extend."""
    found = set[str]()
    for one in vars(module).values():
        if not isinstance(one, type) or one.__module__ != module.__name__:
            continue
        bases = [base for base in one.__mro__ if base.__module__.split(".")[0] not in PLAIN]
        mine = [base for base in one.__mro__ if base.__module__.startswith(("app.", "server."))]
        theirs = set[str]().union(*map(names_of_class, bases))
        found |= theirs & set[str]().union(*map(attributes_of, mine))
    return set(filter(is_private, found))


def names_of_class(base: type) -> set[str]:
    """Return what a library's class defines, and what its methods use."""
    names = set(vars(base))
    for value in vars(base).values():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType):
            names |= set(names_in(function.__code__))
    return names


def attributes_of(own: type) -> set[str]:
    """Return what a class of ours defines, and all attributes in its source."""
    tree = ast.parse(inspect.getsource(own))
    return set(vars(own)) | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def sources() -> Sequence[Path]:
    """Return the files that may use a library."""
    files = [*ROOT.glob("app/**/*.py"), *ROOT.glob("server/*.py"), *ROOT.glob("*.py")]
    return [path for path in files if path.name != "__main__.py"]


def test_every_private_name_is_here() -> None:
    """A name that no contract has may be gone after an upgrade; one that nobody uses is a relic."""
    found = set[tuple[str, str]]()
    for path in sources():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        names = foreign_names(path.read_text(encoding="utf-8"))
        if name.startswith(("app", "server")):
            names |= names_of_bases(importlib.import_module(name))
        found |= {(name, one) for one in names}
    named = {(one.user, name) for one in CONTRACTS for name in one.private}
    assert found == named, f"add them to {HERE}, or take them out"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param("import x\nx.y._hook()", {"_hook"}, id="used"),
        pytest.param("from x import _hook", {"_hook"}, id="imported"),
        pytest.param("from x import y\ny.z()._hook = 1\ny._other", {"_other"}, id="two"),
        pytest.param("class A:\n _b = 1\ndef c(a):\n return a._b", set(), id="our own"),
        pytest.param("class A:\n def b(self):\n  self._c = 1\n  self.d._c", set(), id="own too"),
        pytest.param("from app.x import _y\nimport os\nos._exit(1)", set(), id="no library's"),
    ],
)
def test_private_names_are_found(source: str, names: set[str]) -> None:
    """The test of the test: what a module uses and does not define is a library's."""
    assert foreign_names(source) == names


def test_private_names_of_bases_are_found() -> None:
    """The test of the test: what is defined twice, and what the library reads of us."""
    pools = importlib.import_module("app.upstream.http.pools")
    assert {"_new_conn", "_dns_host", "_make_request"} <= names_of_bases(pools)


def test_a_failure_explains_itself() -> None:
    """The test of the test: whoever upgrades is told what to read."""
    broken = Contract("app.x", "urllib3", frozenset(), lambda: None)
    with pytest.raises(AssertionError) as failure, broken:
        assert not broken.user
    (note,) = failure.value.__notes__
    assert note.startswith("app.x relies on this, and the installed urllib3 does not keep it.")
    assert str(HERE) in note

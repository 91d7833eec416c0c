"""Who is told 429 again from memory, and in what words; one worker, since each has its own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import docxy
from tests.wire.upstream import Asked, Connection, Upstream, playing, response
from tests.wire.wires import MANIFEST, Wire, upstream_settings

FORM = "Content-Type: application/x-www-form-urlencoded"
LIMITED = "429 Too Many Requests"


@pytest.fixture
def fresh_wire(home: Path) -> Iterator[Wire]:
    """Return a proxy that has been told nothing yet."""
    with (
        Upstream() as upstream,
        playing(upstream),
        docxy(workers=1, **upstream_settings(upstream, home)) as proxy,
    ):
        yield Wire(upstream, proxy)


def service(connection: Connection) -> None:
    """Let nobody in who shows no credentials, as what counts an address's requests does."""
    while True:
        asked: Asked = connection.head()
        form = connection.body(int(asked.value("Content-Length") or "0"))
        if b"password=" in form or b"refresh_token=" in form:
            connection.send(response(b'{"access_token":"t"}', "Content-Type: application/json"))
        else:
            told = ("Content-Type: text/plain", "Retry-After: 60")
            connection.send(response(b"slow down", *told, status=LIMITED))


FORMS = (
    b"grant_type=password&username=alice&password=s3cr3t&service=docxy&client_id=c",
    b"grant_type=refresh_token&refresh_token=s3cr3t&service=docxy&client_id=c",
)


def test_a_login_by_form_is_another_caller(fresh_wire: Wire) -> None:
    """What a stranger was told is for whoever shows nothing, on GET and on POST."""
    wire = fresh_wire
    wire.play(service)
    path = "/auth/token?scope=repository:library/a:pull"
    with wire.client() as client:
        assert client.get(path).status == 429
        assert client.get(path.replace("/a:", "/b:")).status == 429
        anonymous = b"grant_type=password&service=docxy&client_id=c"
        assert client.get("/auth/token", FORM, method="POST", body=anonymous).status == 429
        assert len(wire.upstream.asked) == 1, "it counts every request of nobody's"
        for form in FORMS:
            assert client.get("/auth/token", FORM, method="POST", body=form).status == 200, form
    assert [one.method for one in wire.upstream.asked] == ["GET", "POST", "POST"]
    assert "s3cr3t" not in wire.proxy.log


def test_a_head_lends_no_body(fresh_wire: Wire) -> None:
    """The GET after it is told in our words: neither the page's type nor its encoding is theirs."""
    wire = fresh_wire
    page = ("Content-Type: text/html", "Content-Encoding: gzip", 'ETag: "page"')
    limits = ("Retry-After: 60", "RateLimit-Remaining: 0;w=60")

    def script(connection: Connection) -> None:
        connection.head()
        connection.send(response(b"", *page, *limits, status=LIMITED))
        connection.until_left()

    wire.play(script)
    with wire.client() as client:
        assert client.get(MANIFEST, method="HEAD").status == 429
        answer = client.get(MANIFEST)
    assert len(wire.upstream.asked) == 1
    assert answer.status == 429
    assert answer.head.values("Content-Type") == ["application/json"]
    assert answer.head.value("RateLimit-Remaining") == "0;w=60"
    assert len(answer.head.values("Retry-After")) == 1
    assert not {"content-encoding", "etag"} & answer.head.names
    assert json.loads(answer.body)["errors"][0]["code"] == "TOOMANYREQUESTS"

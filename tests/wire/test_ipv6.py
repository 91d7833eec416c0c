from pathlib import Path

from tests.servers import docxy
from tests.wire.client import Client
from tests.wire.upstream import Upstream, always, playing, response
from tests.wire.wires import upstream_settings


def test_the_realm_of_an_ipv6_address_has_brackets(home: Path) -> None:
    """With the port, and with or without a Host header, which HTTP/1.0 need not send."""
    challenge = 'WWW-Authenticate: Bearer realm="https://auth.test/token",service="registry.test"'
    with (
        Upstream() as upstream,
        playing(upstream),
        docxy(workers=1, listen="::1", **upstream_settings(upstream, home)) as proxy,
    ):
        upstream.play(always(response(b"{}", challenge, status="401 Unauthorized")))
        realm = f'realm="http://[::1]:{proxy.host.rpartition(":")[2]}/auth/token"'
        with Client(proxy.host) as client:
            answer = client.get("/v2/")
            assert answer.status == 401
            assert realm in answer.head.value("WWW-Authenticate")
        with Client(proxy.host) as client:
            client.send(b"GET /v2/ HTTP/1.0\r\n\r\n")
            assert realm in client.head().value("WWW-Authenticate")

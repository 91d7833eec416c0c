"""Requests as nobody should send them, the same ones for the same seed."""

import random
from collections.abc import Callable
from typing import Final

DIGEST: Final = b"sha256:" + b"5" * 64

INJECTED: Final = b"X-Injected"
"""A header that is only ever written into places from which it must not become one."""

METHODS: Final = (
    b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE",
    b"CONNECT", b"PROPFIND", b"get", b"G", b"", b"GET\x00", b"A" * 30, b"GET\tX", b"M-SEARCH",
)  # fmt: skip

TARGETS: Final = (
    b"/", b"/v2", b"/v2/", b"/health", b"/health?upstream=nowhere", b"*", b"registry:5000",
    b"/v2/library/alpine/manifests/latest",
    b"/v2/alpine/manifests/" + DIGEST,
    b"/v2/library/alpine/blobs/" + DIGEST,
    b"/v2/ghcr.io/owner/app/manifests/latest?ns=ghcr.io",
    b"/v2/library/alpine/tags/list?n=10&last=3.19",
    b"/v2/library/alpine/referrers/" + DIGEST + b"?artifactType=a%2Fb",
    b"/v2/library/alpine/blobs/uploads/",
    b"/v2/_catalog",
    b"/auth/token?service=registry.test&scope=repository:library/alpine:pull",
    b"/auth/token?account=a&scope=repository%3Aalpine%3Apull&scope=registry:catalog:*",
    b"http://registry.test/v2/", b"https://user:pw@[::1]:99999/v2/a/tags/list",
    b"file:///etc/passwd",
    b"//evil.test/v2/", b"/\\evil.test/v2/", b"/v2/../../etc/passwd", b"/v2/a/%2e%2e/manifests/x",
)  # fmt: skip

PIECES: Final = (
    b"..", b"/../", b"/./", b"%2e%2e", b"%2E%2e%2f", b"%2f", b"%5c", b"\\", b"%00", b"\x00", b"%0a",
    b"%0d%0a" + INJECTED + b":%20yes", b"%E5%98%8D%E5%98%8A" + INJECTED + b":yes", b"%c0%af",
    b"%c0%ae%c0%ae", b"%e0%80%af", b"%ff", b"\xff\xfe", b"%", b"%z", b"%252e%252e", b"%u002e", b"?",
    b"#", b"#\x01", b"@", b"@evil.test", b":", b":99999999", b";", b"&", b"=", b" ", b"\t", b"\x0b",
    b"\x7f", b"\x85", b"\r", b"\n", b"\r\n", b"{{7*7}}", b"${x}", b"a" * 300, b"/" * 50,
    b"a/" * 200,
    b"-" * 100, b"manifests", b"/manifests/", b"/blobs/", b"blobs/uploads", b"/tags/list", DIGEST,
    b"ns=ghcr.io", b"?ns=%0d%0a" + INJECTED + b":yes", b"scope=repository:" + b":" * 20, b"[", b"]",
    b"'", b'"', b"<script>", "\u202e".encode(), "\u212a".encode(), "\uff0e\uff0e".encode(),
)  # fmt: skip

FIELDS: Final = (
    b"Host: 127.0.0.1", b"Host: evil.test", b"Host: a\x00b", b"Host: a b", b"Host: a:b:c", b"Host:",
    b'Host: "a', b"Host: [::1", b"Host: a%0d%0a" + INJECTED + b": yes", b"Host : a",
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: 5, 6",
    b"Content-Length: -1", b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5_0",
    b"Content-Length: " + b"9" * 30, b"Content-Length: \xb2", b"Content-Length: ",
    b"Content-Length",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: x",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: chunked\r\n x",
    b"Transfer_Encoding: chunked",
    b"Connection: close", b"Connection: keep-alive", b"Connection: authorization, host, accept",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
    b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: magic", b"TE: trailers",
    b"Trailer: Host",
    b"Authorization: Bearer " + b"t" * 50, b"Authorization: Basic !!!", b"Authorization:",
    b"Authorization: Bearer ghcr.io~abc", b"Authorization: \xff\xfe",
    b"Authorization: Bearer a,b c",
    b"Authorization: Bearer a\r\nAuthorization: Basic YTpi", b"Cookie: a=b",
    b"Proxy: http://evil.test",
    b"Range: bytes=0-", b"Range: bytes=5-1", b"Range: bytes=" + b"0-1," * 500, b"Range: bytes=-0",
    b"Range: lines=1-2", b"If-Range: \xff", b"If-None-Match: " + b'"a",' * 300, b"If-Match: *",
    b"X-Forwarded-For: " + b"1.2.3.4, " * 200, b"X-Forwarded-Proto: javascript",
    b"X-Forwarded-For: \xff",
    b"X-Forwarded-Host: evil.test, a b", b"X-Forwarded-Host: evil.test",
    b"Forwarded: host=evil.test",
    b"X-Request-ID: \xff\xff", b"X-Request-ID: " + b"a" * 500,
    b"X-Request-ID: %0d%0aX-Injected: yes",
    b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: /health", b"Script-Name: /x",
    b"Script_Name: /x",
    b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Type: multipart/form-data; boundary=a",
    b"Content-Type: text/html; charset=\xff", b"Content-Encoding: gzip",
    b"Accept-Encoding: gzip, br",
    b"Accept: " + b"application/vnd.oci.image.index.v1+json, " * 100,
    b"User-Agent: @@@SKIP_HEADER@@@",
    b"X-Any: @@@SKIP_HEADER@@@", b" folded", b"\tfolded", b": empty", b"no colon", b"a\x00: b",
    b"A: \x00",
    b"A: b\rc", b"A: b\nX-B: c", b"A: \x7f", b"(bad): x", b"\xff: x", b"X-Any: \x80\xff",
    b"A: " + b"b" * 9000,
    b"B" * 9000 + b": a", b"X-A: \t  \t", b"Accept:", b"Host: a\r\nHost: b",
    b"Via: 1.1 " + b"x" * 2000,
)  # fmt: skip

VERSIONS: Final = (
    b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2",
    b"HTTP/9.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.10", b"HTTP/", b"", b"ICY", b"HTTP/1.1\x00",
)  # fmt: skip

BODIES: Final = (
    b"", b"", b"", b"hello", b"grant_type=password&username=a&password=b&scope=repository:a:pull",
    b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nHost: x\r\n\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
    b"-1\r\n", b"0x5\r\nhello\r\n", b"5\nhello\n0\n\n", b"5 \r\nhello\r\n0\r\n\r\n", b"G\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"5" + b";x" * 3000 + b"\r\nhello\r\n0\r\n\r\n", b"0\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n",
    b"GET /v2/smuggled/manifests/x HTTP/1.1\r\nHost: a\r\n\r\n", b"&" * 5000, b"%" * 500,
    b"\x00" * 300,
    b"scope=" + b"repository:a:pull+" * 300, b"refresh_token=%0d%0a&scope=%00",
)  # fmt: skip

WHOLE: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"GET /health\r\n",
    b"GET /\n\n",
    b"\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00",
    b"\x80\x2e\x01\x00\x02", b"SSH-2.0-x\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n",
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", b"EHLO a\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\r",
    b"\n", b"GET",
)  # fmt: skip


class Fuzzer:
    """Makes requests from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret

    def connection(self) -> bytes:
        """Return all that a client sends on one connection: a request, or several at once."""
        if self._one_in(40):
            return self._random.choice(WHOLE)
        requests = 1 if self._one_in(2) else self._random.randrange(1, 5)
        return b"".join(self._request() for _ in range(requests))

    def _request(self) -> bytes:
        line = b" ".join([self._method(), self._target(), self._version()])
        fields = [b"Host: 127.0.0.1"] if not self._one_in(4) else []
        fields += self._random.choices(FIELDS, k=self._random.choice((0, 1, 1, 2, 3)))
        if self._one_in(50):
            fields += [b"X-Many-%d: x" % number for number in range(self._random.randrange(200))]
        body = self._random.choice(BODIES)
        if body and self._one_in(2):
            fields.append(b"Content-Length: %d" % len(body))
        request = b"\r\n".join([line, *fields, b"", b""]) + body
        for _ in range(self._random.choice((0, 0, 0, 0, 1, 2))):
            request = self._random.choice(self._damages)(request) or b"G"
        return request

    def _method(self) -> bytes:
        return self._random.choice(METHODS if self._one_in(4) else METHODS[:9])

    def _version(self) -> bytes:
        return self._random.choice(VERSIONS if self._one_in(6) else VERSIONS[:4])

    def _target(self) -> bytes:
        target = self._random.choice(TARGETS)
        for _ in range(self._random.choice((0, 0, 1, 1, 2, 4))):
            target = self._spliced(target, self._random.choice(PIECES))
        return target

    @property
    def _damages(self) -> tuple[Callable[[bytes], bytes], ...]:
        return (self._cut, self._flipped, self._doubled, self._bare, self._noisy)

    def _cut(self, request: bytes) -> bytes:
        return request[: self._random.randrange(len(request))]

    def _flipped(self, request: bytes) -> bytes:
        at = self._random.randrange(len(request))
        return request[:at] + bytes([self._random.randrange(256)]) + request[at + 1 :]

    def _doubled(self, request: bytes) -> bytes:
        at = self._random.randrange(len(request))
        return request[:at] + request[at // 2 :]

    def _bare(self, request: bytes) -> bytes:
        return request.replace(b"\r\n", self._random.choice((b"\n", b"\r", b"\r\r\n")), 2)

    def _noisy(self, request: bytes) -> bytes:
        return self._spliced(request, self._random.randbytes(self._random.randrange(1, 40)))

    def _spliced(self, text: bytes, piece: bytes) -> bytes:
        at = self._random.randrange(len(text) + 1)
        return text[:at] + piece + text[at:]

    def _one_in(self, count: int) -> bool:
        return self._random.randrange(count) == 0

"""Outbound HTTP; nothing in this package knows the registry API.

body.py              reads a response body in pieces, whole, or to discard it
breaker.py           circuit breakers, one per origin
connect.py           resolves names, checks addresses and connects (RFC 8305)
deadlines.py         who waits for a response, and until when; reading from the socket
errors.py            translates the exceptions of requests into ours
known_registries.py  redirects to another registry of the table
origin.py            scheme, host and port of a URL
pools.py             urllib3's connections and connection pools
proxies.py           outbound proxies and `NO_PROXY`
rate_limits.py       repeats a recent 429 to the caller who received it
redirects.py         follows redirects by hand
response.py          parses response heads and chunked bodies strictly (RFC 9112)
retries.py           retries before the first byte
session.py           one requests.Session per registry
tls.py               TLS contexts, handshakes and the end of a TLS stream
"""

"""Outbound HTTP. It knows the table of registries only to restrict redirects between them.

backoff.py           requests that are not sent: circuit breakers, and 429s that are repeated
body.py              reads a response body in pieces, whole, or to discard it
connect.py           checks the addresses of a name and connects to them (RFC 8305)
deadlines.py         who waits for a response, and until when; reading from the socket
errors.py            translates the exceptions of requests into ours
known_registries.py  redirects to another registry of the table
pools.py             urllib3's connections and connection pools, and their TLS
redirects.py         follows redirects by hand
response.py          parses response heads and chunked bodies strictly (RFC 9112)
retries.py           retries before the first byte
session.py           one requests.Session per registry
urls.py              a URL's origin, and its outbound proxy (`NO_PROXY`)
"""

"""HTTP outwards; nothing here knows what a registry is.

body.py              a body, read in pieces or drained
breaker.py           circuit breakers, one a host
connect.py           resolves names, checks addresses and connects (RFC 8305)
deadlines.py         deadlines, and the watch for a client that left
errors.py            the exceptions of requests become ours
known_registries.py  redirects that lead to a registry of the table
origin.py            scheme, host and port
pools.py             urllib3's connections and pools
proxies.py           outbound proxies and `NO_PROXY`
rate_limits.py       remembers a 429 for the caller whom it met
redirects.py         follows redirects by hand
response.py          heads and chunks, read strictly (RFC 9112)
retries.py           retries before the first byte
session.py           one requests.Session a registry
tls.py               TLS contexts, and where a TLS stream ends
"""

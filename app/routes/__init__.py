"""The Flask side: turns a client's request into values, and a Reply into a response.

access_log.py      logs and counts each request when its body ends
addressing.py      resolves which repository a request addresses, and how its client names it
authentication.py  checks networks, connections and users before any view
connection.py      the client's socket
context.py         the context of each request, which it begins and ends
credentials.py     decides which credentials go to which registry
flask_app.py       the Flask application and its URL converters
forwarded.py       the client's address and our own URL behind reverse proxies
limits.py          enforces limits before any view
logins.py          reads logins at this proxy from headers and forms
relay.py           turns a Reply into a response; sets what caches may keep
render.py          renders errors as OCI JSON
repository.py      manifests, blobs, tags, referrers and the ping
search.py          `GET /v1/search`
status.py          `/health`, `/metrics` and the buffering probe
token.py           `/auth/token`
"""

"""Flask: a client's request becomes values, and a Reply becomes a response.

access_log.py      the line and the counts of a request, when its body ends
authentication.py  networks and users, asked before any view
client_naming.py   challenges and links in the client's naming
connection.py      the client's connection
context.py         resolves what a request addresses, and asks the rules
credentials.py     which credentials belong to which registry
flask_app.py       the Flask application, and its converters
forwarded.py       the client's address and our own URL behind fronts
image_policy.py    rules about what an image says of itself
lifecycle.py       begins and ends every answer
limits.py          limits, asked before any view
logins.py          logins at this proxy, in headers and forms
relay.py           a Reply becomes a response; what caches may keep
render.py          errors become OCI JSON
repository.py      manifests, blobs, tags, referrers and the ping
search.py          `GET /v1/search`
status.py          `/health`, `/metrics` and the buffering probe
token.py           `/auth/token`
"""

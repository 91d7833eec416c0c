"""The protocol as values and pure functions: the standard library, PyJWT and Werkzeug, no I/O.

challenge.py    `WWW-Authenticate` (RFC 9110, section 11.6.1)
conditional.py  ranges, ETags and conditional requests (RFC 9110)
documents.py    bodies of a limited size, and JSON documents that must be objects
errors.py       error codes, and our errors as declarations
headers.py      which headers pass up and down; `Link` and `Via`
image.py        the metadata in an image's config
manifest.py     manifests and indexes
media_types.py  `Accept` and `Content-Type`
reference.py    repository names, tags and digests, and what is asked of them
scope.py        the scopes of a token, and the actions that they allow
tokens.py       the claims of a token, a token service's answer, and placeholder tokens
"""

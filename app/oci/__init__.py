"""The protocol as values and pure functions: standard library only, no I/O.

challenge.py           `WWW-Authenticate` (RFC 9110, section 11.6.1)
conditional.py         ranges, ETags and conditional requests (RFC 9110)
documents.py           JSON objects of a bounded size
errors.py              error codes, and our errors as declarations
headers.py             which headers pass up and down; `Via`
image.py               what an image's config says
manifest.py            manifests and indexes
media_types.py         `Accept` and `Content-Type`
placeholder_tokens.py  tokens that stand for no credentials
reference.py           repository names, tags and digests
scope.py               the scopes of a token
"""

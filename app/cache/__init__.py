"""A Source that keeps its answers, and gives them only to callers whom the registry lets read.

authz/           who may read what is kept
blobs/           blobs from the store, from a running fetch, or from the registry
cache_status.py  `Cache-Status`, `Age` and `Warning` (RFC 9111, RFC 9211)
confirming.py    background HEADs for the blobs that a served manifest names
disk.py          calls to the store on native threads, and its failures
head_first.py    what the answer to a HEAD decides about a GET
lists.py         lists of tags and of referrers
manifests/       manifests by tag and by digest
origins.py       repositories to which redirects have led
pings.py         the answer to `GET /v2/` while the registry is unreachable
policy.py        how long what is kept counts, and how it is handed out
singleflight.py  single-flight across the workers of a machine
source.py        CachedSource, and the Cache that makes one for each registry
stale.py         stale-if-error (RFC 5861): outages, and what is served meanwhile
tokens.py        anonymous tokens, shared by clients without credentials
"""

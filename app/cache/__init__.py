"""A caching Source: it serves what it keeps only to callers whom the registry allows to read it.

authz/           who may read cached content
blobs/           blobs from the store, from a running fetch, or from the registry
cache_status.py  `Cache-Status`, `Age` and `Warning` (RFC 9111, RFC 9211)
confirming.py    HEADs, in the background, for the blobs that a served manifest names
disk.py          the store on native threads, and its recent results
head_first.py    decides by the answer to a HEAD whether a GET has to follow
head_start.py    begins to fetch an image when its manifest is served
lists.py         lists of tags and of referrers
manifests/       manifests by tag and by digest
origins.py       the repositories to which redirects have led
pings.py         the answer to `GET /v2/` while the registry is unreachable
policy.py        how long cached content and grants count, and how content is sent
source.py        CachedSource, and the Cache that makes one for each registry (start here)
stale.py         stale-if-error (RFC 5861): outages, and what is served during one
tokens.py        anonymous tokens, shared by clients without credentials
"""

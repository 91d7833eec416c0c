"""The rights to cached content: a grant for the repository, and membership of the digest in it.

callers.py   identifies callers by a keyed hash of the Authorization header
evidence.py  what a registry's answer proves: rights, and which digests a repository holds
gate.py      opens cached content for callers who may read it
grants.py    grants, refusals, and which repositories are public
"""

"""Who may read what is kept: a grant for the repository, and membership of the digest.

callers.py   who asks, by a keyed hash of the Authorization header
evidence.py  what a registry's answer says about rights and membership
gate.py      the only way to what is kept
grants.py    grants, refusals, and which repositories are public
members.py   which digests a repository holds
"""

"""Token services, the tokens that this proxy gets itself, and placeholders.

issued.py        this proxy's own tokens, and which tokens are anonymous
ping.py          what a registry answers to `GET /v2/`
placeholders.py  placeholder tokens for registries that issue none
remembered.py    a fact that is refreshed in the background
service.py       a registry's token service, pinned or discovered
"""

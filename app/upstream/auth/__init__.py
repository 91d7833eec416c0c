"""Token services, the tokens that this proxy gets for itself, and placeholder tokens.

challenges.py    what a registry answers to requests without a token
issued.py        this proxy's own tokens, and which tokens are anonymous
ping.py          what a registry answers to an anonymous `GET /v2/`
placeholders.py  answers with placeholder tokens, and the logins in token requests
remembered.py    facts that are cached and refreshed in the background
service.py       a registry's token service, pinned or discovered
"""

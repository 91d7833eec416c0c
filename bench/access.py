"""The cost of access control: requests for manifests with all of it, and with none."""

import base64
import json
import urllib.request
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import bcrypt

from bench.content import REPOSITORY
from bench.measure import Server
from bench.variants import FORWARDED, Variant, Variants

GUARDED: Final = "all of it on"
OPEN: Final = "none of it"

USERS: Final = 24
_USER: Final = "user11"
_PASSWORD: Final = "password of nobody else"  # noqa: S105 - of this run's users
_COST: Final = 4
"""The lowest cost of bcrypt, because nobody logs in during the measurement."""

_SETTINGS: Final = {
    "DOCXY_ALLOW_NETWORKS": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,2001:db8::/32,127.0.0.0/8",
    "DOCXY_DENY_NETWORKS": "10.9.0.0/16,203.0.113.0/24,2001:db8:9::/48",
    "DOCXY_LIMIT_REQUESTS": "1000000000",
    "DOCXY_LIMIT_DOWNLOADS": "1000",
    "DOCXY_LIMIT_BYTES": "1000TB",
    "DOCXY_LIMIT_PULLS": "1000000000",
    "DOCXY_TOKEN_KEY": "the same for all, so that they take one token",
}

RULES: Final = """
[[rules]]
action = "deny"
registry = "docker.io"
repository = "library/secret*"

[[rules]]
action = "deny"
repository = "**/private/**"

[[rules]]
action = "allow"
repository = "platform/**"
users = ["user1", "user2", "user3"]

[[rules]]
action = "deny"
repository = "platform/**"
message = "ask the platform team for it"

[[rules]]
action = "deny"
networks = ["203.0.113.0/24", "198.51.100.0/24", "10.9.0.0/16"]

[[rules]]
action = "allow"
networks = ["10.1.0.0/16", "2001:db8:1::/48"]
users = ["user1", "user11"]

[[rules]]
action = "allow"
repository = "team/app"
tag = "v*"

[[rules]]
action = "deny"
repository = "team/app"
tag = "*"

[[rules]]
action = "allow"
repository = "mirror/**"
digest_only = true

[[rules]]
action = "deny"
repository = "*/*-nightly"

[[rules]]
action = "deny"
users = ["user20", "user21"]

[[rules]]
action = "allow"
registry = "docker.io"
repository = "library/*"
digest_only = true
networks = ["10.0.0.0/8", "127.0.0.0/8"]
users = ["user5", "user11"]
platforms = ["linux/amd64", "linux/arm64"]
min_age_days = 3

[[rules]]
action = "deny"
"""
"""All but the last are evaluated; the one before it allows the image for its metadata."""


def _build_open_settings(folder: Path) -> Mapping[str, str]:
    """Return the settings without access control, but managed, as users require."""
    del folder
    return {"DOCXY_CREDENTIALS": "managed", "DOCXY_WELL_KNOWN": ""}


@cache
def _hash_password() -> str:
    """Return one hash for all users, because a token is valid only with the hash of its user."""
    return bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(_COST)).decode()


def _build_guarded_settings(folder: Path) -> Mapping[str, str]:
    users, rules = folder / "users", folder / "docxy.toml"
    users.write_text("".join(f"user{number}:{_hash_password()}\n" for number in range(USERS)))
    rules.write_text(RULES)
    files = {"DOCXY_HTPASSWD_FILE": str(users), "DOCXY_CONFIG": str(rules)}
    return {**_build_open_settings(folder), **_SETTINGS, **files}


def _fetch_token(running: Mapping[Variant, Server]) -> str:
    """Return a token; all servers get it, so that parsing it costs each of them the same."""
    port = running[FORWARDED, GUARDED].port
    url = f"http://127.0.0.1:{port}/auth/token?service=docxy&scope=repository:{REPOSITORY}:pull"
    login = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return str(json.load(answer)["token"])


ACCESS: Final = Variants(
    "access", {GUARDED: _build_guarded_settings, OPEN: _build_open_settings}, _fetch_token
)

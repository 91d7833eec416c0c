"""What is nearly a login."""

import base64
import time
from collections.abc import Mapping

import jwt

from app.access.htpasswd import Htpasswd
from app.access.tokens import TokenIssuer
from tests.integration.access_callers import Wanted
from tests.integration.access_site import KEY, PASSWORDS, REGISTRIES, REPOSITORIES, Site
from tests.integration.logins import basic


def forgeries(site: Site, wanted: Wanted) -> Mapping[str, tuple[str, str]]:
    """Return what opens nothing, with the error of its challenge."""
    name = f"{wanted.registry}/{wanted.repository}"
    all_names = [f"{one}/{other}" for one in REGISTRIES for other in REPOSITORIES]
    others = [other for other in all_names if other != name]
    path = site.folder / "users"
    users = Htpasswd(path, path.read_bytes())
    ours = TokenIssuer(KEY.encode(), users)
    good = ours.issue_access_token("carol", [name])
    head, claims, signature = good.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")

    def at(clock: float) -> str:
        return TokenIssuer(KEY.encode(), users, lambda: time.time() + clock).issue_access_token(
            "carol", [name]
        )

    invalid = {
        "expired": at(-310),
        "of tomorrow": at(86400),
        "of another key": TokenIssuer(
            b"another key, of 32 bytes and more", users
        ).issue_access_token("carol", [name]),
        "of a user who is not there": ours.issue_access_token("mallory", [name]),
        "of another password": TokenIssuer(KEY.encode(), _OtherUsers()).issue_access_token(
            "carol", [name]
        ),
        "a refresh token": ours.issue_refresh_token("carol"),
        "by the key itself": jwt.encode(
            jwt.decode(good, options={"verify_signature": False}), KEY, algorithm="HS256"
        ),
        "unsigned": f"{unsigned}.{claims}.",
        "called unsigned": f"{unsigned}.{claims}.{signature}",
        "of another signature": f"{head}.{claims}.{signature[:-4]}AAAA",
        "a stand-in": "docxy.none",
        "another stand-in": "docxy.stale",
        "the registry's name before it": f"{wanted.registry}~{good}",
        "a password": basic("carol", PASSWORDS["carol"]).partition(" ")[2],
    }
    insufficient = {
        "of other repositories": ours.issue_access_token("carol", others),
        "of none": ours.issue_access_token("carol", []),
    }
    return {
        "nobody": ("", ""),
        "a wrong password": (basic("carol", "wrong"), ""),
        "another's password": (basic("dave", PASSWORDS["carol"]), ""),
        "a user who is not there": (basic("mallory", PASSWORDS["carol"]), ""),
        "no name": (basic("", PASSWORDS["carol"]), ""),
        "no password": (basic("carol", ""), ""),
        "no scheme": (good, ""),
        "another scheme": (f"Token {good}", ""),
        "two": (f"Bearer {good}, {basic('carol', PASSWORDS['carol'])}", "invalid_token"),
        **{what: (f"Bearer {token}", "invalid_token") for what, token in invalid.items()},
        **{what: (f"Bearer {token}", "insufficient_scope") for what, token in insufficient.items()},
    }


class _OtherUsers:
    """A carol with another hash."""

    is_slow = False

    def lookup_secret(self, name: str) -> str:
        """Return what is in no file."""
        return f"of {name}"

    get_decoy_secret = lookup_secret

    def matches(self, secret: str, password: bytes) -> bool:
        """Be nobody's."""
        del secret, password
        return False

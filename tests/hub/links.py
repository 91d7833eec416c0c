"""URLs of blobs that are good for a while, as object stores sign them."""

import hashlib
import hmac
import secrets
import threading

from tests.hub.clock import Clock
from tests.hub.messages import Request

PREFIX = "/registry-v2/docker/registry/v2/blobs"


class Links:
    """Signs and checks the CDN's URLs."""

    def __init__(self, base: str, clock: Clock) -> None:
        self._base = base
        self._clock = clock
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self.lifetime = 1200.0

    def url(self, digest: str, method: str) -> str:
        """Return a URL for one blob and one method, which expires."""
        algorithm, _, value = digest.partition(":")
        path = f"{PREFIX}/{algorithm}/{value[:2]}/{value}/data"
        expires = f"{self._clock.now() + self.lifetime:.3f}"
        return f"{self._base}{path}?expires={expires}&signature={self._sign(method, path, expires)}"

    def allows(self, request: Request, method: str) -> bool:
        """Tell whether the URL was signed for the method and is still good."""
        expires, signature = (request.query.get(name, [""])[0] for name in ("expires", "signature"))
        right = self._sign(method, request.path, expires)
        if not hmac.compare_digest(signature.encode(), right.encode()):
            return False
        return float(expires) > self._clock.now()

    def _sign(self, method: str, path: str, expires: str) -> str:
        text = f"{method}\n{path}\n{expires}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()

"""The floor: Flask and requests alone, which relay a request without Docxy.

No checks, no redirects, no errors, no log; served by the same gunicorn worker.
"""

import os
from typing import Final

import requests
from flask import Flask, Response, request

_KEPT_DOWN: Final = (
    "Content-Type", "Content-Length", "Docker-Content-Digest", "ETag", "Last-Modified",
)  # fmt: skip

app = Flask(__name__, static_folder=None)
_registry: Final = os.environ["DOCXY_REGISTRY_URL"]
_session: Final = requests.Session()
_session.trust_env = False
_session.verify = os.environ["DOCXY_CA_BUNDLE"]
_session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=64))


@app.get("/health")
def health() -> str:
    """Return 200 once the server runs."""
    return "ok"


@app.get("/<path:path>")
def pass_on(path: str) -> Response:
    """Send a request to the registry and stream its response."""
    passed = {"Authorization": request.headers.get("Authorization", "")}
    answer = _session.get(f"{_registry}/{path}", headers=passed, stream=True)
    body = answer.raw.stream(256 * 1024, decode_content=False)
    kept = {name: answer.headers[name] for name in _KEPT_DOWN if name in answer.headers}
    response = Response(body, status=answer.status_code, headers=kept)
    response.call_on_close(answer.close)
    return response

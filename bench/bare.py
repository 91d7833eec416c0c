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
app.extensions["docxy.fit"] = lambda _places: None  # the worker tells Docxy how many it has
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
    request_headers = {"Authorization": request.headers.get("Authorization", "")}
    upstream_response = _session.get(f"{_registry}/{path}", headers=request_headers, stream=True)
    body = upstream_response.raw.stream(256 * 1024, decode_content=False)
    response_headers = {
        name: upstream_response.headers[name]
        for name in _KEPT_DOWN
        if name in upstream_response.headers
    }
    response = Response(body, status=upstream_response.status_code, headers=response_headers)
    response.call_on_close(upstream_response.close)
    return response

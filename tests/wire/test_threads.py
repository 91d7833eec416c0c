import hashlib
import json

from tests.wire.upstream import Asked, answering, response
from tests.wire.wires import MANIFEST, Wire

LAYER = bytes(range(256)) * 20_480
"""5 MiB."""


def test_a_pull_works_on_threads(threaded_wire: Wire) -> None:
    """The code uses threading primitives only, so gunicorn's gthread worker carries it as well."""
    wire = threaded_wire
    digest = f"sha256:{hashlib.sha256(LAYER).hexdigest()}"
    manifest = json.dumps({"layers": [{"digest": digest, "size": len(LAYER)}]}).encode()

    def answer(asked: Asked) -> bytes:
        return response(LAYER) if asked.target.endswith(digest) else response(manifest)

    wire.play(answering(answer))
    with wire.client() as client:
        for _ in range(2):
            (layer,) = json.loads(client.get(MANIFEST).body)["layers"]
            got = client.get(f"/v2/library/alpine/blobs/{layer['digest']}")
            assert got.complete
            assert hashlib.sha256(got.body).hexdigest() == digest.removeprefix("sha256:")
    assert len(wire.upstream.connections) == 1

"""GET /v2/: whether these credentials, or none, open the registry."""

import json
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response

from app.content import replied
from app.routes.asking import asked
from app.routes.relay import relay
from app.routes.rooms import selected, source

bp = Blueprint("challenge", __name__)

_OPEN: Final = json.dumps({}).encode()


@bp.get("/v2")
@bp.get("/v2/")
def challenge() -> Response:
    """Answer 200, or 401 with the challenge that starts the token dance at this proxy."""
    selection = selected()
    reply = source(selection.registry).ping(asked(selection))
    if reply.status == HTTPStatus.OK:
        # Some registries say OK as text; clients are promised JSON.
        reply.close()
        opened = replied(HTTPStatus.OK, [("Content-Type", "application/json")], _OPEN)
        reply = replace(opened, challenges=reply.challenges)
    return relay(reply, selection)

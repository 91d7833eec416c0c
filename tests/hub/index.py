"""The index: where Docker Hub's images are searched, by anybody."""

import json
from dataclasses import dataclass, field
from http import HTTPStatus

from werkzeug.datastructures import Headers

from tests.hub.faults import refusal
from tests.hub.messages import Answer, Request

DEFAULT_RESULTS = (
    ("nginx", "Official build of Nginx.", 20000, True),
    ("alice/nginx", "Mine & <b>bold</b>.", 3, False),
    ("alpine", "A minimal image.", 11000, True),
)


@dataclass(slots=True)
class Index:
    """Finds by a part of the name, the more stars the earlier, as the real one does."""

    results: list[tuple[str, str, int, bool]] = field(default_factory=lambda: [*DEFAULT_RESULTS])
    """Name, description, stars, and whether it is an official one."""

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        if request.path != "/v1/search" or request.method != "GET":
            return refusal(HTTPStatus.NOT_FOUND, "UNSUPPORTED")
        query = {name: values[0] for name, values in request.query.items()}
        words, size, page = query["q"], int(query.get("n", 25)), int(query.get("page", 1))
        found = sorted((one for one in self.results if words in one[0]), key=lambda one: -one[2])
        document = {
            "num_pages": -(-len(found) // size),
            "num_results": len(found),
            "page_size": size,
            "page": page,
            "query": words,
            "results": [
                {
                    "name": name,
                    "description": description,
                    "star_count": stars,
                    "is_official": official,
                    "is_automated": False,
                    "is_trusted": False,
                }
                for name, description, stars, official in found[size * (page - 1) : size * page]
            ],
        }
        body = json.dumps(document).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body))})
        return Answer(HTTPStatus.OK, headers, [body])

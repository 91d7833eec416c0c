"""A response that knows who wants to hear of it."""

import requests

from app.content import NOBODY, Observer


class Answer(requests.Response):
    """What a session gives; its observer is the session's."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.observer = observer


def observer_of(response: requests.Response) -> Observer:
    """Return who is told what becomes of a response."""
    return response.observer if isinstance(response, Answer) else NOBODY

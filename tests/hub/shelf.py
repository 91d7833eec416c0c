"""What lies in a hub: how it gets there, and what a test finds again."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.hub.accounts import Accounts
from tests.hub.content import Push
from tests.hub.front import Front
from tests.hub.images import Image, noise
from tests.hub.pushing import Pusher
from tests.hub.registry import Registry

_CHUNK = 1 << 20
_PUSHES = 6


class Shelf:
    """The images of one hub."""

    def __init__(self, registry: Registry, accounts: Accounts, front: Front) -> None:
        self._registry = registry
        self._accounts = accounts
        self._front = front
        self._images: dict[tuple[str, str], Image] = {}

    def fill(self, content: Iterable[Push]) -> None:
        """Push into several repositories at a time, as docker-registry waits for the disk often.

        One after the other within a repository: two uploads of one blob into it disturb each other.
        """
        repositories: dict[str, list[Push]] = {}
        for push in content:
            repositories.setdefault(push.name, []).append(push)

        def put(pushes: list[Push]) -> None:
            for push in pushes:
                self.push(push.name, push.image, push.tags)
                if push.private:
                    self._accounts.make_private(push.name)

        with ThreadPoolExecutor(_PUSHES) as pool:
            for _ in pool.map(put, repositories.values()):
                pass

    def push(self, name: str, image: Image, tags: Iterable[str] = ()) -> Image:
        """Put an image into a repository, which is public if it is new; return the image."""
        tags = tuple(tags)
        self._accounts.add(name)
        Pusher(self._registry, name).push(image, tags)
        for reference in (image.digest, *tags):
            self._images[name, reference] = image
        if "subject" in image.document:
            subject = image.document["subject"]["digest"]
            self._front.refer(name, subject, image)
        return image

    def push_blob(self, name: str, data: bytes | int, seed: str = "") -> str:
        """Put a blob into a repository and return its digest; a number means so much noise."""
        self._accounts.add(name)
        chunks = _noise_chunks(data, seed) if isinstance(data, int) else iter([data])
        return Pusher(self._registry, name).push_blob(chunks)

    def image(self, name: str, reference: str) -> Image:
        """Return what was pushed as this tag or digest."""
        return self._images[name, reference]


def _noise_chunks(size: int, seed: str) -> Iterator[bytes]:
    for number, start in enumerate(range(0, size, _CHUNK)):
        yield noise(min(_CHUNK, size - start), f"{seed} {number}")

"""The servers that are measured."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import nginx
from bench.content import Content
from bench.measure import Server
from tests.servers import docxy


@contextlib.contextmanager
def upstream(blob_size: int) -> Iterator[tuple[Path, Content, nginx.Upstream]]:
    """Run the upstream, and yield its folder, its content and its address."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docxy-bench-")))
        # nginx's workers run as another user.
        folder.chmod(0o755)
        content = Content.write(folder, blob_size)
        yield folder, content, stack.enter_context(nginx.upstream(folder, content))


@contextlib.contextmanager
def gunicorn(
    name: str, upstream: nginx.Upstream, *arguments: str, workers: int = 1, **more: str
) -> Iterator[Server]:
    """Run an application on gunicorn, as users run Docxy."""
    settings = more | {
        "DOCXY_REGISTRY_URL": upstream.url,
        "DOCXY_CA_BUNDLE": str(upstream.ca),
        "DOCXY_ALLOW_PRIVATE_UPSTREAMS": "true",
    }
    with docxy(*arguments, workers=workers, **settings) as running:
        port = int(running.host.rpartition(":")[2])
        yield Server(name, port, running.server.process.pid, upstream.pid)

"""The servers of one hub, wired to each other and to the docker-registry behind them."""

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.hub.accounts import Accounts
from tests.hub.budget import Budget
from tests.hub.cdn import Cdn
from tests.hub.clock import Clock
from tests.hub.door import Door, Login
from tests.hub.front import Front
from tests.hub.index import Index
from tests.hub.links import Links
from tests.hub.region import Region
from tests.hub.registry import Registry, docker_registry
from tests.hub.tokens import Issuer, TokenServer
from tests.hub.web import Server, Stage

_PARTS = ("registry", "token", "cdn", "region", "index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What runs, and where."""

    host: str
    token_url: str
    cdn_url: str
    region_url: str
    index_url: str
    registry: Registry
    links: Links
    front: Front
    tokens: TokenServer
    cdn: Cdn
    region: Region
    index: Index
    away: Callable[[str], contextlib.AbstractContextManager[None]]
    """Let one part be away: it ends its connections and refuses new ones."""


@contextlib.contextmanager
def running_parts(  # noqa: PLR0913 - the whole wiring is here
    *,
    folder: Path,
    listen: str,
    context: ssl.SSLContext,
    stage: Stage,
    clock: Clock,
    login: Login,
    issuer: Issuer,
    accounts: Accounts,
    budget: Budget,
) -> Iterator[Parts]:
    """Run the parts on free ports until the end of the block."""
    with contextlib.ExitStack() as stack:
        servers = {
            part: stack.enter_context(contextlib.closing(Server(part, stage, context, listen)))
            for part in _PARTS
        }
        ports = {part: server.port for part, server in servers.items()}
        literal = f"[{listen}]" if ":" in listen else listen
        host = f"{literal}:{ports['registry']}"
        token_url = f"https://{literal}:{ports['token']}/token"
        cdn_url = f"https://localhost:{ports['cdn']}"
        registry = stack.enter_context(docker_registry(folder, issuer, token_url))
        # Last in, first out: whoever waits is woken, the servers close, then docker-registry ends.
        for server in servers.values():
            stack.callback(server.close)
        stack.callback(stage.closing.set)
        links = Links(cdn_url, clock)
        parts = Parts(
            host=host,
            token_url=token_url,
            cdn_url=cdn_url,
            region_url=f"https://localhost:{ports['region']}",
            index_url=f"https://{literal}:{ports['index']}",
            registry=registry,
            links=links,
            front=Front(f"https://{host}", registry, links, budget, accounts),
            tokens=TokenServer(issuer, accounts),
            cdn=Cdn(registry, links),
            region=Region(registry),
            index=Index(),
            away=lambda part: servers[part].away(),
        )
        door = Door(login=login, issuer=issuer, accounts=accounts, inner=parts.front.answer)
        for part, answer in {
            "registry": door.answer,
            "token": parts.tokens.answer,
            "cdn": parts.cdn.answer,
            "region": parts.region.answer,
            "index": parts.index.answer,
        }.items():
            servers[part].start(answer)
        yield parts

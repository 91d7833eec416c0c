"""The whole examination: everything that the doctor tries, in order."""

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote

from app.doctor import challenges, front, machine, network, pulling, token_flow
from app.doctor import target as doctor_target
from app.doctor.findings import Step
from app.doctor.http import Answer, Line, NoAnswer
from app.doctor.target import Image, Login, Place

# Whether the proxy reaches its registries, according to its own /health.

Seen = Answer | NoAnswer
_UNAVAILABLE = 503


def look(line: Line, names: Iterable[str]) -> dict[str, Seen]:
    """Return the answers of /health for these registries and the default one, which is "".

    The requests run at the same time.
    """
    asked = ["", *names]
    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(lambda name: _seen(line, name), asked), strict=True))


def _seen(line: Line, name: str) -> Seen:
    try:
        return line.get(f"/health?upstream={quote(name, safe='')}")
    except NoAnswer as trouble:
        return trouble


def judge(seen: Mapping[str, Seen]) -> Iterator[Step]:
    """Yield a step for each registry that is reached or not; skip those that are not served."""
    for name, answer in seen.items():
        tried = f"the proxy reaches {name or 'its registry'}"
        if isinstance(answer, NoAnswer):
            yield Step(tried, str(answer), "no-answer")
        elif answer.status == _UNAVAILABLE and answer.document.get("upstream"):
            wrong = "upstream-other" if name else "upstream"
            yield Step(tried, str(answer.document["upstream"]), wrong)
        elif answer.document.get("upstream") == "ok":
            yield Step(tried, "yes")
        elif not name:
            yield Step(tried, "", skipped="the front does not pass /health on")


_HTTPS: Final = 443
_HTTP: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the doctor is asked to examine; `place` is None if the address is not known."""

    place: Place | None
    plain: Place | None = None
    """Where plain http is served; None means port 80 of the same host."""
    image: Image
    authorities: Sequence[Path] = field(default_factory=tuple)
    here: machine.Machine = field(default_factory=machine.Machine)
    """This machine, if the proxy runs on it; otherwise empty."""
    login: Login | None = None


def examine(request: Request) -> Iterator[Step]:
    """Run the examination and yield each step as it ends.

    A serious finding ends it, or the part of it that can no longer succeed.
    """
    yield from machine.judge(request.here)
    place = request.place
    if place is None:
        yield Step("public address", "nothing was tried from outside", "no-address")
        return
    settings = request.here.settings
    if step := machine.judge_address(settings, place):
        yield step
    reached = network.reach(place)
    yield from network.judge_reached(place, reached)
    if not reached.some:
        return
    found = yield from _trusted(place, request.authorities)
    if found is None:
        return
    line, is_trusted = found
    yield from _plain(place, request.plain)
    others: list[str] = []
    if settings:
        table = settings.table()
        others = [row.name for row in table.rows if row is not table.default]
        yield from _hosts(place, table.hosts, request.authorities)
    try:
        user = request.login
        if user and (why := doctor_target.why_not(place, is_trusted=is_trusted)):
            yield Step(f"login as {user.user}", "", skipped=why)
            user = None
        yield from _asked(line, request.image, others, user)
    except NoAnswer as trouble:
        yield Step("a question", str(trouble), "no-answer")


def _trusted(
    place: Place, authorities: Sequence[Path]
) -> Generator[Step, None, tuple[Line, bool] | None]:
    """Return a line to the proxy, and whether its certificate is trusted.

    Return None if there is no TLS at the port. Without `https`, the line is not trusted.
    """
    if not place.is_tls:
        return Line(place, None), False
    trusting = network.context(authorities)
    shown = network.show(place, trusting)
    yield network.judge_shown(shown, time.time())
    if shown.trusted:
        return Line(place, trusting), True
    # With an untrusted certificate, the rest can still be examined, as long as there is TLS.
    return (Line(place, network.trusting_context()), False) if shown.code else None


def _plain(place: Place, plain: Place | None) -> Iterator[Step]:
    if not place.is_tls:
        return
    if plain is None and place.port != _HTTPS:
        yield Step("http leads to https", "", skipped="the port of http is not known: --http URL")
        return
    asked = Line(plain or Place("http", place.host, _HTTP), None)
    yield front.judge_plain(place, front.seen(asked, "GET", "/v2/"))


def _hosts(place: Place, names: Iterable[str], authorities: Sequence[Path]) -> Iterator[Step]:
    """Check DNS, connection and certificate of each host that stands for a single registry."""
    for name in sorted(names):
        other = replace(place, host=name)
        reached = network.reach(other)
        yield from network.judge_reached(other, reached)
        if reached.some and other.is_tls:
            shown = network.show(other, network.context(authorities))
            yield network.judge_shown(shown, time.time())


def _asked(line: Line, image: Image, others: list[str], user: Login | None) -> Iterator[Step]:
    looked = front.look(line)
    steps = list(front.judge(looked))
    yield from steps
    if {step.wrong for step in steps} & front.HOPELESS:
        return
    reached = list(judge(look(line, others)))
    yield from reached
    ping = line.get("/v2/")
    pinged = challenges.judge_ping(line.place, ping)
    yield pinged
    if pinged.wrong in challenges.HOPELESS:
        return
    # `seen` returns NoAnswer instead of raising it: some firewalls drop forged requests silently.
    forged = front.seen(line, "GET", "/v2/", challenges.FORGED)
    yield from challenges.judge_forged(line.place, ping, forged)
    figures = front.seen(line, "GET", challenges.FIGURES)
    hidden = not isinstance(figures, NoAnswer) and figures.status == HTTPStatus.FORBIDDEN
    pretended = challenges.FRIEND if hidden else challenges.STRANGER
    claimed = front.seen(line, "GET", challenges.FIGURES, pretended)
    yield challenges.judge_client(line.place, figures, claimed)
    knocked = token_flow.knock(line, image.name, image.by(image.name), user)
    if user and not knocked.user:
        yield Step(f"login as {user.user}", "", skipped="this proxy has no users of its own")
    yield from token_flow.judge_knock(knocked, f"docker pull {image}")
    if knocked.head and knocked.opened:
        yield from _let_in(line, image, knocked, knocked.head, user)
    else:
        yield from token_flow.judge_clocks(ping, knocked.token)


def _let_in(
    line: Line, image: Image, knocked: token_flow.Knock, head: Answer, user: Login | None
) -> Iterator[Step]:
    yield token_flow.judge_pulls(head)
    yield from token_flow.judge_clocks(head, knocked.token)
    yield from pulling.judge_pull(pulling.pull(line, image, knocked, head))
    registry, name = image.registry, image.repository
    ways = {
        "containerd": (name, f"{image.by(name)}?ns={registry}"),
        "podman": (f"{registry}/{name}", image.by(f"{registry}/{name}")),
    }
    for client, (asked, target) in ways.items():
        way = token_flow.knock(line, asked, target, user)
        if not challenges.is_of_another(way.first, knocked.first):
            yield judge_way(f"{client}: {target}", way, head)


def judge_way(tried: str, way: token_flow.Knock, head: Answer) -> Step:
    """Judge whether another way to name the image leads to the manifest that `head` is of."""
    if way.head is None or not way.opened:
        if way.first.status == HTTPStatus.NOT_FOUND:
            return Step(tried, "", skipped="that registry is not served by this name")
        return Step(tried, str(way.head or way.token or way.first), "address-ways")
    digest = way.head.value("docker-content-digest")
    same = digest == head.value("docker-content-digest")
    return Step(tried, digest, "" if same else "address-ways")

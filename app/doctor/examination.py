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
from app.doctor.findings import StepResult
from app.doctor.http import NoResponse, ProbeClient, ProbeResponse
from app.doctor.target import Endpoint, ImageReference, UserCredentials

# The registries that the proxy reaches, according to its own /health.

ProbeOutcome = ProbeResponse | NoResponse
_UNAVAILABLE = 503


def fetch_health(line: ProbeClient, names: Iterable[str]) -> dict[str, ProbeOutcome]:
    """Return the answers of /health for these registries and the default one, which is "".

    The requests run at the same time.
    """
    asked = ["", *names]
    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(
            zip(
                asked, pool.map(lambda name: _fetch_registry_health(line, name), asked), strict=True
            )
        )


def _fetch_registry_health(line: ProbeClient, name: str) -> ProbeOutcome:
    try:
        return line.get(f"/health?upstream={quote(name, safe='')}")
    except NoResponse as trouble:
        return trouble


def judge_upstreams(seen: Mapping[str, ProbeOutcome]) -> Iterator[StepResult]:
    """Yield a step for each registry that is reached or not; skip those that are not served."""
    for name, answer in seen.items():
        tried = f"the proxy reaches {name or 'its registry'}"
        if isinstance(answer, NoResponse):
            yield StepResult(tried, str(answer), "no-answer")
        elif answer.status == _UNAVAILABLE and answer.document.get("upstream"):
            wrong = "upstream-other" if name else "upstream"
            yield StepResult(tried, str(answer.document["upstream"]), wrong)
        elif answer.document.get("upstream") == "ok":
            yield StepResult(tried, "yes")
        elif not name:
            yield StepResult(tried, "", skip_reason="the front does not pass /health")


_HTTPS: Final = 443
_HTTP: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminationOptions:
    """The options of an examination; `endpoint` is None if the address is not known."""

    endpoint: Endpoint | None
    plain_http: Endpoint | None = None
    """Where plain http is served; None means port 80 of the same host."""
    image: ImageReference
    authorities: Sequence[Path] = field(default_factory=tuple)
    local_machine: machine.Machine = field(default_factory=machine.Machine)
    """This machine, if the proxy runs on it; otherwise empty."""
    credentials: UserCredentials | None = None


def examine(request: ExaminationOptions) -> Iterator[StepResult]:
    """Run the examination and yield each step as it ends.

    A serious finding ends it, or the part of it that can no longer succeed.
    """
    yield from machine.judge_machine(request.local_machine)
    place = request.endpoint
    if place is None:
        yield StepResult(
            "public address", "unknown, so nothing was tested from outside", "no-address"
        )
        return
    settings = request.local_machine.settings
    if step := machine.judge_address(settings, place):
        yield step
    reached = network.connect_to_all(place)
    yield from network.judge_connections(place, reached)
    if not reached.is_reachable:
        return
    found = yield from _open_client(place, request.authorities)
    if found is None:
        return
    line, is_trusted = found
    yield from _check_plain_http(place, request.plain_http)
    others: list[str] = []
    if settings:
        table = settings.build_registries()
        others = [row.name for row in table.rows if row is not table.default]
        yield from _check_hosts(place, table.hosts, request.authorities)
    try:
        user = request.credentials
        if user and (why := doctor_target.find_login_obstacle(place, is_trusted=is_trusted)):
            yield StepResult(f"login as {user.user}", "", skip_reason=why)
            user = None
        yield from _examine_proxy(line, request.image, others, user)
    except NoResponse as trouble:
        yield StepResult("request", str(trouble), "no-answer")


def _open_client(
    place: Endpoint, authorities: Sequence[Path]
) -> Generator[StepResult, None, tuple[ProbeClient, bool] | None]:
    """Return a client for the proxy, and whether the proxy's certificate is trusted.

    Return None if the port does not speak TLS. Plain http is not trusted.
    """
    if not place.is_tls:
        return ProbeClient(place, None), False
    trusting = network.build_tls_context(authorities)
    shown = network.try_handshake(place, trusting)
    yield network.judge_handshake(shown, time.time())
    if shown.is_trusted:
        return ProbeClient(place, trusting), True
    # With an untrusted certificate, the rest can still be examined, as long as there is TLS.
    return (
        (ProbeClient(place, network.build_insecure_context()), False) if shown.verify_code else None
    )


def _check_plain_http(place: Endpoint, plain: Endpoint | None) -> Iterator[StepResult]:
    if not place.is_tls:
        return
    if plain is None and place.port != _HTTPS:
        yield StepResult(
            "http redirects to https",
            "",
            skip_reason="the port of plain http is unknown; pass --http URL",
        )
        return
    asked = ProbeClient(plain or Endpoint("http", place.host, _HTTP), None)
    yield front.judge_plain(place, front.try_request(asked, "GET", "/v2/"))


def _check_hosts(
    place: Endpoint, names: Iterable[str], authorities: Sequence[Path]
) -> Iterator[StepResult]:
    """Check DNS, connection and certificate of each host that stands for a single registry."""
    for name in sorted(names):
        other = replace(place, host=name)
        reached = network.connect_to_all(other)
        yield from network.judge_connections(other, reached)
        if reached.is_reachable and other.is_tls:
            shown = network.try_handshake(other, network.build_tls_context(authorities))
            yield network.judge_handshake(shown, time.time())


def _examine_proxy(
    line: ProbeClient, image: ImageReference, others: list[str], user: UserCredentials | None
) -> Iterator[StepResult]:
    looked = front.probe_front(line)
    steps = list(front.judge_front(looked))
    yield from steps
    if {step.finding_name for step in steps} & front.HOPELESS:
        return
    reached = list(judge_upstreams(fetch_health(line, others)))
    yield from reached
    ping = line.get("/v2/")
    pinged = challenges.judge_ping(line.endpoint, ping)
    yield pinged
    if pinged.finding_name in challenges.HOPELESS:
        return
    # `try_request` does not raise NoResponse: some firewalls drop forged requests silently.
    forged = front.try_request(line, "GET", "/v2/", challenges.FORGED)
    yield from challenges.judge_forged_host(line.endpoint, ping, forged)
    figures = front.try_request(line, "GET", challenges.FIGURES)
    hidden = not isinstance(figures, NoResponse) and figures.status == HTTPStatus.FORBIDDEN
    pretended = challenges.FRIEND if hidden else challenges.STRANGER
    claimed = front.try_request(line, "GET", challenges.FIGURES, pretended)
    yield challenges.judge_forged_client(line.endpoint, figures, claimed)
    knocked = token_flow.run_token_flow(
        line, image.name, image.build_manifest_path(image.name), user
    )
    if user and not knocked.user:
        yield StepResult(
            f"login as {user.user}", "", skip_reason="this proxy has no users of its own"
        )
    yield from token_flow.judge_token_flow(knocked, f"docker pull {image}")
    if knocked.head and knocked.has_succeeded:
        yield from _examine_pull(line, image, knocked, knocked.head, user)
    else:
        yield from token_flow.judge_clocks(ping, knocked.token)


def _examine_pull(
    line: ProbeClient,
    image: ImageReference,
    knocked: token_flow.TokenFlow,
    head: ProbeResponse,
    user: UserCredentials | None,
) -> Iterator[StepResult]:
    yield token_flow.judge_pulls(head)
    yield from token_flow.judge_clocks(head, knocked.token)
    yield from pulling.judge_pull(pulling.pull(line, image, knocked, head))
    registry, name = image.registry, image.repository
    ways = {
        "containerd": (name, f"{image.build_manifest_path(name)}?ns={registry}"),
        "podman": (f"{registry}/{name}", image.build_manifest_path(f"{registry}/{name}")),
    }
    for client, (asked, target) in ways.items():
        way = token_flow.run_token_flow(line, asked, target, user)
        if not challenges.is_other_registry(way.first, knocked.first):
            yield judge_other_name(f"{client}: {target}", way, head)


def judge_other_name(tried: str, way: token_flow.TokenFlow, head: ProbeResponse) -> StepResult:
    """Judge whether another name of the image leads to the manifest that `head` describes."""
    if way.head is None or not way.has_succeeded:
        if way.first.status == HTTPStatus.NOT_FOUND:
            return StepResult(
                tried, "", skip_reason="this proxy does not serve the registry by this name"
            )
        return StepResult(tried, str(way.head or way.token or way.first), "address-ways")
    digest = way.head.header("docker-content-digest")
    same = digest == head.header("docker-content-digest")
    return StepResult(tried, digest, "" if same else "address-ways")

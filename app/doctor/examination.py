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


def fetch_health(client: ProbeClient, names: Iterable[str]) -> dict[str, ProbeOutcome]:
    """Return the answers of /health by name of registry; "" stands for the default one.

    The requests run at the same time.
    """
    registry_names = ["", *names]
    with ThreadPoolExecutor(len(registry_names)) as pool:
        return dict(
            zip(
                registry_names,
                pool.map(lambda name: _fetch_registry_health(client, name), registry_names),
                strict=True,
            )
        )


def _fetch_registry_health(client: ProbeClient, name: str) -> ProbeOutcome:
    try:
        return client.get(f"/health?upstream={quote(name, safe='')}")
    except NoResponse as error:
        return error


def judge_upstreams(responses: Mapping[str, ProbeOutcome]) -> Iterator[StepResult]:
    """Yield a step for each registry, reached or not; skip those that are not served."""
    for name, response in responses.items():
        action = f"the proxy reaches {name or 'its registry'}"
        if isinstance(response, NoResponse):
            yield StepResult(action, str(response), "no-answer")
        elif response.status == _UNAVAILABLE and response.document.get("upstream"):
            finding = "upstream-other" if name else "upstream"
            yield StepResult(action, str(response.document["upstream"]), finding)
        elif response.document.get("upstream") == "ok":
            yield StepResult(action, "yes")
        elif not name:
            yield StepResult(action, "", skip_reason="the front does not pass /health")


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


def examine(options: ExaminationOptions) -> Iterator[StepResult]:
    """Run the examination and yield each step as it ends.

    A serious finding ends it, or the part of it that can no longer succeed.
    """
    yield from machine.judge_machine(options.local_machine)
    endpoint = options.endpoint
    if endpoint is None:
        yield StepResult(
            "public address", "unknown, so nothing was tested from outside", "no-address"
        )
        return
    settings = options.local_machine.settings
    if step := machine.judge_address(settings, endpoint):
        yield step
    results = network.connect_to_all(endpoint)
    yield from network.judge_connections(endpoint, results)
    if not results.is_reachable:
        return
    opened = yield from _open_client(endpoint, options.authorities)
    if opened is None:
        return
    client, is_trusted = opened
    yield from _check_plain_http(endpoint, options.plain_http)
    other_names: list[str] = []
    if settings:
        table = settings.build_registries()
        other_names = [row.name for row in table.rows if row is not table.default]
        yield from _check_hosts(endpoint, table.hosts, options.authorities)
    try:
        user = options.credentials
        if user and (
            obstacle := doctor_target.find_login_obstacle(endpoint, is_trusted=is_trusted)
        ):
            yield StepResult(f"login as {user.user}", "", skip_reason=obstacle)
            user = None
        yield from _examine_proxy(client, options.image, other_names, user)
    except NoResponse as error:
        yield StepResult("request", str(error), "no-answer")


def _open_client(
    endpoint: Endpoint, authorities: Sequence[Path]
) -> Generator[StepResult, None, tuple[ProbeClient, bool] | None]:
    """Return a client for the proxy, and whether the proxy's certificate is trusted.

    Return None if the port does not speak TLS. Plain http is not trusted.
    """
    if not endpoint.is_tls:
        return ProbeClient(endpoint, None), False
    tls_context = network.build_tls_context(authorities)
    handshake = network.try_handshake(endpoint, tls_context)
    yield network.judge_handshake(handshake, time.time())
    if handshake.is_trusted:
        return ProbeClient(endpoint, tls_context), True
    # With an untrusted certificate, the rest can still be examined, as long as there is TLS.
    return (
        (ProbeClient(endpoint, network.build_insecure_context()), False)
        if handshake.verify_code
        else None
    )


def _check_plain_http(endpoint: Endpoint, plain_endpoint: Endpoint | None) -> Iterator[StepResult]:
    if not endpoint.is_tls:
        return
    if plain_endpoint is None and endpoint.port != _HTTPS:
        yield StepResult(
            "http redirects to https",
            "",
            skip_reason="the port of plain http is unknown; pass --http URL",
        )
        return
    client = ProbeClient(plain_endpoint or Endpoint("http", endpoint.host, _HTTP), None)
    yield front.judge_plain(endpoint, front.try_request(client, "GET", "/v2/"))


def _check_hosts(
    endpoint: Endpoint, names: Iterable[str], authorities: Sequence[Path]
) -> Iterator[StepResult]:
    """Check DNS, connection and certificate of each host that stands for a single registry."""
    for name in sorted(names):
        host_endpoint = replace(endpoint, host=name)
        results = network.connect_to_all(host_endpoint)
        yield from network.judge_connections(host_endpoint, results)
        if results.is_reachable and host_endpoint.is_tls:
            handshake = network.try_handshake(host_endpoint, network.build_tls_context(authorities))
            yield network.judge_handshake(handshake, time.time())


def _examine_proxy(
    client: ProbeClient, image: ImageReference, other_names: list[str], user: UserCredentials | None
) -> Iterator[StepResult]:
    front_responses = front.probe_front(client)
    steps = list(front.judge_front(front_responses))
    yield from steps
    if {step.finding_name for step in steps} & front.HOPELESS:
        return
    upstream_steps = list(judge_upstreams(fetch_health(client, other_names)))
    yield from upstream_steps
    ping = client.get("/v2/")
    ping_step = challenges.judge_ping(client.endpoint, ping)
    yield ping_step
    if ping_step.finding_name in challenges.HOPELESS:
        return
    # `try_request` does not raise NoResponse: some firewalls drop forged requests silently.
    forged = front.try_request(client, "GET", "/v2/", challenges.FORGED)
    yield from challenges.judge_forged_host(client.endpoint, ping, forged)
    figures = front.try_request(client, "GET", challenges.FIGURES)
    are_hidden = not isinstance(figures, NoResponse) and figures.status == HTTPStatus.FORBIDDEN
    forged_header = challenges.FRIEND if are_hidden else challenges.STRANGER
    forged_figures = front.try_request(client, "GET", challenges.FIGURES, forged_header)
    yield challenges.judge_forged_client(client.endpoint, figures, forged_figures)
    flow = token_flow.run_token_flow(
        client, image.name, image.build_manifest_path(image.name), user
    )
    if user and not flow.user:
        yield StepResult(
            f"login as {user.user}", "", skip_reason="this proxy has no users of its own"
        )
    yield from token_flow.judge_token_flow(flow, f"docker pull {image}")
    if flow.head and flow.has_succeeded:
        yield from _examine_pull(client, image, flow, flow.head, user)
    else:
        yield from token_flow.judge_clocks(ping, flow.token)


def _examine_pull(
    probe_client: ProbeClient,
    image: ImageReference,
    flow: token_flow.TokenFlow,
    head: ProbeResponse,
    user: UserCredentials | None,
) -> Iterator[StepResult]:
    yield token_flow.judge_pulls(head)
    yield from token_flow.judge_clocks(head, flow.token)
    yield from pulling.judge_pull(pulling.pull(probe_client, image, flow, head))
    registry, name = image.registry, image.repository
    names_by_client = {
        "containerd": (name, f"{image.build_manifest_path(name)}?ns={registry}"),
        "podman": (f"{registry}/{name}", image.build_manifest_path(f"{registry}/{name}")),
    }
    for client, (repository, target) in names_by_client.items():
        other_flow = token_flow.run_token_flow(probe_client, repository, target, user)
        if not challenges.is_other_registry(other_flow.first, flow.first):
            yield judge_other_name(f"{client}: {target}", other_flow, head)


def judge_other_name(action: str, flow: token_flow.TokenFlow, head: ProbeResponse) -> StepResult:
    """Judge whether another name of the image leads to the manifest that `head` describes."""
    if flow.head is None or not flow.has_succeeded:
        if flow.first.status == HTTPStatus.NOT_FOUND:
            return StepResult(
                action, "", skip_reason="this proxy does not serve the registry by this name"
            )
        return StepResult(action, str(flow.head or flow.token or flow.first), "address-ways")
    digest = flow.head.header("docker-content-digest")
    is_same = digest == head.header("docker-content-digest")
    return StepResult(action, digest, "" if is_same else "address-ways")

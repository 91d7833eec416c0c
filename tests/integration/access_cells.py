"""What is asked of an image in each of its parts, and what the answer to each has to be."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.hub.images import OCI_INDEX, OCI_MANIFEST, Image
from tests.integration.both_workers import Answer
from tests.integration.logins import Form

TAG, CANDIDATE = "1.4", "1.5-rc"
"""Both are of one image."""
PLATFORM: Final = "linux/amd64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One question about an image."""

    part: str
    method: str
    rest: str
    """The path after the repository's name."""
    statuses: frozenset[int]
    """What a registry answers to who may ask."""
    tag: str | None = None
    platform: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """What comes then; None where it is not for this test to say."""
    digest: str = ""

    def check(self, answer: Answer) -> None:
        """See that it is answered."""
        assert answer.status in self.statuses, (self.part, answer)
        if self.body is not None:
            assert answer.body == (b"" if self.method == "HEAD" else self.body)
        if self.digest and answer.status == 200:
            assert answer.value("Docker-Content-Digest") == self.digest


def cells(image: Image) -> Iterator[Cell]:
    """Return all that one can ask of an image, with GET and with HEAD."""
    accept = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
    child = image.platforms[PLATFORM]
    blob = child.layers[0]
    for method in ("GET", "HEAD"):
        for part, reference, found, platform in (
            ("tag", TAG, image, None),
            ("candidate", CANDIDATE, image, None),
            ("digest", image.digest, image, None),
            ("child", child.digest, child, PLATFORM),
        ):
            yield Cell(
                part=part,
                method=method,
                rest=f"manifests/{reference}",
                tag=None if ":" in reference else reference,
                platform=platform,
                fields=accept,
                statuses=frozenset({200}),
                body=found.body,
                digest=found.digest,
            )
        for part, one in (("blob", blob), ("config", child.blobs[0])):
            yield Cell(
                part=part,
                method=method,
                rest=f"blobs/{one.digest}",
                statuses=frozenset({200}),
                body=one.data,
            )
    yield Cell(
        part="range",
        method="GET",
        rest=f"blobs/{blob.digest}",
        fields={"Range": "bytes=5-14"},
        statuses=frozenset({206}),
        body=blob.data[5:15],
    )
    yield Cell(
        part="unchanged",
        method="GET",
        rest=f"manifests/{image.digest}",
        fields=accept | {"If-None-Match": f'"{image.digest}"'},
        statuses=frozenset({200, 304}),
    )
    yield Cell(part="tags", method="GET", rest="tags/list", statuses=frozenset({200}))
    # The registry has no referrers, and knows HEAD of no list.
    lists = frozenset({200, 404, 405})
    yield Cell(part="tags", method="HEAD", rest="tags/list", statuses=lists)
    for method in ("GET", "HEAD"):
        yield Cell(
            part="referrers", method=method, rest=f"referrers/{image.digest}", statuses=lists
        )


HUB_NAMES: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")
"""What clients call Docker Hub."""


def forms(registry: str, repository: str) -> Iterator[Form]:
    """Return the ways to write the address of a repository, at Docker Hub or at ghcr.io."""
    namespaces: tuple[str, ...]
    prefixes: tuple[str, ...]
    if registry == "docker.io":
        names = {repository, repository.removeprefix("library/")}
        namespaces = (*HUB_NAMES, "DOCKER.IO", "docker.io:443", "hub.proxy.test")
        yield from (Form(name=name) for name in sorted(names))
        prefixes, host = HUB_NAMES, "hub.proxy.test"
        yield Form(name=repository, ns=registry, host="ghcr.proxy.test")
    else:
        names = {repository}
        namespaces = (registry, registry.upper(), f"{registry}:443", "ghcr.proxy.test:8443")
        prefixes, host = (registry,), "ghcr.proxy.test"
    for name in sorted(names):
        yield from (Form(name=f"{prefix}/{name}") for prefix in prefixes)
        yield from (Form(name=name, ns=ns) for ns in namespaces)
        yield Form(name=f"{prefixes[0]}/{name}", ns=prefixes[0])
        yield Form(name=name, host=host)
        yield Form(name=name, host=f"{host.upper()}.:8443")
        yield Form(name=f"{prefixes[0]}/{name}", host=host)
        yield Form(name=name, ns=prefixes[0], host=host)
    for escaped in (
        _escaped(repository),
        repository.replace("/", "%2F"),
        repository.replace("/", "%2f"),
    ):
        yield Form(name=f"{prefixes[0]}/{escaped}", scope_name=f"{prefixes[0]}/{repository}")
    yield Form(name=_escaped(repository), ns=prefixes[0], scope_name=repository)
    if registry == "docker.io":
        for path in (
            "//v2/{name}/{rest}",
            "/%76%32/{name}/{rest}",
            "/v2/{name}%2F{rest}",
            "http://elsewhere.example/v2/{name}/{rest}",
            "/v2/{name}/{rest}?ns=",
            "/v2/{name}/{rest}?ns=docker.io&ns=ghcr.io",
            "/v2/{name}/{rest}?NS=ghcr.io&x=",
            "/v2/{name}/{rest}?n%73=docker%2Eio",
        ):
            yield Form(name=repository, path=path)


def _escaped(name: str) -> str:
    """Write the first letter as no client does, and every server reads it."""
    return f"%{ord(name[0]):02X}{name[1:]}"

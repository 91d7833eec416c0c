"""What is written by people and for them: addresses, images, lines."""

import json

import pytest

from app.doctor.findings import StepResult
from app.doctor.report import TextReport, count_findings, format_json
from app.doctor.target import Endpoint, ImageReference


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("https://proxy.example", Endpoint("https", "proxy.example", 443)),
        ("proxy.example/", Endpoint("https", "proxy.example", 443)),
        ("http://127.0.0.1:8000", Endpoint("http", "127.0.0.1", 8000)),
        ("https://proxy.example/hub/", Endpoint("https", "proxy.example", 443, "/hub")),
        ("https://[2001:db8::1]:8443", Endpoint("https", "2001:db8::1", 8443)),
    ],
)
def test_addresses(text: str, place: Endpoint) -> None:
    """The scheme may be left out, and a port is written where it is not the scheme's own."""
    assert Endpoint.parse(text) == place
    assert Endpoint.parse(str(place)) == place


@pytest.mark.parametrize(
    "text",
    ["", "ftp://x", "https://", "https://u:p@x", "https://x/v2/", "https://x?a", "https://x:port"],
)
def test_what_is_no_address(text: str) -> None:
    """What clients put behind the address by themselves is no part of it."""
    with pytest.raises(ValueError, match=r"."):
        Endpoint.parse(text)


DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "name", "reference", "registry", "repository"),
    [
        ("hello-world", "hello-world", "latest", "docker.io", "library/hello-world"),
        ("owner/app:1", "owner/app", "1", "docker.io", "owner/app"),
        ("ghcr.io/owner/app:1", "ghcr.io/owner/app", "1", "ghcr.io", "owner/app"),
        ("ghcr.io/app", "ghcr.io/app", "latest", "ghcr.io", "app"),
        (f"app:1@{DIGEST}", "app", DIGEST, "docker.io", "library/app"),
        ("docker.io/app", "docker.io/app", "latest", "docker.io", "library/app"),
    ],
)
def test_images(text: str, name: str, reference: str, registry: str, repository: str) -> None:
    """As they are written behind the proxy's address."""
    image = ImageReference.parse(text)
    assert (image.name, image.reference) == (name, reference)
    assert (image.registry, image.repository) == (registry, repository)


@pytest.mark.parametrize("text", ["", "Upper", "a:b c", "a@sha256:1", "https://x/y"])
def test_what_is_no_image(text: str) -> None:
    """It is said how one looks."""
    with pytest.raises(ValueError, match="write an image like"):
        ImageReference.parse(text)


STEPS = [
    StepResult("one", "fine"),
    StepResult("two", "", skip_reason="nobody asked"),
    StepResult("three", "few", "pulls-low"),
    StepResult("four", "\x1b[2Jgzip\n", "gzip"),
]


def test_lines() -> None:
    """What came, what it is called, what to change, and where to read on; no stranger's escapes."""
    lines = TextReport(coloured=False)
    assert lines.format_step(STEPS[0]) == "ok    one: fine"
    assert lines.format_step(STEPS[1]) == "-     two: skipped: nobody asked"
    written = lines.format_step(STEPS[3]).splitlines()
    assert written[:3] == [
        "FAIL  four: ?[2Jgzip?",
        "      The front compresses responses.",
        "      -> nginx: gzip off;",
    ]
    assert written[-1].strip() == "docs/troubleshooting.md#the-front-compresses-responses"
    assert lines.format_summary(STEPS) == "Errors: 1. Warnings: 1."
    assert lines.format_summary(STEPS[:2]) == "No problems found."


def test_colours() -> None:
    """Only where they are wanted."""
    assert TextReport(coloured=True).format_step(STEPS[0]) == "\x1b[32mok  \x1b[0m  one: fine"


def test_json() -> None:
    """The same for programs."""
    read = json.loads(format_json(STEPS, "https://proxy.example", "hello-world"))
    assert (read["errors"], read["warnings"]) == count_findings(STEPS) == (1, 1)
    assert [step["status"] for step in read["checks"]] == ["ok", "skipped", "warning", "error"]
    assert read["checks"][3]["finding"] == "gzip"
    assert read["checks"][3]["changes"][0] == "nginx: gzip off;"

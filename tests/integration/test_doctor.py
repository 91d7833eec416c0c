"""The doctor before set-ups that are broken in one way each: it names that, and nothing else."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.doctor import machine
from app.doctor.examination import ExaminationOptions, examine
from app.doctor.target import Endpoint, ImageReference
from tests import proxies
from tests.hub.content import multi_arch
from tests.hub.hub import Hub
from tests.hub.images import DOCKER_KIND
from tests.proxies import Front
from tests.servers import ROOT, Docxy, clean_environment, docxy, free_port

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
IMAGE = "small"


@pytest.fixture(scope="module")
def registry() -> Iterator[Hub]:
    with Hub() as hub:
        image = multi_arch("small", DOCKER_KIND, data_size=50_000)
        hub.push("library/small", image, ["latest"])
        yield hub


@pytest.fixture(scope="module")
def behind(registry: Hub) -> Iterator[Docxy]:
    # Nobody here is in 10.0.0.0/8, so that who claims to be can be told.
    with docxy(workers=1, **registry.settings, DOCXY_FIGURES_NETWORKS="10.0.0.0/8") as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def calm(registry: Hub) -> Iterator[None]:
    yield
    registry.reset()


def found(
    address: str, *, ca: Path | None = None, http: str | None = None, image: str = IMAGE
) -> set[str]:
    """Return the names of what the doctor finds from outside."""
    steps = list(
        examine(
            ExaminationOptions(
                endpoint=Endpoint.parse(address),
                plain_http=Endpoint.parse(http) if http else None,
                image=ImageReference.parse(image),
                authorities=[ca] if ca else [],
            )
        )
    )
    sys.stdout.write("\n".join(map(str, steps)))  # shown when the test has failed
    return {step.finding_name for step in steps if step.finding_name}


def found_at(front: Front) -> set[str]:
    """Return what it finds at nginx."""
    return found(front.url, ca=front.ca_path, http=front.http_url)


def test_a_good_set_up(behind: Docxy) -> None:
    """Nothing is found behind the shipped nginx, and nothing before it."""
    with proxies.nginx(behind.host) as front:
        assert found_at(front) == set()
    assert found(behind.url) == set()


def test_behind_caddy(behind: Docxy) -> None:
    """Nor behind the shipped Caddy."""
    with proxies.caddy(behind.host) as front:
        assert found(front.url, ca=front.ca_path) == set()


EVERYWHERE = "        location / {\n            limit_conn clients 500;\n            # No path"
"""Where the location of all paths begins in deploy/nginx.conf."""


MISTAKES = {
    "gzip": {"    gzip off;": "    gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;"},
    "buffering request-buffering": {
        "proxy_request_buffering off;": "proxy_request_buffering on;",
        "proxy_buffering off;": "proxy_buffering on;",
        "proxy_max_temp_file_size 0;": "proxy_max_temp_file_size 1m;",
        "proxy_busy_buffers_size 128k;": "proxy_busy_buffers_size 128k; "
        "proxy_temp_file_write_size 128k;",
    },
    "realm-scheme": {"X-Forwarded-Proto $scheme;": "X-Forwarded-Proto http;"},
    "realm-host http-elsewhere": {
        "$http_host;": "$host;",
        "return 308 https://$host": "return 308 https://www.example.com",
    },
    "spoofing forged-client http-method": {
        "For $remote_addr;": "For $proxy_add_x_forwarded_for;",
        "proxy_set_header X-Forwarded-Host $http_host;": "",
        "return 308": "return 301",
    },
    "length": {"    gzip off;": "    sub_filter_types *; sub_filter 'nowhere' 'there';"},
    "header-size line-size body-size": {
        "large_client_header_buffers 4 64k;": "large_client_header_buffers 4 8k;",
        "client_max_body_size 0;": "client_max_body_size 1m;",
    },
    "error-pages": {
        "proxy_intercept_errors off;": "proxy_intercept_errors on; error_page 404 /404;"
    },
    "authorization": {'proxy_set_header Forwarded "";': 'proxy_set_header Authorization "";'},
    "query": {"proxy_pass http://docxy;": "proxy_pass http://docxy$uri;"},
    "redirect": {
        EVERYWHERE: "        location ~ /blobs/sha256 {\n"
        "            return 307 https://cdn.invalid$uri;\n        }\n" + EVERYWHERE
    },
    "front-login": {
        "proxy_pass http://docxy;": "auth_basic x; auth_basic_user_file /dev/null; "
        "proxy_pass http://docxy;"
    },
    "post": {"proxy_pass http://docxy;": "limit_except GET { deny all; } proxy_pass http://docxy;"},
    "not-docxy": {"proxy_pass http://docxy;": "return 200 'Welcome to nginx!';"},
    "range digest-header address-ways": {
        'proxy_set_header Forwarded "";': 'proxy_set_header Range "";',
        "proxy_intercept_errors off;": "proxy_hide_header Docker-Content-Digest;",
        EVERYWHERE: "        location /v2/docker.io/ {\n"
        f"            return 403;\n        }}\n{EVERYWHERE}",
    },
    "realm-path": {"proxy_intercept_errors off;": "proxy_hide_header WWW-Authenticate;"},
    "token": {
        EVERYWHERE: "        location = /auth/token {\n"
        f"            return 404;\n        }}\n{EVERYWHERE}"
    },
}


CERTIFICATES: dict[str, dict[str, Any]] = {
    "tls-expired": {"until": NOW - timedelta(days=1)},
    "tls-soon": {"until": NOW + timedelta(days=5)},
    "tls-name": {"names": ["other.example"]},
}

AT_ONCE = 4
"""Set-ups that are looked at together: the doctor waits most of the time, for what drips."""


@pytest.fixture(scope="module")
def found_in(behind: Docxy) -> Mapping[str, Future[set[str]]]:
    """Look at every broken nginx, before any other test makes the registry another one."""
    broken = {names: {"mistakes": mistakes} for names, mistakes in MISTAKES.items()}

    def look(how: Mapping[str, Any]) -> set[str]:
        with proxies.nginx(behind.host, **how) as front:
            return found_at(front)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {names: pool.submit(look, how) for names, how in (broken | CERTIFICATES).items()}


@pytest.mark.parametrize("names", MISTAKES)
def test_a_mistake_in_nginx(found_in: Mapping[str, Future[set[str]]], names: str) -> None:
    """It is named, and nothing else is."""
    assert found_in[names].result() == set(names.split())


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_is_wrong(found_in: Mapping[str, Future[set[str]]], name: str) -> None:
    """It is said how; the rest is looked at all the same, and nothing more is found."""
    assert found_in[name].result() == {name}


def test_below_a_path(behind: Docxy) -> None:
    """Docxy has to be told what it cannot know."""
    moved = {
        EVERYWHERE: "        location /docxy/ {\n"
        "            proxy_pass http://docxy/;\n        }\n" + EVERYWHERE
    }
    with proxies.nginx(behind.host, mistakes=moved) as front:
        there = f"{front.url}/docxy"
        assert found(there, ca=front.ca_path, http=front.http_url) == {"realm-below"}


def test_a_front_that_does_not_say_who_asks(registry: Hub) -> None:
    """What clients write in its place is believed, also where all are let see."""
    silent = {"proxy_set_header X-Forwarded-For $remote_addr;": ""}
    with docxy(workers=1, **registry.settings) as proxy:
        with proxies.nginx(proxy.host, mistakes=silent) as front:
            assert found_at(front) == {"forged-client"}
        with proxies.nginx(proxy.host) as front:
            assert found_at(front) == set()


def test_an_authority_that_nobody_knows(behind: Docxy) -> None:
    """A certificate of an authority that was not given is not trusted."""
    with proxies.nginx(behind.host) as front:
        assert found(front.url, http=front.http_url) == {"tls-chain"}
        # Where plain http is answered as https is, and where https is no TLS.
        assert found(front.url, ca=front.ca_path, http=behind.url) == {"http-open"}
        assert found(front.url.replace(front.host, behind.host)) == {"tls"}


def test_nobody_is_there() -> None:
    """A name that no resolver takes, a port where nobody listens, a front without Docxy."""
    assert found(f"https://{'x' * 64}.example") == {"dns"}
    assert found(f"https://localhost:{free_port()}") == {"tcp"}
    with proxies.nginx(f"127.0.0.1:{free_port()}") as front:
        assert found_at(front) == {"away"}


def test_pulls(behind: Docxy, registry: Hub) -> None:
    """What is left is said; and that an image is not there."""
    registry.remaining = 5
    assert found(behind.url) == {"pulls-low"}
    registry.remaining = 0
    assert found(behind.url) == {"pulls-spent"}
    registry.reset()
    assert found(behind.url, image="nowhere/nothing") == {"image"}
    assert found(behind.url, image="alice/private:1") == {"image"}


def test_a_registry_that_is_away() -> None:
    """The proxy says so."""
    with docxy(
        workers=1,
        DOCXY_REGISTRY_URL=f"http://127.0.0.1:{free_port()}",
        DOCXY_ALLOW_PRIVATE_UPSTREAMS="true",
        DOCXY_RETRY_BUDGET="1",
    ) as proxy:
        assert found(proxy.url) == {"upstream"}


def test_a_layer_that_breaks_off(registry: Hub) -> None:
    """It is told from one that is only slow."""
    with docxy(workers=1, **registry.settings, DOCXY_RESUME_BUDGET="1") as proxy:
        registry.fail(part="cdn", path="", cut_after=1000, times=None)
        assert found(proxy.url) == {"cut", "range"}


def test_a_front_that_sends_files(registry: Hub) -> None:
    """What is handed over to nginx is seen, and arrives empty by one that does not take it."""
    with tempfile.TemporaryDirectory(prefix="docxy-cache-") as name:  # not closed to nginx's user
        folder = Path(name)
        folder.chmod(0o755)
        cache = folder / "cache"
        settings = {"DOCXY_CACHE_DIR": str(cache), "DOCXY_ACCEL_LOCATION": "/docxy-cache/"}
        with docxy(workers=1, **registry.settings, **settings, DOCXY_CACHE_MIN_FREE="0") as proxy:
            with proxies.nginx(proxy.host) as front:
                assert found_at(front) == {"empty"}
            with proxies.nginx(proxy.host, cache) as front:
                assert found_at(front) == set()


def test_a_host_of_one_registry(
    behind: Docxy, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It needs a name in the DNS, too."""
    path = tmp_path / "registries.toml"
    path.write_text(f'[[registries]]\nname = "docker.io"\nhosts = ["{"x" * 64}.example"]\n')
    environment.setenv("DOCXY_CONFIG", str(path))
    place, image = Endpoint.parse(behind.url), ImageReference.parse(IMAGE)
    steps = examine(
        ExaminationOptions(endpoint=place, image=image, local_machine=machine.inspect_machine())
    )
    assert [step.finding_name for step in steps if step.finding_name] == ["dns"]


# As a program


def doctor(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run it as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "app.doctor", "--image", IMAGE, *arguments],
        cwd=ROOT,
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_a_program(behind: Docxy, registry: Hub) -> None:
    """Lines without colours where there is no terminal, and the status 0 where nothing is wrong."""
    done = doctor(DOCXY_PUBLIC_URL=behind.url, **registry.settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nNo problems found.\n")
    assert "\x1b" not in done.stdout


def test_it_runs_with_faulty_settings(behind: Docxy) -> None:
    """Each fault is said, the rest is looked at, and the status is 1."""
    done = doctor(behind.url, "--json", DOCXY_NOTHING="1", DOCXY_READ_TIMEOUT="never")
    read = json.loads(done.stdout)
    wrong = [step for step in read["checks"] if "finding" in step]
    assert [step["finding"] for step in wrong] == ["settings", "settings"]
    assert "DOCXY_NOTHING" in wrong[0]["result"]
    assert "DOCXY_READ_TIMEOUT" in wrong[1]["result"]
    assert wrong[0]["documentation"] == "docs/troubleshooting.md#a-setting-is-wrong"
    assert any(step["check"].startswith("Range") for step in read["checks"])
    assert (done.returncode, read["errors"], read["warnings"]) == (1, 2, 0)


def test_warnings_end_with_status_0_unless_they_count(behind: Docxy, registry: Hub) -> None:
    """`--strict` is for those who want a set-up without any."""
    settings = {**registry.settings, "DOCXY_PUBLIC_URL": "http://127.0.0.2:1"}
    assert doctor(behind.url, **settings).returncode == 0
    strict = doctor(behind.url, "--strict", **settings)
    assert strict.returncode == 1
    assert "WARN  DOCXY_PUBLIC_URL: http://127.0.0.2:1" in strict.stdout
    assert strict.stdout.endswith("\nErrors: 0. Warnings: 1.\n")


def test_a_wrong_argument() -> None:
    """It ends with status 2 and says what to write."""
    done = doctor("https://proxy.example/v2/")
    assert done.returncode == 2
    assert "remove /v2" in done.stderr


def test_no_address() -> None:
    """It says which one is missing."""
    done = doctor("--json")
    assert done.returncode == 1
    assert [step.get("finding") for step in json.loads(done.stdout)["checks"]] == [
        None,
        "no-address",
    ]

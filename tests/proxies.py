"""The shipped fronts, nginx and Caddy, on free loopback ports before a server of the test."""

import contextlib
import grp
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme

from tests import programs
from tests.servers import ROOT, Process, clean_environment, free_port, running, wait_until

NGINX_CONF = ROOT / "deploy" / "nginx.conf"
CADDYFILE = ROOT / "deploy" / "Caddyfile"
NAMES = ("localhost", "127.0.0.1", "::1")
_TEMPORARY_FILES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True)
class Front:
    """A running front that ends TLS."""

    name: str
    """Which program it is: nginx or caddy."""

    server: Process
    host: str
    """host:port of https, as a container client writes it."""

    http_host: str
    """host:port of plain http, which only redirects."""

    ca_path: Path
    """The certificate authority that a client must trust."""

    challenges: Path | None
    """The folder that ACME challenges are served from; Caddy answers them by itself."""

    log_paths: Sequence[Path] = ()

    @property
    def url(self) -> str:
        """The base URL that clients use."""
        return f"https://{self.host}"

    @property
    def http_url(self) -> str:
        """The base URL that redirects."""
        return f"http://{self.http_host}"

    @property
    def log(self) -> str:
        """All that it has logged so far."""
        files = [path.read_text(errors="replace") for path in self.log_paths if path.exists()]
        return self.server.log + "".join(files)


def replaced(text: str, replacements: Mapping[str, tuple[str, int]]) -> str:
    """Return the text with its keys replaced; a value says by what, and how often it stands there.

    So a test notices when what a user edits by hand is no longer where the documents say.
    """
    for old, (new, times) in replacements.items():
        found = text.count(old)
        if found != times:
            message = f"{old!r} stands {found} times in the file, and not {times}"
            raise ValueError(message)
        text = text.replace(old, new)
    return text


def nginx_conf(
    backend: str, folder: Path, *, http: int, https: int, cache: Path | None = None
) -> str:
    """Return deploy/nginx.conf as an operator would edit it, for loopback ports and a folder.

    With a folder of Docxy's cache it sends what lies there.
    """
    ipv6 = _has_ipv6()
    temporary = "".join(
        f"{name}_temp_path {folder}/temporary/{name};\n" for name in _TEMPORARY_FILES
    )
    certificates = "/etc/letsencrypt/live/proxy.example.com"
    return replaced(
        NGINX_CONF.read_text(),
        {
            # The order matters: the longer of two names that overlap goes first.
            f"{certificates}/fullchain.pem": (f"{folder}/fullchain.pem", 1),
            f"{certificates}/privkey.pem": (f"{folder}/privkey.pem", 1),
            "    server_name proxy.example.com;": ("    server_name localhost;", 2),
            "/var/www/html;": (f"{folder}/challenges;", 1),
            "listen 80;": (f"listen 127.0.0.1:{http};", 1),
            "listen [::]:80;": (f"listen [::1]:{http};" if ipv6 else "", 1),
            "listen 443 ssl http2;": (f"listen 127.0.0.1:{https} ssl http2;", 1),
            "listen [::]:443 ssl http2;": (f"listen [::1]:{https} ssl http2;" if ipv6 else "", 1),
            "https://$host$request_uri": (f"https://$host:{https}$request_uri", 1),
            "server 127.0.0.1:8000;": (f"server {backend};", 1),
            "pid /run/nginx.pid;": (f"pid {folder}/nginx.pid;", 1),
            "error_log /var/log/nginx/error.log warn;": (f"error_log {folder}/error.log warn;", 1),
            "access_log /var/log/nginx/access.log": (f"access_log {folder}/access.log", 1),
            "\nhttp {\n": (f"\nhttp {{\n{temporary}", 1),
            **(_accelerated(cache) if cache else {}),
        },
    )


def _accelerated(cache: Path) -> dict[str, tuple[str, int]]:
    # Only the master of an nginx that root started may choose who its workers are.
    user = f"user nobody {grp.getgrgid(os.getgid()).gr_name};" if os.getuid() == 0 else ""
    return {
        "#user www-data docxy;": (user, 1),
        "        proxy_ignore_headers X-Accel-Redirect;\n": ("", 1),
        "alias /var/cache/docxy/content/;": (f"alias {cache}/content/;", 1),
    }


@contextlib.contextmanager
def nginx(
    backend: str,
    cache: Path | None = None,
    *,
    mistakes: Mapping[str, str] | None = None,
    names: Sequence[str] = NAMES,
    until: datetime | None = None,
) -> Iterator[Front]:
    """Run nginx with the shipped file before `backend` (host:port), sending files of its cache.

    The folders of temporary files are taken away once it runs, so that it has none to write to.
    `mistakes` are pieces of the file, and what an operator who does not know better writes there;
    `names` and `until` are those of its certificate.
    """
    programs.require("nginx")
    with tempfile.TemporaryDirectory(prefix="docxy-nginx-") as name:
        folder = Path(name)
        # The workers of an nginx that root started are another user's.
        folder.chmod(0o755)
        (folder / "challenges").mkdir()
        (folder / "temporary").mkdir()
        ca_path = write_certificate(folder, names, until)
        http, https = _two_ports()
        configuration = folder / "nginx.conf"
        text = nginx_conf(backend, folder, http=http, https=https, cache=cache)
        written = {old: (new, text.count(old) or 1) for old, new in (mistakes or {}).items()}
        configuration.write_text(replaced(text, written))
        logs = [folder / "access.log", folder / "error.log"]
        with running(nginx_command(configuration, "-g", "daemon off;")) as server:
            front = Front(
                "nginx",
                server,
                f"localhost:{https}",
                f"localhost:{http}",
                ca_path,
                folder / "challenges",
                logs,
            )
            _await_tls(front, https, _whatever_it_shows())
            for temporary in () if mistakes else _TEMPORARY_FILES:
                (folder / "temporary" / temporary).rmdir()
            with _log_on_failure(front):
                yield front


def nginx_command(configuration: Path, *arguments: str) -> list[str]:
    """Return the command that runs nginx with this file and nothing of the machine's own."""
    program = programs.path("nginx") or "nginx"
    log = str(configuration.parent / "error.log")
    return [
        program,
        "-e",
        log,
        "-p",
        str(configuration.parent),
        "-c",
        str(configuration),
        *arguments,
    ]


@contextlib.contextmanager
def caddy(backend: str) -> Iterator[Front]:
    """Run Caddy with the shipped file before `backend` (host:port), with its internal CA."""
    programs.require("caddy")
    with tempfile.TemporaryDirectory(prefix="docxy-caddy-") as name:
        http, https = _two_ports()
        env = caddy_environment(backend, Path(name), http=http, https=https)
        command = [programs.path("caddy") or "caddy", "run", "--config", str(CADDYFILE)]
        with running(command, env=env) as server:
            ca_path = Path(name) / "storage" / "pki" / "authorities" / "local" / "root.crt"
            front = Front("caddy", server, f"localhost:{https}", f"localhost:{http}", ca_path, None)
            _await_tls(front, https)
            yield front


def caddy_environment(backend: str, folder: Path, *, http: int, https: int) -> dict[str, str]:
    """Return the environment that the shipped Caddyfile reads, for loopback ports and a folder."""
    options = [
        "local_certs",
        "skip_install_trust",
        "admin off",
        f"http_port {http}",
        f"https_port {https}",
        "default_bind 127.0.0.1 ::1" if _has_ipv6() else "default_bind 127.0.0.1",
        f"storage file_system {folder}/storage",
    ]
    return clean_environment(
        CADDY_DOMAIN="localhost, 127.0.0.1",
        CADDY_UPSTREAM=backend,
        CADDY_OPTIONS="\n".join(options),
        HOME=str(folder),
        XDG_CONFIG_HOME=str(folder),
        XDG_DATA_HOME=str(folder),
    )


def _await_tls(front: Front, port: int, context: ssl.SSLContext | None = None) -> None:
    def answers() -> bool:
        status = front.server.process.poll()
        if status is not None:
            message = f"{front.name} ended with status {status}: {front.log}"
            raise RuntimeError(message)
        with contextlib.suppress(OSError):
            trusting = context or ssl.create_default_context(cafile=str(front.ca_path))
            with (
                socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
                trusting.wrap_socket(plain, server_hostname="localhost"),
            ):
                return True
        return False

    wait_until(answers, what=f"TLS of {front.name}")


def _whatever_it_shows() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def _log_on_failure(front: Front) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"--- log of {front.name}\n{front.log}")
        raise


def write_certificate(
    folder: Path, names: Sequence[str] = NAMES, until: datetime | None = None
) -> Path:
    """Write a certificate, its key and its authority; return the path of the last."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*names, not_after=until)
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (folder / "fullchain.pem").write_bytes(chain)
    certificate.private_key_pem.write_to_path(str(folder / "privkey.pem"))
    ca_path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_path))
    return ca_path


def _two_ports() -> tuple[int, int]:
    while True:
        ports = free_port(), free_port()
        if ports[0] != ports[1]:
            return ports


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False

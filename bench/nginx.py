"""Two nginx servers: the upstream with TLS, and the peer, which proxies as Docxy does."""

import contextlib
import grp
import os
import pwd
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from bench.content import MEDIA_TYPE, Content
from tests.servers import free_port, running, wait_until

UPSTREAM_WORKERS: Final = 2
PEER_BUFFER: Final = "64k"

_COMMON: Final = """
daemon off;
pid {folder}/{name}.pid;
error_log stderr warn;
worker_rlimit_nofile 16384;
worker_processes {workers};
events {{ worker_connections 8192; }}
http {{
    access_log off;
    log_not_found off;
    sendfile on;
    tcp_nopush on;
    gzip off;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/{name}-client;
    proxy_temp_path {folder}/{name}-proxy;
    fastcgi_temp_path {folder}/{name}-fastcgi;
    uwsgi_temp_path {folder}/{name}-uwsgi;
    scgi_temp_path {folder}/{name}-scgi;
    {body}
}}
"""

_UPSTREAM: Final = """
    open_file_cache max=16 inactive=1h;
    open_file_cache_valid 1h;
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {folder}/server.pem;
        ssl_certificate_key {folder}/server.key;
        ssl_protocols TLSv1.3;
        ssl_conf_command Options -KTLS;
        output_buffers 2 256k;
        add_header Docker-Distribution-Api-Version registry/2.0;
        location = /v2/ {{
            default_type application/json;
            return 200 "{{}}";
        }}
        location = {content.blob_path} {{
            default_type application/octet-stream;
            add_header Docker-Content-Digest {content.blob_digest};
            alias {content.blob};
        }}
        location = {content.config_path} {{
            default_type application/octet-stream;
            add_header Docker-Content-Digest {content.config_digest};
            alias {content.config};
        }}
        location ~ ^(?:{content.manifest_path}|{content.manifest_path_by_digest})$ {{
            default_type {media_type};
            add_header Docker-Distribution-Api-Version registry/2.0;
            add_header Docker-Content-Digest {content.manifest_digest};
            alias {content.manifest};
        }}
    }}
"""

_PEER: Final = """
    upstream registry {{
        server 127.0.0.1:{upstream_port};
        keepalive 512;
        keepalive_requests 100000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass https://registry;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Accept-Encoding identity;
            proxy_buffering off;
            proxy_buffer_size {buffer};
            proxy_buffers 4 {buffer};
            proxy_max_temp_file_size 0;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_server_name on;
            proxy_ssl_name localhost;
            proxy_ssl_verify on;
            proxy_ssl_session_reuse on;
            proxy_ssl_trusted_certificate {folder}/ca.pem;
        }}
    }}
"""


_FILE_SERVER: Final = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = {content.blob_path} {{
            default_type application/octet-stream;
            alias {file};
        }}
    }}
"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The running upstream."""

    port: int
    pid: int
    ca: Path

    @property
    def url(self) -> str:
        """The base URL, for Docxy."""
        return f"https://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """The running peer."""

    port: int
    pid: int


@contextlib.contextmanager
def upstream(folder: Path, content: Content) -> Iterator[Upstream]:
    """Run the upstream, with a certificate of a private authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    for part in certificate.cert_chain_pems:
        part.write_to_path(folder / "server.pem", append=True)
    port = free_port()
    body = _UPSTREAM.format(folder=folder, port=port, content=content, media_type=MEDIA_TYPE)
    with _run_nginx(folder, "upstream", UPSTREAM_WORKERS, body, port) as pid:
        yield Upstream(port, pid, folder / "ca.pem")


@contextlib.contextmanager
def peer(folder: Path, registry: Upstream) -> Iterator[Peer]:
    """Run the peer on one worker, tuned for large bodies."""
    port = free_port()
    body = _PEER.format(folder=folder, port=port, upstream_port=registry.port, buffer=PEER_BUFFER)
    with _run_nginx(folder, "peer", 1, body, port) as pid:
        yield Peer(port, pid)


@contextlib.contextmanager
def file_server(folder: Path, content: Content, file: Path) -> Iterator[Peer]:
    """Serve a file as the blob, without TLS, on one worker.

    It uses sendfile as the others do, and serves the very file that Docxy keeps.
    """
    port = free_port()
    body = _FILE_SERVER.format(port=port, content=content, file=file)
    with _run_nginx(folder, "files", 1, body, port) as pid:
        yield Peer(port, pid)


@contextlib.contextmanager
def _run_nginx(folder: Path, name: str, workers: int, body: str, port: int) -> Iterator[int]:
    configuration = folder / f"{name}.conf"
    text = _COMMON.format(folder=folder, name=name, workers=workers, body=body)
    configuration.write_text(_format_user() + text)
    with running(["nginx", "-e", "stderr", "-p", str(folder), "-c", str(configuration)]) as server:
        wait_until(lambda: _is_up(port), what=f"nginx ({name})")
        yield server.process.pid


def _format_user() -> str:
    """Return the directive that runs workers as this user, since only it may read the cache."""
    if os.getuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getgid()).gr_name};\n"


def _is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True

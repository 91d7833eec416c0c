"""gunicorn's configuration for Docxy, which GUNICORN_CMD_ARGS and command-line arguments override.

gunicorn loads this file in its master, before gevent patches the workers. So it imports only two
modules of `app`, which in turn import the standard library alone.
"""

import contextlib
import fcntl
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gunicorn import glogging

from app import log_lines, shared_memory
from server import arbiter

wsgi_app = "wsgi:app"
# gevent carries thousands of slow downloads in one process; server/worker.py extends its worker.
# gunicorn itself reads PORT and WEB_CONCURRENCY, and a `bind` here would override PORT.
worker_class = "server.worker.Worker"
# One worker can use one core; the second still answers while the first is busy.
if "WEB_CONCURRENCY" not in os.environ:
    workers = 2
# gunicorn would exit with a message of its own, or a traceback, if PORT is not a port number. The
# check at the start reports it together with all other faults. An empty PORT counts as unset.
if not arbiter.is_port(_port := os.environ.get("PORT", "0")):
    bind = "127.0.0.1:0" if _port else "127.0.0.1:8000"
# The places of one worker (server/connections.py); a slow download takes some 200 KiB of memory.
worker_connections = 2000
# Each place takes up to three descriptors, and many shells allow 1,024.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
# The limit for the heartbeat, not for requests: gevent's workers send it while they stream.
timeout = 60
# After SIGTERM running downloads may finish: a large layer on a slow line takes hours.
graceful_timeout = 4 * 60 * 60
# Longer than the idle timeout of common load balancers (60 s), so that they close first.
keepalive = 75
# Tokens of 16 KB and more travel in the Authorization header and in the queries of token requests.
# limit_request_line cannot exceed 8,190 bytes, so it is off (0), and server/request.py bounds the
# request line and the whole head.
limit_request_line = 0
limit_request_field_size = 64 * 1024
# The bounds in server/request.py and the tests of hostile requests are for HTTP/1 and the parser in
# Python. "auto" would use a parser in C if one happens to be installed (gunicorn_h1c), and HTTP/2
# and the uWSGI protocol have their own request classes. `on_starting` refuses other values.
http_parser = "python"
protocol = "http"
http_protocols = "h1"
http2_cleartext = "off"
# This is the only header that gunicorn trusts from the servers in front (FORWARDED_ALLOW_IPS). The
# others that it knows could change the path.
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
forwarder_headers = ""
# gunicorn would create its control socket in the home directory, but images are read-only and
# several instances may share a home.
control_socket_disable = True
# Heartbeat files are in memory, since a slow disk must not make a worker look dead.
if Path("/dev/shm").is_dir():  # noqa: S108 - the files are unlinked as soon as they are made
    worker_tmp_dir = "/dev/shm"  # noqa: S108


class Logger(glogging.Logger):
    """gunicorn's log in Docxy's format, until app/logs.py takes it over in a worker."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 - gunicorn's Config
        """Set the log up as gunicorn does, at a start or reload, and format its stream handlers."""
        super().setup(cfg)
        # Read the format again: a reload keeps the class that the start defined.
        formatter = log_lines.build_formatter(arbiter.read_log_format())
        for handler in self.error_log.handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setFormatter(formatter)
                handler.setStream(log_lines.unwrap_stream(handler.stream))


logger_class = Logger
log_lines.wrap_stderr(arbiter.read_log_format())
log_lines.install_failure_hooks()


_PINNED = {
    "http_parser": "python",
    "protocol": "http",
    "http_protocols": ["h1"],
    "http2_cleartext": "off",
}
"""The values above that no argument may change, in the form of gunicorn's configuration."""

_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_METRICS_PREFIX = "docxy-metrics-"
_LOCK_GRACE = 60
"""Seconds within which the maker of a directory locks it; `_tidy` spares younger directories."""


def on_starting(server: Any) -> None:  # noqa: ANN401 - gunicorn's Arbiter, not to be imported here
    """Check the settings, and raise SystemExit with one message that lists every fault.

    Then hand the accepted settings to the workers and prepare the directory of their counts.
    """
    cfg = server.cfg
    if cfg.preload_app:
        sys.exit(
            "Docxy cannot start: --preload builds the application before gevent has patched what "
            "it uses, and a reload would read no new settings; remove it"
        )
    if cfg.is_ssl:
        sys.exit(
            "Docxy cannot start: --certfile and --keyfile: gunicorn's own TLS sets no time limit "
            "for a handshake, so clients could hold all connections; let nginx or Caddy in front "
            "of Docxy speak TLS"
        )
    for name, value in _PINNED.items():
        if getattr(cfg, name) != value:
            sys.exit(
                f"Docxy cannot start: --{name.replace('_', '-')}: Docxy's limits for requests are "
                "for HTTP/1 and gunicorn's parser in Python only; leave it out, and let nginx or "
                "Caddy in front of Docxy speak other protocols"
            )
    # gunicorn's own worker classes use its requests unchanged, and have no such method.
    if hasattr(server.worker_class, "check_parser"):
        server.worker_class.check_parser(cfg)
    # The sockets are already open if systemd passes them, or if another gunicorn does, which this
    # one replaces (SIGUSR2).
    is_open = os.environ.get("LISTEN_PID") == str(os.getpid()) or "GUNICORN_FD" in os.environ
    addresses = [] if is_open else cfg.address
    result = arbiter.check(cfg.workers, addresses, reuse_port=cfg.reuse_port)
    if result.status:
        arbiter.refuse(result)
    if not cfg.reload:  # with --reload, workers restart when a file changes, and must read it again
        arbiter.accept(result.settings)
    _prepare_counts(cfg.worker_tmp_dir)


def on_exit(server: object) -> None:
    """Remove the directory of the workers' counts, if this process made it."""
    del server
    directory = Path(os.environ.get(_METRICS_VARIABLE, os.devnull))
    if directory.name.startswith(_METRICS_PREFIX):
        shutil.rmtree(directory, ignore_errors=True)


def when_ready(server: Any) -> None:  # noqa: ANN401 - as above
    """Make SIGHUP wait for no download, and ignore it if the new settings are wrong.

    gunicorn would end the running workers, and start new ones over and over.
    """
    server.generations = arbiter.Generations(server)
    reload = server.reload

    def reload_if_valid() -> None:
        result = arbiter.check(server.cfg.workers)
        if result.status:
            fields = {"details": result.faults}
            server.log.error(
                "Reload refused; workers keep the previous settings.", extra={"fields": fields}
            )
            return
        if not server.cfg.reload:
            arbiter.accept(result.settings)
        reload()

    server.reload = reload_if_valid


def pre_fork(server: object, worker: Any) -> None:  # noqa: ANN401 - gunicorn's Worker
    """Record that a worker that is about to start does not serve yet."""
    del server
    shared_memory.clear_booted(worker.age)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 - as above
    """Detach a new worker from the master's state, and give it its slot on the board.

    Also set WEB_CONCURRENCY in its environment to the number of workers.
    """
    os.environ[arbiter.WORKERS] = str(server.cfg.workers)
    server.generations.prepare_new_worker(worker)
    shared_memory.assign_worker_slot(worker.age)


def post_worker_init(worker: Any) -> None:  # noqa: ANN401 - gunicorn's Worker
    """Record that a worker has built the application and serves."""
    shared_memory.mark_booted(worker.age)


def _prepare_counts(parent: str | None) -> None:
    """Make a directory for the workers' counts, or empty the one that the operator named.

    PROMETHEUS_MULTIPROC_DIR names it; prometheus_client reads that variable when it is imported.
    Workers that start later add to the directory. Raise SystemExit if the operator's directory is
    missing or not writable.
    """
    if directory := os.environ.get(_METRICS_VARIABLE):
        if not (Path(directory).is_dir() and os.access(directory, os.W_OK | os.X_OK)):
            sys.exit(
                f"Docxy cannot start: {_METRICS_VARIABLE}={directory} is not a writable directory."
            )
        for file in Path(directory).glob("*.db"):
            file.unlink()
        return
    with contextlib.suppress(OSError):  # without a directory each worker reports its own counts
        _tidy(Path(parent or tempfile.gettempdir()))
        own_directory = tempfile.mkdtemp(prefix=_METRICS_PREFIX, dir=parent)
        os.environ[_METRICS_VARIABLE] = own_directory
        # The workers inherit the lock, so it is held until the last of them has ended.
        fcntl.flock(os.open(own_directory, os.O_RDONLY), fcntl.LOCK_SH)


def _tidy(parent: Path) -> None:
    """Remove the directories that killed processes left in `parent`.

    `parent` is usually in memory, where nothing else would remove them.
    """
    for directory in parent.glob(f"{_METRICS_PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                if time.time() - directory.stat().st_mtime > _LOCK_GRACE:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(descriptor)

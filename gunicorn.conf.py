"""How gunicorn runs Docxy; GUNICORN_CMD_ARGS and arguments override it. Imports nothing of app."""

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
# gevent carries thousands of slow downloads in one process; server/worker.py says what is added.
# PORT and WEB_CONCURRENCY are read by gunicorn itself, and a `bind` here would override PORT.
worker_class = "server.worker.Worker"
# One worker keeps one core busy; the second keeps answering while the first is.
if "WEB_CONCURRENCY" not in os.environ:
    workers = 2
# gunicorn would end with words of its own, or a traceback, for a PORT that is none. The check at
# the start refuses it with all else that is wrong, except an empty one, which counts as unset.
if not arbiter.is_port(_port := os.environ.get("PORT", "0")):
    bind = "127.0.0.1:0" if _port else "127.0.0.1:8000"
# Places of one worker (server/connections.py); a slow download costs some 200 KiB while it runs.
worker_connections = 2000
# Each takes up to three descriptors, and many shells allow 1,024.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
# A heartbeat, not a limit on requests: gevent's workers beat while they stream.
timeout = 60
# After SIGTERM a running download may take as long as an hours-long layer takes.
graceful_timeout = 4 * 60 * 60
# Longer than the idle time of common load balancers (60 s), so that it is they who hang up.
keepalive = 75
# Tokens of 16 KB and more travel in the Authorization header and in token queries. This setting
# takes no limit beyond 8,190 bytes, so server/request.py bounds the line and the whole head.
limit_request_line = 0
limit_request_field_size = 64 * 1024
# "auto" would take a parser in C where one happens to be installed (gunicorn_h1c). The bounds of
# server/request.py and the tests of hostile requests are for this one.
http_parser = "python"
# From the servers in front only this header is believed (FORWARDED_ALLOW_IPS); the others that
# gunicorn knows could move the path.
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
forwarder_headers = ""
# The control socket would be written into the home directory: images are read-only, and several
# instances may share a home.
control_socket_disable = True
# Heartbeat files in memory: a slow disk must not stop a worker.
if Path("/dev/shm").is_dir():  # noqa: S108 - the files are unlinked as soon as they are made
    worker_tmp_dir = "/dev/shm"  # noqa: S108


class Logger(glogging.Logger):
    """gunicorn's own log in the form of all other lines, up to where app/logs.py sets it up."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 - gunicorn's Config
        """Set it up as gunicorn does, also at a reload, and format what goes to a stream."""
        super().setup(cfg)
        # Asked for anew: at a reload, this is still the class that the start has made.
        formatter = log_lines.formatter_of(arbiter.log_form())
        for handler in self.error_log.handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setFormatter(formatter)
                handler.setStream(log_lines.raw(handler.stream))


logger_class = Logger
log_lines.take_stderr(arbiter.log_form())
log_lines.take_failures()


_COUNTS = "PROMETHEUS_MULTIPROC_DIR"
_OWN_COUNTS = "docxy-metrics-"
_JUST_MADE = 60
"""Seconds in which whoever has made a directory will hold it."""


def on_starting(server: Any) -> None:  # noqa: ANN401 - gunicorn's Arbiter, not to be imported here
    """Stop a start with wrong settings, once and with one message."""
    cfg = server.cfg
    if cfg.preload_app:
        sys.exit(
            "Docxy cannot start: --preload builds the application before gevent has patched what "
            "it uses, and a reload would take in no settings; leave it out"
        )
    if cfg.is_ssl:
        sys.exit(
            "Docxy cannot start: --certfile and --keyfile: gunicorn's own TLS sets no time limit "
            "for a handshake, so clients could fill all places; let nginx or Caddy in front of "
            "Docxy speak TLS"
        )
    # Sockets of systemd, or of the gunicorn that this one replaces (SIGUSR2), are open already.
    is_open = os.environ.get("LISTEN_PID") == str(os.getpid()) or "GUNICORN_FD" in os.environ
    addresses = [] if is_open else cfg.address
    checked = arbiter.check(cfg.workers, addresses, reuse_port=cfg.reuse_port)
    if checked.status:
        arbiter.refuse(checked)
    if not cfg.reload:  # which starts workers when a file has changed, to take it in
        arbiter.accept(checked.settings)
    _prepare_counts(cfg.worker_tmp_dir)


def on_exit(server: object) -> None:
    """Leave nothing behind."""
    del server
    directory = Path(os.environ.get(_COUNTS, os.devnull))
    if directory.name.startswith(_OWN_COUNTS):
        shutil.rmtree(directory, ignore_errors=True)


def when_ready(server: Any) -> None:  # noqa: ANN401 - as above
    """Let SIGHUP wait for no download, and keep the running workers where new settings are wrong.

    gunicorn would end them, and start new ones for ever.
    """
    server.generations = arbiter.Generations(server)
    reload = server.reload

    def reload_what_is_right() -> None:
        checked = arbiter.check(server.cfg.workers)
        if checked.status:
            fields = {"details": checked.faults}
            server.log.error("Nothing was reloaded.", extra={"fields": fields})
            return
        if not server.cfg.reload:
            arbiter.accept(checked.settings)
        reload()

    server.reload = reload_what_is_right


def pre_fork(server: object, worker: Any) -> None:  # noqa: ANN401 - gunicorn's Worker
    """Know of a worker that is about to be started that it does not serve yet."""
    del server
    shared_memory.forget_booted(worker.age)


def post_fork(server: Any, worker: Any) -> None:  # noqa: ANN401 - as above
    """Leave what a new worker has of the master's, and tell it how many there are."""
    os.environ[arbiter.WORKERS] = str(server.cfg.workers)
    server.generations.in_new_worker(worker)
    shared_memory.take_seat(worker.age)


def post_worker_init(worker: Any) -> None:  # noqa: ANN401 - gunicorn's Worker
    """Say that a worker has built the application, and serves."""
    shared_memory.tell_booted(worker.age)


def _prepare_counts(where: str | None) -> None:
    """Make a directory for what the workers count, or empty the one that the operator has named.

    prometheus_client looks for it when it is imported. Workers that come later add to it.
    """
    if named := os.environ.get(_COUNTS):
        if not (Path(named).is_dir() and os.access(named, os.W_OK | os.X_OK)):
            sys.exit(f"Docxy cannot start: {_COUNTS}={named} is no directory that can be written.")
        for left in Path(named).glob("*.db"):
            left.unlink()
        return
    with contextlib.suppress(OSError):  # nothing can be written: then each worker tells its own
        _tidy(Path(where or tempfile.gettempdir()))
        made = tempfile.mkdtemp(prefix=_OWN_COUNTS, dir=where)
        os.environ[_COUNTS] = made
        # Held, by the workers too, until the last of them has ended.
        fcntl.flock(os.open(made, os.O_RDONLY), fcntl.LOCK_SH)


def _tidy(where: Path) -> None:
    """Remove what others have left here that were killed: in memory, nothing else would."""
    for left in where.glob(f"{_OWN_COUNTS}*"):
        with contextlib.suppress(OSError):
            held = os.open(left, os.O_RDONLY)
            try:
                if time.time() - left.stat().st_mtime > _JUST_MADE:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)

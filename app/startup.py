"""Build the application, or check in a separate process that it can be built.

The check also tries to listen on gunicorn's addresses, and reads /proc to name the program that
uses a port.
"""

import contextlib
import errno
import json
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app import logs
from app.config.load import SettingsError, load
from app.config.types import SettingFiles
from app.log_lines import install_failure_hooks
from app.store.errors import StoreError

if TYPE_CHECKING:
    from flask import Flask

_MAX_PORT: Final = 65535
_LISTEN_STATE: Final = "0A"
"""The state of a listening socket in /proc/net/tcp (the kernel's proc_net_tcp document)."""
_SOCKET_LINK: Final = re.compile(r"socket:\[([0-9]+)\]")

IPAddress = IPv4Address | IPv6Address

Address = list[str | int] | str | int
"""gunicorn's form of a `bind`: host and port, the path of a Unix socket, or a file descriptor."""


_SETTINGS_STATUS: Final = 1
_MACHINE_STATUS: Final = 3
"""Exit statuses of a failed start: 1 if somebody has to correct the settings, 3 if the fault is the
machine's and may pass."""


class CannotStart(SystemExit):
    """Ends the process with one message; `status` 3 says that another attempt may succeed.

    If it is not caught, the interpreter writes the message and exits with status 1.
    """

    def __init__(self, message: str, status: int = _SETTINGS_STATUS) -> None:
        super().__init__(message)
        self.status = status


def build_app(files: SettingFiles, faults: Sequence[str] = ()) -> "Flask":
    """Return the application, or raise CannotStart with one message that lists every fault.

    `faults` are lines about faults found elsewhere, which belong in the same message. Logging of
    this process is configured before the application is created.
    """
    try:
        settings = load(files)
    except SettingsError as error:
        if faults:
            raise CannotStart(str(SettingsError([*error.faults, *faults]))) from None
        raise CannotStart(
            str(error), _MACHINE_STATUS if error.is_machine_fault else _SETTINGS_STATUS
        ) from None
    if faults:
        message = "\n  ".join(["Docxy cannot start:", *faults])
        raise CannotStart(message if faults[1:] else _format_fault(faults[0]))
    # Its imports take half of the startup time, and a start that is refused does not need them.
    from app.factory import create_app  # noqa: PLC0415

    install_failure_hooks()
    logs.configure(settings.log_format, settings.log_level)
    try:
        return create_app(settings)
    except StoreError as error:
        message = f"Docxy cannot start: the cache cannot be used.\n  {error.strerror}"
        raise CannotStart(message, _MACHINE_STATUS) from None


def _format_fault(fault: str) -> str:
    return f"Docxy cannot start: {fault}"


def check(descriptor: int) -> None:
    """Build the application and exit; server/arbiter.py runs this in a process of its own.

    The first command-line argument is JSON with the addresses to listen on. On success, write the
    contents of the settings files to `descriptor`, for the master to keep in memory, and exit with
    status 0. On a fault, write it to standard error and exit with the status of CannotStart.
    """
    listen_options = json.loads(sys.argv[1])
    files = SettingFiles()
    try:
        build_app(
            files,
            find_listen_faults(
                listen_options["addresses"], reuse_port=listen_options["reuse_port"]
            ),
        )
    except CannotStart as end:
        sys.stderr.write(f"{end}\n")
        sys.exit(end.status)
    with open(descriptor, "wb") as settings:
        settings.write(files.dump())
    # Skip the interpreter's cleanup, which takes 0.15 of the 0.7 s of a check.
    os._exit(0)


def find_listen_faults(addresses: Sequence[Address], *, reuse_port: bool = False) -> list[str]:
    """Return why gunicorn could not listen on `addresses`: a line for each faulty one.

    gunicorn would try each five times, a second apart, and exit with a traceback for some.
    """
    descriptors = [address for address in addresses if isinstance(address, int)]
    # If one of the addresses is a descriptor, gunicorn ignores those that are not.
    with _PortProbes(reuse_port=reuse_port) as probes:
        faults = [_check_descriptor(descriptor) for descriptor in descriptors] or [
            _check_socket_path(address) if isinstance(address, str) else probes.try_listen(address)
            for address in addresses
            if not isinstance(address, int)
        ]
    return [fault for fault in faults if fault]


def _check_descriptor(descriptor: int) -> str:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        is_socket = False
    return "" if is_socket else f"fd://{descriptor}: not an open socket"


class _PortProbes(contextlib.ExitStack):
    """Listens on ports as gunicorn will: on all of them at once, since two addresses may collide.

    Leaving the context closes the sockets.
    """

    def __init__(self, *, reuse_port: bool) -> None:
        super().__init__()
        self._reuse_port = reuse_port
        self._taken: list[tuple[IPAddress, int]] = []

    def try_listen(self, address: list[str | int]) -> str:
        """Return why gunicorn cannot listen on an address, or listen there and return ""."""
        host, port = str(address[0]), int(address[1])
        address_text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not 0 <= port <= _MAX_PORT:
            return f"{address_text}: there is no port {port}; the highest is {_MAX_PORT}"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            # Resolve a name to its first address, since gunicorn lets bind() resolve it.
            host = str(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4][0])
            probe = self.enter_context(socket.socket(family, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._reuse_port:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind((host, port))
            # With SO_REUSEPORT a listening probe would receive clients of a running Docxy.
            if not self._reuse_port:
                probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE and self._is_taken(_parse_ip(host), port):
                return f"{address_text}: another listen address already uses this port; remove one"
            return f"{address_text}: {_explain_error(error, host, port)}"
        self._taken.append((_parse_ip(host), port))
        return ""

    def _is_taken(self, host: IPAddress, port: int) -> bool:
        return any(
            port == taken_port and _do_overlap(host, other) for other, taken_port in self._taken
        )


def _parse_ip(host: str) -> IPAddress:
    return ip_address(host.partition("%")[0])


def _do_overlap(first: IPAddress, second: IPAddress) -> bool:
    return first == second or first.is_unspecified or second.is_unspecified


def _explain_error(error: OSError, host: str, port: int) -> str:
    if isinstance(error, socket.gaierror):
        return "this name has no address"
    match error.errno:
        case errno.EADDRINUSE:
            owner = next(_find_owners(_parse_ip(host), port), "")
            return (
                f"this port is in use{f' by {owner}' if owner else ''}; stop that program, or "
                "choose another port with PORT or --bind"
            )
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address"
        case errno.EACCES:
            return (
                f"a port below {_read_first_unprivileged_port()} requires root, or the "
                "capability CAP_NET_BIND_SERVICE; choose a higher port with PORT or --bind"
            )
        case errno.EAFNOSUPPORT if ":" in host:
            return "this machine has no IPv6"
    return error.strerror or str(error)


def _read_first_unprivileged_port() -> str:
    path = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return "1024"


def _find_owners(host: IPAddress, port: int) -> Iterator[str]:
    """Yield the programs whose listening sockets conflict, as "name (process 123)".

    Processes that this user may not inspect are left out.
    """
    inodes = set(_find_listening_inodes(host, port))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if inodes & set(_find_socket_inodes(process)):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                yield f"{name} (process {process.name})"
        except OSError:  # the process is another user's, or has ended
            continue


def _find_listening_inodes(host: IPAddress, port: int) -> Iterator[str]:
    """Yield the inodes of the sockets that listen on a port, at this address or at all of them."""
    for name in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", name).read_text(encoding="utf-8").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *fields = line.split()
            address, _, number = local.partition(":")
            if state == _LISTEN_STATE and int(number, 16) == port:
                other = _parse_proc_address(address)
                if _do_overlap(host, other):
                    yield fields[5]


def _parse_proc_address(text: str) -> IPAddress:
    """Parse an address of /proc/net/tcp: words of 32 bits, each in the machine's byte order.

    Return an IPv4-mapped IPv6 address as its IPv4 address.
    """
    words = (int(text[offset : offset + 8], 16) for offset in range(0, len(text), 8))
    address = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _find_socket_inodes(process: Path) -> Iterator[str]:
    for descriptor in (process / "fd").iterdir():
        try:
            match = _SOCKET_LINK.fullmatch(str(descriptor.readlink()))
        except OSError:  # the descriptor is closed by now
            continue
        if match:
            yield match[1]


def _check_socket_path(text: str) -> str:
    if text.startswith("\0"):  # an abstract socket, which has no path in the file system
        return ""
    path = Path(text)
    if not path.parent.is_dir():
        return f"unix:{path}: there is no directory {path.parent}"
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        return f"unix:{path}: the path exists and is not a socket"
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return f"unix:{path}: the directory cannot be written"
    return ""

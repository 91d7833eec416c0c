"""All findings of the doctor, each with its level, its title and what to change.

Each has a section in docs/troubleshooting.md whose heading is the title.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# Findings about the server in front.

FRONT_ERRORS: Final = {
    "header-size": (
        "Long tokens are refused",
        "nginx: large_client_header_buffers 4 64k;",
    ),
    "line-size": (
        "Long URLs are refused",
        "nginx: large_client_header_buffers 4 64k;",
    ),
    "buffering": (
        "The front buffers responses",
        "nginx: proxy_buffering off; proxy_max_temp_file_size 0;",
    ),
    "spoofing": (
        "Clients can forge the proxy's address",
        "nginx: proxy_set_header X-Forwarded-Host $http_host;",
        "nginx: proxy_set_header X-Forwarded-Proto $scheme;",
        "Or set DOCXY_PUBLIC_URL. FORWARDED_ALLOW_IPS must name only the fronts.",
    ),
    "forged-client": (
        "Clients can forge their own address",
        "nginx: proxy_set_header X-Forwarded-For $remote_addr;",
        "FORWARDED_ALLOW_IPS must name only the fronts.",
    ),
    "query": (
        "The front drops the query",
        "nginx: proxy_pass http://docxy; (without a path after the name)",
        "A CDN: pass the whole query, and cache nothing.",
    ),
    "error-pages": (
        "The front replaces error responses",
        "nginx: proxy_intercept_errors off;",
    ),
    "realm-scheme": (
        "The challenge has the wrong scheme",
        "nginx: proxy_set_header X-Forwarded-Proto $scheme;",
        "Name the front in FORWARDED_ALLOW_IPS, or set DOCXY_PUBLIC_URL.",
    ),
    "realm-host": (
        "The challenge has the wrong host",
        "nginx: proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host;",
        "Or set DOCXY_PUBLIC_URL.",
    ),
    "realm-below": (
        "The challenge lacks the path",
        "Set DOCXY_PUBLIC_URL to the complete address, with its path.",
    ),
    "realm-path": (
        "The front changes the challenge",
        "Pass WWW-Authenticate unchanged.",
    ),
}

FRONT_WARNINGS: Final = {
    "body-size": (
        "The front refuses large bodies",
        "nginx: client_max_body_size 0;",
    ),
    "post": (
        "Token requests by POST do not arrive",
        "nginx: no limit_except and no condition on $request_method for /auth/token.",
    ),
    "request-buffering": (
        "The front buffers requests",
        "nginx: proxy_request_buffering off;",
    ),
}


# Findings about the machine.

HERE_ERRORS: Final = {
    "settings": (
        "A setting is wrong",
        "Correct the setting named above; docs/configuration.md describes every setting.",
    ),
    "cache-directory": (
        "Docxy cannot write its cache",
        "Make the user that Docxy runs as the owner: chown -R USER DIRECTORY",
        "Run commands that read or warm the cache as that user, too.",
    ),
    "no-address": (
        "The public address is not known",
        "Pass it as an argument: python -m app.doctor https://proxy.example.com",
        "Or set DOCXY_PUBLIC_URL.",
    ),
    "loop": (
        "The registry is this proxy itself",
        (
            "Set DOCXY_REGISTRY_URL (or url of its table) to the registry that Docxy pulls from, "
            "and DOCXY_PUBLIC_URL to the address by which clients reach Docxy."
        ),
    ),
}

HERE_WARNINGS: Final = {
    "other-address": (
        "DOCXY_PUBLIC_URL is a different address",
        "Set DOCXY_PUBLIC_URL to the address that clients use, or remove it.",
    ),
    "public-http": (
        "DOCXY_PUBLIC_URL is plain http",
        "Set DOCXY_PUBLIC_URL=https://... and terminate TLS in a front (docs/deployment.md).",
    ),
    "cache-off": (
        "Cache settings have no effect",
        "Set DOCXY_CACHE_DIR, or remove the other settings.",
    ),
    "cache-space": (
        "The disk of the cache is full",
        "Free some of the disk, or lower DOCXY_CACHE_MIN_FREE.",
    ),
    "cache-size": (
        "The cache may grow larger than its disk",
        "Lower DOCXY_CACHE_MAX_SIZE, or remove it: DOCXY_CACHE_MIN_FREE applies anyway.",
    ),
    "managed-mixed": (
        "Clients get no token for some registries",
        (
            'Set credentials = "managed" in the tables of these registries, too, '
            "or give each a host of its own (hosts)."
        ),
    ),
    "timeouts": (
        "Docxy's timeouts are longer than the front's",
        "Set DOCXY_READ_TIMEOUT and DOCXY_WRITE_TIMEOUT below the front's timeouts.",
        "nginx: proxy_read_timeout 1800s; proxy_send_timeout 1800s; send_timeout 1800s;",
    ),
    "clock-here": (
        "The clock of this machine is wrong",
        "On this machine: timedatectl set-ntp true",
    ),
}


# Findings about a pull.

PULL_ERRORS: Final = {
    "scope": (
        "The challenge has the wrong scope",
        "Pass the path unchanged: nginx: proxy_pass http://docxy; (without a path)",
    ),
    "token": (
        "The token service gives no token",
        "Pass GET and POST of /auth/token, with the query.",
        "If Docxy gave the answer: check DOCXY_TOKEN_URL, or token_url of the registry's table.",
    ),
    "login": (
        "The login is refused",
        "Check the user in the file of DOCXY_HTPASSWD_FILE: htpasswd -v FILE NAME",
        "With DOCXY_SHARED_SECRET, use that password and any name.",
    ),
    "wait": (
        "The proxy limits this address",
        "Wait for the time in Retry-After; the log lines with rule=slowed name the client.",
        "If every client waits: name the server in front in FORWARDED_ALLOW_IPS.",
        "If the message is about requests: raise DOCXY_LIMIT_REQUESTS.",
    ),
    "authorization": (
        "The token does not arrive",
        'nginx: no proxy_set_header Authorization ""; and no auth_basic',
        "A CDN: pass Authorization, and cache nothing.",
    ),
    "image": (
        "The image does not exist",
        "Choose a public image of the registry: --image NAME:TAG",
    ),
    "refused": (
        "A pull is refused",
        "Find the request in Docxy's log, and the response in docs/operations.md.",
    ),
    "address-ways": (
        "Some ways to name an image fail",
        "Pass the path and the query unchanged: nginx: proxy_pass http://docxy;",
    ),
    "pulls-spent": (
        "No pulls are left",
        (
            "Wait, or give Docxy an account: DOCXY_CREDENTIALS=managed, DOCXY_USERNAME, "
            "DOCXY_PASSWORD."
        ),
        "Set DOCXY_CACHE_DIR to spend fewer pulls.",
    ),
    "length": (
        "HEAD responses have no length",
        "Pass HEAD as HEAD, and Content-Length unchanged: no compression, no rewriting.",
        "nginx: gzip off;",
    ),
    "digest-header": (
        "The digest header is missing",
        "Pass the header Docker-Content-Digest.",
    ),
    "gzip": (
        "The front compresses responses",
        "nginx: gzip off;",
        "Caddy: no encode. A CDN: no compression, no optimization.",
    ),
    "digest": (
        "The content does not match its digest",
        "Pass bodies unchanged: no rewriting, no cache that ignores Authorization.",
    ),
    "range": (
        "Range requests fail",
        'nginx: no proxy_set_header Range ""; and no proxy_cache',
        "A CDN: pass Range, and responses with status 206.",
    ),
    "redirect": (
        "Clients are redirected elsewhere",
        "Remove the front's redirect: Docxy itself follows those of registries.",
    ),
    "cut": (
        "A layer breaks off",
        "nginx: proxy_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 1800s;",
        "If the request's line in Docxy's log has body_error, the registry was the cause.",
    ),
    "empty": (
        "A layer arrives empty",
        "nginx: no proxy_ignore_headers X-Accel-Redirect;",
        "Or unset DOCXY_ACCEL_LOCATION.",
    ),
    "upstream": (
        "The registry cannot be reached",
        "Allow this machine to connect to the registry, or set HTTPS_PROXY.",
    ),
    "clock-proxy": (
        "The clock of the proxy is wrong",
        "On the proxy's machine: timedatectl set-ntp true",
    ),
}

PULL_WARNINGS: Final = {
    "upstream-other": (
        "One of the registries cannot be reached",
        "Allow connections to it, or remove it from DOCXY_WELL_KNOWN or from the tables.",
    ),
    "pulls-low": (
        "Few pulls are left",
        "Give Docxy an account: DOCXY_CREDENTIALS=managed, DOCXY_USERNAME, DOCXY_PASSWORD.",
        "Set DOCXY_CACHE_DIR to spend fewer pulls.",
    ),
}


# Findings about the way to the proxy.

WAY_ERRORS: Final = {
    "dns": (
        "The name does not resolve",
        "Create an A or AAAA record that points to the front.",
    ),
    "tcp": (
        "Nothing answers on the port",
        "Start the front, make it listen on this port, and open the port in the firewall.",
        "nginx: listen 443 ssl http2;",
    ),
    "plain-http": (
        "Clients refuse plain http",
        "Terminate TLS in a front: docs/deployment.md.",
    ),
    "tls": (
        "The port does not speak TLS",
        "nginx: listen 443 ssl http2;",
    ),
    "tls-chain": (
        "The certificate is not trusted",
        "nginx: ssl_certificate .../fullchain.pem; (the whole chain, not the certificate alone)",
        "If the authority is your own: pass its file to --ca, and install it on each client.",
    ),
    "tls-expired": (
        "The certificate has expired",
        "certbot renew, then nginx -s reload, since nginx reads certificates only then.",
    ),
    "tls-early": (
        "The certificate is not valid yet",
        "Check the clock of this machine, and of the one that issued the certificate.",
    ),
    "tls-name": (
        "The certificate is for another name",
        "certbot certonly --domain with this name; set server_name to it in nginx.",
    ),
    "not-docxy": (
        "Another server answers",
        "nginx: location / { proxy_pass http://docxy; } in the server of this name.",
    ),
    "front-login": (
        "The front requires a login",
        "nginx: no auth_basic; clients log in to their registry, through Docxy.",
        "To keep others out, use allow and deny, or a firewall.",
    ),
    "away": (
        "The front cannot reach Docxy",
        (
            "Start Docxy, and point the front to the address that it listens on: "
            "nginx: upstream docxy { server 127.0.0.1:8000; }"
        ),
    ),
    "no-answer": (
        "A response does not arrive",
        "Check the logs of the front and of Docxy for this moment.",
    ),
}

WAY_WARNINGS: Final = {
    "tcp-some": (
        "One address of the name does not answer",
        "Make the front listen on it, too, or remove that address from the DNS.",
        "nginx: listen [::]:443 ssl http2;",
    ),
    "tls-soon": (
        "The certificate expires soon",
        "Find out why it was not renewed: certbot renew --dry-run",
    ),
    "http-open": (
        "Plain http is served",
        "nginx: return 308 https://$host$request_uri; in the server of port 80.",
    ),
    "http-elsewhere": (
        "Plain http redirects elsewhere",
        "nginx: return 308 https://$host$request_uri; in the server of port 80.",
    ),
    "http-method": (
        "The redirect to https loses the method",
        "nginx: return 308 https://$host$request_uri; (301 and 302 turn a POST into a GET)",
    ),
}


DOCUMENT: Final = "docs/troubleshooting.md"

_NOT_IN_ANCHORS: Final = re.compile(r"[^\w\- ]")


class Level(StrEnum):
    """The severity of a finding: an error keeps at least some clients from pulling."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """A thing that is wrong: its name, level and title, and the lines that say what to change."""

    name: str
    level: Level
    title: str
    remedies: tuple[str, ...]

    @property
    def anchor(self) -> str:
        """The link to the finding's section in docs/troubleshooting.md."""
        slug = _NOT_IN_ANCHORS.sub("", self.title.lower()).replace(" ", "-")
        return f"{DOCUMENT}#{slug}"


_TABLES: Final = tuple(
    (level, rows)
    for errors, warnings in (
        (HERE_ERRORS, HERE_WARNINGS),
        (WAY_ERRORS, WAY_WARNINGS),
        (FRONT_ERRORS, FRONT_WARNINGS),
        (PULL_ERRORS, PULL_WARNINGS),
    )
    for level, rows in ((Level.ERROR, errors), (Level.WARNING, warnings))
)

FINDINGS: Final[Mapping[str, Finding]] = {
    name: Finding(name, level, title, tuple(change))
    for level, rows in _TABLES
    for name, (title, *change) in rows.items()
}


@dataclass(frozen=True, slots=True)
class StepResult:
    """A thing that was tried, and the result; `finding_name` is the name of the finding, or ""."""

    action: str
    outcome: str
    finding_name: str = ""
    skip_reason: str = ""
    """Why the step was not tried; it then has no result."""

    @property
    def finding(self) -> Finding | None:
        """The finding that `finding_name` names, or None if nothing is wrong."""
        return FINDINGS[self.finding_name] if self.finding_name else None

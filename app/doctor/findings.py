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
        "Long addresses are refused",
        "nginx: large_client_header_buffers 4 64k;",
    ),
    "buffering": (
        "The front keeps answers back",
        "nginx: proxy_buffering off; proxy_max_temp_file_size 0;",
    ),
    "spoofing": (
        "Clients can say what this proxy is called",
        "nginx: proxy_set_header X-Forwarded-Host $http_host;",
        "nginx: proxy_set_header X-Forwarded-Proto $scheme;",
        "Or set DOCXY_PUBLIC_URL; FORWARDED_ALLOW_IPS names the fronts alone.",
    ),
    "forged-client": (
        "Clients can say who they are",
        "nginx: proxy_set_header X-Forwarded-For $remote_addr;",
        "FORWARDED_ALLOW_IPS names the fronts alone.",
    ),
    "query": (
        "The query does not arrive",
        "nginx: proxy_pass http://docxy; (without a path behind the name)",
        "A CDN: let the whole query pass, and cache nothing.",
    ),
    "error-pages": (
        "Errors come as pages of the front",
        "nginx: proxy_intercept_errors off;",
    ),
    "realm-scheme": (
        "The token service is named with the wrong scheme",
        "nginx: proxy_set_header X-Forwarded-Proto $scheme;",
        "FORWARDED_ALLOW_IPS names the front; or set DOCXY_PUBLIC_URL.",
    ),
    "realm-host": (
        "The token service is named with the wrong host",
        "nginx: proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host;",
        "Or set DOCXY_PUBLIC_URL.",
    ),
    "realm-below": (
        "The token service is not below the path",
        "Set DOCXY_PUBLIC_URL to the whole address, with its path.",
    ),
    "realm-path": (
        "The challenge is not one of Docxy's",
        "Let WWW-Authenticate pass as Docxy wrote it.",
    ),
}

FRONT_WARNINGS: Final = {
    "body-size": (
        "The front refuses large bodies",
        "nginx: client_max_body_size 0;",
    ),
    "post": (
        "Token requests by POST do not arrive",
        "nginx: no limit_except and no condition on $request_method at /auth/token.",
    ),
    "request-buffering": (
        "The front keeps requests back",
        "nginx: proxy_request_buffering off;",
    ),
}


# Findings about the machine.

HERE_ERRORS: Final = {
    "settings": (
        "A setting is wrong",
        "Put right what is said above; docs/configuration.md has every setting.",
    ),
    "cache-directory": (
        "Docxy cannot write its cache",
        "Give the directory to the user that Docxy runs as: chown -R USER DIRECTORY",
        "Run what reads or warms the cache as that user, too.",
    ),
    "no-address": (
        "The public address is not known",
        "Say it: python -m app.doctor https://proxy.example.com",
        "Or set DOCXY_PUBLIC_URL.",
    ),
    "loop": (
        "The registry is this proxy itself",
        (
            "DOCXY_REGISTRY_URL (or url of its table) is where Docxy pulls from, "
            "DOCXY_PUBLIC_URL how clients reach Docxy."
        ),
    ),
}

HERE_WARNINGS: Final = {
    "other-address": (
        "DOCXY_PUBLIC_URL is another address",
        "Set DOCXY_PUBLIC_URL to the address that clients use, or leave it out.",
    ),
    "public-http": (
        "DOCXY_PUBLIC_URL is plain http",
        "Set DOCXY_PUBLIC_URL=https://... and let a front end TLS (docs/deployment.md).",
    ),
    "cache-off": (
        "Settings of the cache without a cache",
        "Set DOCXY_CACHE_DIR, or leave the others out.",
    ),
    "cache-space": (
        "The disk of the cache is full",
        "Make room on the disk, or lower DOCXY_CACHE_MIN_FREE.",
    ),
    "cache-size": (
        "The cache may grow larger than its disk",
        "Lower DOCXY_CACHE_MAX_SIZE, or leave it out: DOCXY_CACHE_MIN_FREE holds anyway.",
    ),
    "managed-mixed": (
        "Clients get no token for some registries",
        (
            'credentials = "managed" in the table of these registries, too, '
            "or a host of its own (hosts) for each."
        ),
    ),
    "timeouts": (
        "Docxy has more patience than its front",
        "Set DOCXY_READ_TIMEOUT and DOCXY_WRITE_TIMEOUT below the front's time-outs.",
        "nginx: proxy_read_timeout 1800s; proxy_send_timeout 1800s; send_timeout 1800s;",
    ),
    "clock-here": (
        "The clock of this machine is wrong",
        "Here: timedatectl set-ntp true",
    ),
}


# Findings about a pull.

PULL_ERRORS: Final = {
    "scope": (
        "The scope is not what was asked for",
        "Let the path pass as it came: nginx: proxy_pass http://docxy; (without a path)",
    ),
    "token": (
        "There is no token",
        "Let /auth/token pass, GET and POST, with its query.",
        "Where the answer is Docxy's: DOCXY_TOKEN_URL, or token_url of the registry's table.",
    ),
    "login": (
        "The login is refused",
        "Look whether the file of DOCXY_HTPASSWD_FILE has the user: htpasswd -v FILE NAME",
        "With DOCXY_SHARED_SECRET it is that password, and any name.",
    ),
    "wait": (
        "The proxy makes this address wait",
        "Wait as long as Retry-After says; in Docxy's log rule=slowed has who is to blame.",
        "Where everybody waits: FORWARDED_ALLOW_IPS has to name the server in front.",
        "Where the message speaks of requests: DOCXY_LIMIT_REQUESTS.",
    ),
    "authorization": (
        "The token does not arrive",
        'nginx: no proxy_set_header Authorization ""; and no auth_basic',
        "A CDN: let Authorization pass, and cache nothing.",
    ),
    "image": (
        "The image is not there",
        "Name one that the registry has and anybody may read: --image NAME:TAG",
    ),
    "refused": (
        "A pull is refused",
        "Look into Docxy's log for the request, and into docs/operations.md for the answer.",
    ),
    "address-ways": (
        "An image is not found by every way to it",
        "Let path and query pass as they came: nginx: proxy_pass http://docxy;",
    ),
    "pulls-spent": (
        "No pulls are left",
        (
            "Wait, or give Docxy an account: DOCXY_CREDENTIALS=managed, DOCXY_USERNAME, "
            "DOCXY_PASSWORD."
        ),
        "DOCXY_CACHE_DIR spends fewer.",
    ),
    "length": (
        "HEAD has no length",
        "Let HEAD pass as HEAD, and Content-Length as it is: no compression, no rewriting.",
        "nginx: gzip off;",
    ),
    "digest-header": (
        "The digest is missing",
        "Let Docker-Content-Digest pass.",
    ),
    "gzip": (
        "The front compresses",
        "nginx: gzip off;",
        "Caddy: no encode; a CDN: no compression, no optimization.",
    ),
    "digest": (
        "The bytes are not what was asked for",
        "Let bodies pass as they are: no rewriting, no cache that ignores Authorization.",
    ),
    "range": (
        "Parts are not served",
        'nginx: no proxy_set_header Range ""; and no proxy_cache',
        "A CDN: let Range pass, and 206.",
    ),
    "redirect": (
        "Clients are led elsewhere",
        "Let Docxy follow the redirects of registries: it sends clients nowhere.",
    ),
    "cut": (
        "A layer breaks off",
        "nginx: proxy_buffering off; proxy_max_temp_file_size 0; proxy_read_timeout 1800s;",
        "Docxy's log says for this request whether it was the registry.",
    ),
    "empty": (
        "A layer arrives empty",
        "nginx: take out proxy_ignore_headers X-Accel-Redirect;",
        "Or leave DOCXY_ACCEL_LOCATION out.",
    ),
    "upstream": (
        "The registry cannot be reached",
        "Let this machine out to the registry; or set HTTPS_PROXY.",
    ),
    "clock-proxy": (
        "The clock of the proxy is wrong",
        "On its machine: timedatectl set-ntp true",
    ),
}

PULL_WARNINGS: Final = {
    "upstream-other": (
        "One of the registries cannot be reached",
        "Let this machine out to it, or leave it out: DOCXY_WELL_KNOWN, or its table.",
    ),
    "pulls-low": (
        "Few pulls are left",
        "Give Docxy an account: DOCXY_CREDENTIALS=managed, DOCXY_USERNAME, DOCXY_PASSWORD.",
        "DOCXY_CACHE_DIR spends fewer.",
    ),
}


# Findings about the way to the proxy.

WAY_ERRORS: Final = {
    "dns": (
        "The name does not resolve",
        "Give the name an A or AAAA record that leads to the front.",
    ),
    "tcp": (
        "Nobody answers at the port",
        "Start the front, let it listen there, and open the port in the firewall.",
        "nginx: listen 443 ssl http2;",
    ),
    "plain-http": (
        "Clients refuse plain http",
        "Put a front that ends TLS before Docxy: docs/deployment.md.",
    ),
    "tls": (
        "There is no TLS at the port",
        "nginx: listen 443 ssl http2;",
    ),
    "tls-chain": (
        "The certificate is not trusted",
        "nginx: ssl_certificate .../fullchain.pem; (the whole chain, not the certificate alone)",
        "An authority of your own: give its file to --ca, and to each client.",
    ),
    "tls-expired": (
        "The certificate has expired",
        "certbot renew, then nginx -s reload: nginx reads certificates only then.",
    ),
    "tls-early": (
        "The certificate is not valid yet",
        "Look at the clock of this machine, and of the one that made the certificate.",
    ),
    "tls-name": (
        "The certificate is for another name",
        "certbot certonly --domain with this name; in nginx, server_name is this name.",
    ),
    "not-docxy": (
        "Something else answers",
        "nginx: location / { proxy_pass http://docxy; } in the server of this name.",
    ),
    "front-login": (
        "The front wants a login",
        "nginx: no auth_basic; clients log in at their registry, through Docxy.",
        "To keep others out: allow and deny, or a firewall.",
    ),
    "away": (
        "The front does not reach Docxy",
        (
            "Start Docxy, and let the front ask where it listens: "
            "nginx: upstream docxy { server 127.0.0.1:8000; }"
        ),
    ),
    "no-answer": (
        "An answer does not come",
        "Look into the logs of the front and of Docxy for this moment.",
    ),
}

WAY_WARNINGS: Final = {
    "tcp-some": (
        "One address of the name does not answer",
        "Let the front listen there, too, or take that address out of the DNS.",
        "nginx: listen [::]:443 ssl http2;",
    ),
    "tls-soon": (
        "The certificate expires soon",
        "See why it was not renewed: certbot renew --dry-run",
    ),
    "http-open": (
        "Plain http is answered",
        "nginx: return 308 https://$host$request_uri; in the server of port 80.",
    ),
    "http-elsewhere": (
        "Plain http leads elsewhere",
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
    """How bad a finding is: an error keeps at least some clients from pulling."""

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

"""What may be wrong with a pull: by name, the title and what to change."""

from typing import Final

ERRORS: Final = {
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

WARNINGS: Final = {
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

"""What may be wrong at the front: by name, the title and what to change."""

from typing import Final

ERRORS: Final = {
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

WARNINGS: Final = {
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

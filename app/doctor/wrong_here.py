"""What may be wrong on the machine: by name, the title and what to change."""

from typing import Final

ERRORS: Final = {
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

WARNINGS: Final = {
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

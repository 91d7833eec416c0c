"""What may be wrong on the way to the proxy: by name, the title and what to change."""

from typing import Final

ERRORS: Final = {
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

WARNINGS: Final = {
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

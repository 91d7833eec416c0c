# ruff: noqa: INP001 -- a program, beside the files that it is deployed with
"""Ask Docxy's /health from inside its container, which has no curl; end with 1 if it is not well.

The standard library only, and http.client rather than urllib: HTTP_PROXY, meant for the way to the
registry, must not send this question elsewhere.
"""

import http.client
import os
import sys

TIMEOUT = 5


def main() -> str | None:
    """Return what is wrong, or nothing."""
    port = int(os.environ.get("PORT") or "8000")  # noqa: TID251 -- not a part of the application
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except OSError as error:
        return f"Docxy does not answer on port {port}: {error}"
    except http.client.HTTPException as error:
        return f"Docxy does not speak HTTP on port {port}: {error!r}"
    finally:
        connection.close()
    return None if status == http.HTTPStatus.OK else f"/health answers {status}"


if __name__ == "__main__":
    sys.exit(main())

"""Run a hub by hand: prints the settings of a Docxy that uses it, and ends with its input."""

import json
import sys

from tests.hub.hub import Hub

if __name__ == "__main__":
    with Hub() as hub:
        hub.limit = hub.user_limit = None
        sys.stdout.write(json.dumps(hub.settings) + "\n")
        sys.stdout.flush()
        sys.stdin.read()

"""Run the chaos and the tables of real clients, and write docs/reliability.md."""

import argparse
import logging
import random
import sys
from pathlib import Path

from tests.chaos import chaos, page, table
from tests.servers import ROOT

_PAGE = ROOT / "docs" / "reliability.md"

logger = logging.getLogger(__name__)


def main() -> None:
    """Print the page, and put it into docs/ unless it was a quick run; fail if anything is lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--write", type=Path, help="where the page goes", metavar="FILE")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # It warns of each answer that is cut, which is what this is about.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if arguments.quick:
        run = chaos.run(arguments.seed, chaos.SHORT)
        measured = table.measure(table.CLIENTS[:1])
        text = page.render(run, measured, title="Reliability: a quick run")
    else:
        run = chaos.run(arguments.seed, chaos.FULL)
        measured = table.measure()
        text = page.render(run, measured)
    sys.stdout.write(text)
    where = arguments.write or (None if arguments.quick else _PAGE)
    if where is not None:
        where.write_text(text, encoding="utf-8")
    for line in page.complaints(run, measured):
        logger.error("%s", line)
    sys.exit(1 if page.complaints(run, measured) else 0)


if __name__ == "__main__":
    main()

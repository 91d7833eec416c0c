"""Every client that Debian ships meets every single fault, with and without Docxy between."""

import logging
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.chaos.singles import ROWS, Single
from tests.chaos.troubles import happen, happened
from tests.clients.process import CommandFailed
from tests.hub.content import multi_arch
from tests.hub.hub import Hub
from tests.hub.images import OCI_KIND, Image
from tests.integration.pulling import TABLE, Client, Way, client
from tests.servers import docxy

logger = logging.getLogger(__name__)

CLIENTS = tuple(TABLE)

SETTINGS: Mapping[str, str] = {"DOCXY_READ_TIMEOUT": "2"}
"""For what stalls; all else is as by default."""

_LAYER = 1_000_000

Cell = Literal["ok", "fails", "hangs", "not tried", "not met", "not here"]
"""`not met`: the fault never came, so that the pull proves nothing. `not here`: no such client."""

Cells = Mapping[tuple[str, str], Cell]
"""By the name of the row and the client."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The tables: directly, through Docxy, and through one that verifies blobs."""

    directly: Cells
    through: Cells
    verifying: Cells

    def unexpected(self) -> list[str]:
        """List the cells that should not be as they are, of those with Docxy between."""
        corrupting = {row.name for row in ROWS if row.corrupts}
        return [
            f"{name} {kind}: {row}: {cell}"
            for kind, cells in (("", self.through), ("(verifying)", self.verifying))
            for (row, name), cell in cells.items()
            if cell not in {"ok", "not here"} and not (row in corrupting and cell == "fails")
        ]


def measure(names: Sequence[str] = CLIENTS) -> Measured:
    """Measure all three tables."""
    with Hub() as hub:
        hub.limit = None
        images = {
            row.name: hub.push(
                _repository(row), multi_arch(_repository(row), OCI_KIND, data_size=_LAYER), ["1"]
            )
            for row in ROWS
        }
        corrupting = [row for row in ROWS if row.corrupts]
        bounded = [row for row in ROWS if not row.endless]
        directly = Way("plain", hub.url, hub.host, hub.ca_bundle, str)
        return Measured(
            _table(hub, names, directly, images, bounded),
            _through(hub, names, images, ROWS),
            _through(hub, names, images, corrupting, DOCXY_VERIFY_BLOBS="true"),
        )


def _through(
    hub: Hub,
    names: Sequence[str],
    images: Mapping[str, Image],
    rows: Sequence[Single],
    **settings: str,
) -> Cells:
    with docxy(**hub.settings, **SETTINGS, **settings) as proxy:
        way = Way("plain", proxy.url, proxy.host, None, lambda: proxy.log)
        return _table(hub, names, way, images, rows)


def _table(
    hub: Hub, names: Sequence[str], way: Way, images: Mapping[str, Image], rows: Sequence[Single]
) -> Cells:
    cells: dict[tuple[str, str], Cell] = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="docxy-client-") as home:
            try:
                with client(name, way, "by name", Path(home)) as real:
                    puller = _Puller(hub, name, real, way)
                    for row in rows:
                        cells[row.name, name] = puller.cell(row, images[row.name])
            except pytest.skip.Exception as skipped:
                logger.warning("%s is not tried: %s", name, skipped)
                cells |= {(row.name, name): "not here" for row in rows}
    return cells


@dataclass(frozen=True, slots=True)
class _Puller:
    hub: Hub
    name: str
    client: Client
    way: Way

    def cell(self, row: Single, image: Image) -> Cell:
        """Pull once, with the faults of a row."""
        self.hub.reset()
        faults = row.faults(image)
        for fault in faults:
            happen(self.hub, fault)
        before = len(self.way.log())
        cell, told = self._pull(f"{self.way.host}/{_repository(row)}:1", image)
        if cell == "ok" and not all(map(happened, faults)):
            cell = "not met"
        logger.info("%s: %s: %s", self.name, row.name, cell)
        if cell != "ok" and not row.corrupts and self.way.log():
            logger.warning("%s\n%s", told, self.way.log()[before:])
        return cell

    def _pull(self, reference: str, image: Image) -> tuple[Cell, str]:
        try:
            got = self.client.pull(reference)
        except CommandFailed as error:
            return "fails", error.output
        except subprocess.TimeoutExpired:
            return "hangs", ""
        missing = self.client.kept(image) - got
        return ("fails", f"it lacks {missing}") if missing else ("ok", "")


def _repository(row: Single) -> str:
    return f"library/single{ROWS.index(row)}"

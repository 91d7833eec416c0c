"""`flask cache statistics`."""

import json

from app.cache.source import Cache
from app.store.store import Store
from tests.unit.cli.parts import Run, digest_of, keep


def test_an_empty_cache(run: Run) -> None:
    """Nothing is counted as nothing."""
    result = run("statistics")
    assert result.exit_code == 0
    first, whole, _, limit, free = result.stdout.splitlines()
    assert first.split() == ["registry", "entries", "size"]
    assert whole.split() == ["all", "0", "0", "B"]
    assert limit == "limit: 1.0 GiB"
    assert free.startswith("free on the disk: ")


def test_a_line_for_each_registry(run: Run, store: Store) -> None:
    """And one for all."""
    keep(store, "library/alpine", b"x" * 2048, b"y")
    store.keep(b"z" * 1024, "ghcr.io", digest_of(b"z" * 1024), "")
    rows = [line.split() for line in run("statistics").stdout.splitlines()[1:4]]
    assert rows == [
        ["docker.io", "2", "2.0", "KiB"],
        ["ghcr.io", "1", "1.0", "KiB"],
        ["all", "3", "3.0", "KiB"],
    ]


def test_json(run: Run, store: Store) -> None:
    """For programs: bytes, and the rows of the index."""
    keep(store, "library/alpine", b"x" * 2048)
    found = json.loads(run("statistics", "--json").stdout)
    assert found["registries"] == {"docker.io": {"entries": 1, "bytes": 2048}}
    assert found["index_rows"]["members"] == 1
    assert (found["max_size"], found["min_free"]) == (1 << 30, 0)
    assert found["free"] > 0
    assert found["unfinished"] == {"entries": 0, "bytes": 0}


def test_what_was_not_finished(run: Run, cache: Cache) -> None:
    """It is counted beside the rest, by what it takes and not by its size, and goes with all."""
    folder = cache.storage.unfinished / "docker.io"
    folder.mkdir(parents=True)
    (folder / "sha256-00.map").write_bytes(b"")
    with (folder / "sha256-00.data").open("wb") as file:
        file.write(b"x" * 65536)
        file.truncate(1 << 30)
    assert "running or interrupted downloads: 1 blob, 64.0 KiB" in run("statistics").stdout
    found = json.loads(run("statistics", "--json").stdout)
    assert found["unfinished"] == {"entries": 1, "bytes": 65536}
    run("remove", "--all")
    assert list(folder.iterdir()) == []

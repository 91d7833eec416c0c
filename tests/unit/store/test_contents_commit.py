"""Files that become entries, and those that may not."""

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from app.oci.reference import Digest
from app.store.blobs import ContentInfo, SizeLimits
from app.store.errors import StoreError
from app.store.store import Store
from tests.unit.store.parts import (
    REGISTRY,
    Stores,
    described,
    digest_of,
    faults,
    fetched_file,
    files,
    read,
)

DATA = b"some layer" * 1000


def test_a_file_is_taken(stores: Stores) -> None:
    """It is moved, not copied, and lies where its digest says."""
    store = stores.open()
    path = fetched_file(stores.directory, DATA)
    number = path.stat().st_ino
    store.adopt(path, described(DATA))
    name = digest_of(DATA).partition(":")[2]
    lies = stores.directory / "content" / REGISTRY / "sha256" / name[:2] / name
    assert lies.stat().st_ino == number
    assert not path.exists()
    content = store.open(REGISTRY, digest_of(DATA))
    assert content is not None
    with closing(content.blob) as blob:
        assert blob.read() == DATA
    assert (content.size, content.media_type) == (len(DATA), "text/plain")
    assert stores.directory / "content" / content.location == lies
    assert faults(stores.directory) == []


def test_sha512(store: Store) -> None:
    """The other registered algorithm."""
    digest = digest_of(DATA, "sha512")
    store.keep(DATA, REGISTRY, digest, "")
    assert read(store, digest) == DATA
    assert read(store, digest_of(DATA)) is None


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes(stores: Stores, umask: int) -> None:
    """A web server of the same group may read content and no more, whatever the umask."""
    before = os.umask(umask)
    try:
        store = stores.open()
        path = fetched_file(stores.directory, DATA)
        store.adopt(path, described(DATA))
        store.keep(b"hello", REGISTRY, digest_of(b"hello"), "")
        content = stores.directory / "content"
        open_to_group = {stores.directory, content, *content.rglob("*")}
        for found in [stores.directory, *stores.directory.rglob("*")]:
            mode = found.stat().st_mode & 0o7777
            most = 0o750 if found in open_to_group else 0o700
            assert mode == (most if found.is_dir() else most & 0o660), found
    finally:
        os.umask(before)


def test_an_existing_directory_keeps_its_mode(stores: Stores) -> None:
    """What an operator has chosen stays."""
    stores.directory.mkdir(mode=0o700)
    stores.open()
    assert stores.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("size", [0, len(DATA) - 1, len(DATA) + 1])
def test_another_size_is_refused(stores: Stores, size: int) -> None:
    """A short file is not whole, whoever says so."""
    store = stores.open()
    path = fetched_file(stores.directory, DATA)
    content = ContentInfo(registry=REGISTRY, digest=digest_of(DATA), size=size, media_type="")
    with pytest.raises(StoreError, match=f"not a file of {size} bytes"):
        store.adopt(path, content)
    assert not path.exists()
    assert store.stat(REGISTRY, digest_of(DATA)) is None
    assert faults(stores.directory) == []


def test_what_is_no_file(stores: Stores, tmp_path: Path) -> None:
    """A link is not followed, and a path without a file says so."""
    store = stores.open()
    (tmp_path / "real").write_bytes(DATA)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError):
        store.adopt(tmp_path / "link", described(DATA))
    with pytest.raises(StoreError) as caught:
        store.adopt(tmp_path / "nothing", described(DATA))
    assert caught.value.errno == errno.ENOENT
    assert (tmp_path / "real").read_bytes() == DATA
    assert files(stores.directory) == set()


def test_wrong_bytes_are_not_kept(stores: Stores) -> None:
    """Bytes in memory are hashed here."""
    store = stores.open()
    with pytest.raises(StoreError, match="these bytes are not sha256:"):
        store.keep(b"hello", REGISTRY, digest_of(b"other"), "")
    assert files(stores.directory) == set()


@pytest.mark.parametrize(
    ("registry", "digest"),
    [
        pytest.param(REGISTRY, "md5:0123", id="what cannot be verified"),
        pytest.param(REGISTRY, "sha256+b64:" + "a" * 64, id="an unknown algorithm"),
        pytest.param("../escape", str(digest_of(DATA)), id="up"),
        pytest.param("..", str(digest_of(DATA)), id="up once"),
        pytest.param("", str(digest_of(DATA)), id="nothing"),
        pytest.param("a/b", str(digest_of(DATA)), id="slash"),
        pytest.param("a\x00b", str(digest_of(DATA)), id="null"),
        pytest.param("a" * 256, str(digest_of(DATA)), id="long"),
        pytest.param("docker.io\n", str(digest_of(DATA)), id="line"),
    ],
)
def test_what_can_never_be_kept(stores: Stores, registry: str, digest: str) -> None:
    """Nothing leads out of the directory; asking for it finds nothing."""
    store = stores.open()
    path = fetched_file(stores.directory, DATA)
    content = ContentInfo(
        registry=registry, digest=Digest.parse(digest), size=len(DATA), media_type=""
    )
    with pytest.raises(StoreError, match="cannot be kept"):
        store.adopt(path, content)
    with pytest.raises(StoreError, match="cannot be kept"):
        store.keep(DATA, registry, content.digest, "")
    assert store.open(registry, content.digest) is None
    assert store.stat(registry, content.digest) is None
    assert not store.delete(registry, content.digest)
    assert not path.exists()
    assert files(stores.directory) == set()


def test_what_is_larger_than_the_cache(stores: Stores) -> None:
    """It is refused before anything has to go for it."""
    store = stores.open(SizeLimits(max_size=100, min_free=0))
    store.keep(b"x" * 100, REGISTRY, digest_of(b"x" * 100), "")
    path = fetched_file(stores.directory, b"y" * 101)
    with pytest.raises(StoreError) as caught:
        store.adopt(path, described(b"y" * 101))
    assert caught.value.errno == errno.EFBIG
    assert read(store, digest_of(b"x" * 100)) is not None
    assert not path.exists()


def test_a_directory_that_takes_nothing(stores: Stores) -> None:
    """What cannot be moved leaves no trace, and a file of that name that is there stays."""
    store = stores.open()
    store.keep(DATA, REGISTRY, digest_of(DATA), "")
    name = digest_of(b"hello").partition(":")[2]
    blocked = stores.directory / "content" / REGISTRY / "sha256" / name[:2]
    blocked.write_bytes(b"a file where a folder should be")
    path = fetched_file(stores.directory, b"hello")
    with pytest.raises(StoreError) as caught:
        store.adopt(path, described(b"hello"))
    assert caught.value.errno in {errno.ENOTDIR, errno.EEXIST}
    assert not path.exists()
    assert store.stat(REGISTRY, digest_of(b"hello")) is None
    blocked.unlink()
    assert faults(stores.directory) == []
    store.keep(b"hello", REGISTRY, digest_of(b"hello"), "")
    assert read(store, digest_of(b"hello")) == b"hello"


def test_nothing_is_an_entry_too(store: Store) -> None:
    """Empty content has a digest as well."""
    store.keep(b"", REGISTRY, digest_of(b""), "")
    assert read(store, digest_of(b"")) == b""

"""Whether bytes are what their digest says."""

import hashlib
from io import FileIO

from app.oci.reference import Digest


def digest_of(data: bytes, like: Digest) -> str:
    """Return the digest of bytes, by the algorithm of another one."""
    algorithm = like.algorithm
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def digest_of_file(file: FileIO, like: Digest) -> str:
    """Return the digest of all that is left to read; raise OSError."""
    algorithm = like.algorithm
    return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"

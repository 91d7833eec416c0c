"""How much is done for an answer before it is given up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Seconds until no attempt begins any more: before the first byte, and after a body broke.

    With `verify_blobs`, a whole blob is hashed, and its end held back until the digest is right.
    """

    retry_budget: float
    resume_budget: float
    verify_blobs: bool = False

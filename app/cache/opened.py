"""What is kept, opened for somebody who may read it."""

from dataclasses import dataclass
from typing import Self

from app.store.contents import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Content):
    """Content of a repository: `media_type` is what it is called there.

    `left` is for how many seconds it may be read, `public_left` for how many others on the way may
    keep it: 0 unless it is public.
    """

    left: float
    public_left: float

    @classmethod
    def of(cls, content: Content, media_type: str, left: float, public_left: float) -> Self:
        """Return content as a repository has it."""
        return cls(
            file=content.file,
            size=content.size,
            media_type=media_type,
            taken=content.taken,
            location=content.location,
            left=left,
            public_left=public_left,
        )

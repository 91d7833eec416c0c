"""What a rule that allows wants of an image itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.oci.image import Facts
from app.oci.manifest import Platform


@dataclass(frozen=True, slots=True)
class Condition:
    """Platforms, and how long ago an image has to have been made; None is whatever."""

    platforms: tuple[Platform, ...] | None = None
    min_age: timedelta | None = None

    def objection(self, facts: Facts, now: datetime) -> str:
        """Return why an image is refused, or "".

        What cannot be told of it is refused too. An index is not: its images are asked for next.
        """
        if facts.is_index:
            return ""
        if self.platforms is not None and not self._has(facts.platform):
            said = f"is for {facts.platform}" if facts.platform else "does not say what it is for"
            return f"this proxy serves images for {self._written()} only, and this one {said}"
        if self.min_age is not None and not self._is_old(facts.created, now):
            said = f"says {facts.created:%Y-%m-%d}" if facts.created else "has no date"
            return (
                f"this proxy serves images that are {self.min_age.days} days old or more, "
                f"and this one {said}"
            )
        return ""

    def _has(self, platform: Platform | None) -> bool:
        return platform is not None and any(map(platform.suits, self.platforms or ()))

    def _is_old(self, created: datetime | None, now: datetime) -> bool:
        return created is not None and self.min_age is not None and now - created >= self.min_age

    def _written(self) -> str:
        return ", ".join(map(str, self.platforms or ()))

    def __str__(self) -> str:
        wanted = [f"for {self._written()}"] if self.platforms is not None else []
        if self.min_age is not None:
            wanted.append(f"{self.min_age.days} days old or more")
        return " and ".join(wanted)

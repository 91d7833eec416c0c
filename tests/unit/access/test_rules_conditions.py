"""What a rule wants of an image."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.access.rules import Condition
from app.oci.image import INDEX, ImageMetadata
from app.oci.manifest import Platform

NOW = datetime(2024, 5, 8, 12, tzinfo=UTC)
AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
WEEK = timedelta(days=7)
LAST = datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        pytest.param(AMD, "", id="one of them"),
        pytest.param(ARM, "", id="with its variant"),
        pytest.param(Platform("linux", "arm", "v6"), "is for linux/arm/v6", id="with another one"),
        pytest.param(Platform("windows", "amd64"), "is for windows/amd64", id="another system"),
        pytest.param(None, "does not name its platform", id="not told"),
    ],
)
def test_platforms(platform: Platform | None, said: str) -> None:
    """The image's own, whatever its age."""
    told = Condition((AMD, ARM)).find_violation(ImageMetadata(platform), NOW)
    wanted = "this proxy serves images for linux/amd64, linux/arm/v7 only"
    assert told == (f"{wanted}, and this one {said}" if said else "")


@pytest.mark.parametrize(
    ("created", "said"),
    [
        pytest.param(NOW - WEEK, "", id="just old enough"),
        pytest.param(NOW - WEEK + timedelta(seconds=1), "says 2024-05-01", id="a second too young"),
        pytest.param(NOW + WEEK * 2, "says 2024-05-22", id="in the future"),
        pytest.param(LAST, "says 9999-12-31", id="at the end of all days"),
        pytest.param(None, "has no date", id="not told"),
    ],
)
def test_age(created: datetime | None, said: str) -> None:
    """By the image's date, whatever its platform."""
    told = Condition(min_age=WEEK).find_violation(ImageMetadata(created=created), NOW)
    wanted = "this proxy serves images that are 7 days old or more"
    assert told == (f"{wanted}, and this one {said}" if said else "")


def test_both() -> None:
    """Each has to hold; an index is no image."""
    both = Condition((AMD,), WEEK)
    assert both.find_violation(ImageMetadata(AMD, NOW - WEEK), NOW) == ""
    assert "for linux/amd64 only" in both.find_violation(ImageMetadata(ARM, NOW - WEEK), NOW)
    assert "7 days old" in both.find_violation(ImageMetadata(AMD, NOW), NOW)
    assert both.find_violation(INDEX, NOW) == ""
    assert str(both) == "for linux/amd64 and 7 days old or more"

"""What a rule wants of an image."""

from datetime import UTC, datetime, timedelta

import pytest

from app.access.conditions import Condition
from app.oci.image import INDEX, Facts
from app.oci.manifest import Platform

NOW = datetime(2024, 5, 8, 12, tzinfo=UTC)
AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm", "v7")
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("platform", "allowed"),
    [
        pytest.param(AMD, True, id="one of them"),
        pytest.param(ARM, True, id="with its variant"),
        pytest.param(Platform("linux", "arm", "v6"), False, id="with another one"),
        pytest.param(Platform("windows", "amd64"), False, id="another system"),
        pytest.param(None, False, id="not told"),
    ],
)
def test_platforms(platform: Platform | None, *, allowed: bool) -> None:
    """The image's own, whatever its age."""
    told = Condition((AMD, ARM)).objection(Facts(platform), NOW)
    assert told == (
        "" if allowed else "this proxy serves images for linux/amd64, linux/arm/v7 only"
    )


@pytest.mark.parametrize(
    ("created", "allowed"),
    [
        pytest.param(NOW - WEEK, True, id="just old enough"),
        pytest.param(NOW - WEEK + timedelta(seconds=1), False, id="a second too young"),
        pytest.param(NOW + WEEK * 2, False, id="in the future"),
        pytest.param(datetime.max.replace(tzinfo=UTC), False, id="at the end of all days"),
        pytest.param(None, False, id="not told"),
    ],
)
def test_age(created: datetime | None, *, allowed: bool) -> None:
    """By the image's date, whatever its platform."""
    told = Condition(min_age=WEEK).objection(Facts(created=created), NOW)
    assert told == ("" if allowed else "this proxy serves images that are 7 days old or more")


def test_both() -> None:
    """Each has to hold; an index is no image."""
    both = Condition((AMD,), WEEK)
    assert both.objection(Facts(AMD, NOW - WEEK), NOW) == ""
    assert "for linux/amd64 only" in both.objection(Facts(ARM, NOW - WEEK), NOW)
    assert "7 days old" in both.objection(Facts(AMD, NOW), NOW)
    assert both.objection(INDEX, NOW) == ""
    assert str(both) == "for linux/amd64 and 7 days old or more"

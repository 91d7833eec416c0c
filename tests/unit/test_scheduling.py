import pytest

from tests.scheduling import next_file, site_of

pytestmark = pytest.mark.rig

PULLS = "tests/integration/test_pull_blobs.py"
LIMITS = "tests/integration/test_pull_limits.py"
USERS = "tests/integration/test_users.py"
SCOPES = "tests/integration/credentials/test_scopes.py"
WIRE = "tests/wire/test_reuse.py"
UNIT = "tests/unit/oci/test_image.py"


def test_sites() -> None:
    """A folder, or the files of integration tests with the same first word."""
    assert [*map(site_of, (PULLS, LIMITS, USERS, SCOPES, WIRE, "tests/test_docs.py"))] == [
        "tests/integration/test_pull",
        "tests/integration/test_pull",
        "tests/integration/test_users",
        "tests/integration/credentials",
        "tests/wire",
        "tests",
    ]


def test_a_process_goes_on_with_its_sites() -> None:
    """Then with those of nobody, then with another's, and with unit tests in the end."""
    begun = {site_of(PULLS): {"one"}, site_of(WIRE): {"other"}}
    waiting = [UNIT, WIRE, LIMITS, USERS]
    order = []
    while waiting:
        order.append(next_file(waiting, begun, "one"))
        waiting.remove(order[-1])
    assert order == [LIMITS, USERS, WIRE, UNIT]
    assert next_file([UNIT, LIMITS, WIRE], begun, "other") == WIRE

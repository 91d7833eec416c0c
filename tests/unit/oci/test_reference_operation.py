"""Operations, and the scopes that they need."""

import pytest

from app.oci.reference import Digest, Kind, Operation, Reference, RepositoryName, Tag
from app.oci.scope import Action

NAME = RepositoryName("library/nginx")
TAG, DIGEST = Tag("latest"), Digest("sha256:" + "a" * 64)


@pytest.mark.parametrize(
    ("operation", "kind", "reference"),
    [
        (Operation.manifest(NAME, TAG), Kind.MANIFEST, TAG),
        (Operation.manifest(NAME, DIGEST), Kind.MANIFEST, DIGEST),
        (Operation.blob(NAME, DIGEST), Kind.BLOB, DIGEST),
        (Operation.tags(NAME), Kind.TAGS, None),
        (Operation.referrers(NAME, DIGEST), Kind.REFERRERS, DIGEST),
    ],
)
def test_an_operation_knows_its_scope(
    operation: Operation, kind: Kind, reference: Reference | None
) -> None:
    """All that clients read needs the right to pull."""
    assert (operation.kind, operation.repository, operation.reference) == (kind, NAME, reference)
    assert operation.action is Action.PULL
    assert operation.scope == "repository:library/nginx:pull"
    assert operation.manifest_reference == (reference if kind is Kind.MANIFEST else None)


def test_a_ping_needs_no_scope() -> None:
    """It is about no repository."""
    assert Operation.ping().scope == ""


def test_the_scope_follows_the_action() -> None:
    """Whoever pushes needs the right to push."""
    pushed = Operation(Kind.MANIFEST, NAME, TAG, Action.PUSH)
    assert pushed.scope == "repository:library/nginx:push"

"""Accept: which types a client takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.media_types import essence, fingerprint, is_acceptable

INDEX = "application/vnd.oci.image.index.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.mark.parametrize(
    ("media_type", "accepts", "taken"),
    [
        pytest.param(INDEX, [], True, id="nothing said"),
        pytest.param(INDEX, [""], True, id="nothing in it"),
        pytest.param(INDEX, [INDEX], True, id="itself"),
        pytest.param(INDEX, [f"{LIST}, {INDEX}"], True, id="one of two"),
        pytest.param(INDEX, [LIST, INDEX], True, id="one of two lines"),
        pytest.param(INDEX, [INDEX.upper()], True, id="case"),
        pytest.param(f"{INDEX}; charset=utf-8", [INDEX], True, id="parameters of the type"),
        pytest.param(INDEX, [f"{INDEX};v=1;q=0.1"], True, id="parameters of the range"),
        pytest.param(INDEX, [f"{INDEX}; q=0"], False, id="not taken"),
        pytest.param(INDEX, [f"{INDEX};q=0.000, */*"], False, id="all but it"),
        pytest.param(INDEX, ["*/*;q=0", INDEX], True, id="nothing but it"),
        pytest.param(INDEX, ["*/*"], True, id="all"),
        pytest.param(INDEX, ["application/*"], True, id="its kind"),
        pytest.param(INDEX, ["text/*"], False, id="another kind"),
        pytest.param(INDEX, ["application/*;q=0, */*"], False, id="all but its kind"),
        pytest.param(INDEX, [LIST], False, id="another"),
        pytest.param(INDEX, ["application/json"], False, id="what it is made of"),
        pytest.param(INDEX, [f"{INDEX};q=x"], True, id="a weight that is none"),
        pytest.param(INDEX, ['text/x;a="1,2", ' + INDEX], True, id="a comma in quotes"),
        pytest.param(INDEX, [f'text/x;a="{INDEX},'], False, id="in quotes that do not end"),
        pytest.param(INDEX, [rf'text/x;a="\",{INDEX},"'], False, id="an escaped quote in quotes"),
        pytest.param(INDEX, [*["text/x"] * 400, INDEX], True, id="within 4 KiB"),
        pytest.param(INDEX, [*["text/x"] * 800, INDEX], False, id="beyond 4 KiB"),
        pytest.param(INDEX, [INDEX, *["text/x"] * 8000], True, id="much else beyond 4 KiB"),
        pytest.param(INDEX, ["x" * 5000], False, id="nothing within 4 KiB"),
        pytest.param("", ["*/*"], False, id="an unknown type"),
        pytest.param("", [], False, id="an unknown type, nothing said"),
    ],
)
def test_acceptable(media_type: str, accepts: list[str], *, taken: bool) -> None:
    """RFC 9110, section 12.5.1."""
    assert is_acceptable(media_type, accepts) is taken


def test_fingerprints() -> None:
    """The same is taken, in whatever order and lines it is said."""
    assert fingerprint([f"{LIST},{INDEX}"]) == fingerprint([INDEX, f" {LIST.upper()};q=1.0 "])
    assert fingerprint([INDEX]) != fingerprint([f"{INDEX};q=0"])
    assert fingerprint([INDEX]) != fingerprint([LIST])
    assert fingerprint([]) == fingerprint([""])
    long = "text/x," * 1000
    assert fingerprint([f"{long}{INDEX}"]) != fingerprint([f"{long}{LIST}"])


@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=3))
def test_anything(media_type: str, accepts: list[str]) -> None:
    """Whatever is sent is read, and what a client names it takes."""
    is_acceptable(media_type, accepts)
    assert len(fingerprint(accepts)) == 16
    assert essence(essence(media_type)) == essence(media_type)

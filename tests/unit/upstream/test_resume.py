"""A body that goes on where its connection broke, over real connections."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.upstream.blobs import BLOB, SECRET, Answer, Hosts, pull, resumed

STRONG, WEAK = 'ETag: "v1"', 'ETag: W/"v1"'


cuts = st.none() | st.integers(0, 700)
answers = st.one_of(
    st.builds(Answer, cut=cuts),
    st.builds(Answer, cut=cuts, chunked=st.just(value=True)),
    st.builds(Answer, cut=cuts, ignores_range=st.just(value=True)),
    st.builds(Answer, cut=cuts, shifted=st.integers(-3, 3)),
    st.builds(Answer, cut=cuts, shortened=st.integers(1, 9)),
    st.builds(Answer, cut=cuts, grown=st.integers(1, 9)),
    st.builds(Answer, cut=cuts, nameless=st.just(value=True)),
    st.builds(Answer, status=st.sampled_from([204, 302, 400, 401, 403, 404, 416, 429, 500, 503])),
    st.builds(Answer, fields=st.just(("Content-Encoding: gzip",))),
    st.builds(Answer, fields=st.just(("Content-Length: 1",))),
)
first = st.builds(Answer, cut=st.integers(0, 700), chunked=st.booleans())


@settings(max_examples=2 * settings().max_examples)
@given(
    blob=st.binary(min_size=1, max_size=600),
    plan=st.lists(answers, max_size=9),
    start=first,
    wanted=st.none() | st.tuples(st.integers(0, 20), st.none() | st.integers(20, 700)),
)
def test_every_byte_or_a_broken_body(
    blob: bytes,
    plan: list[Answer],
    start: Answer,
    wanted: tuple[int, int | None] | None,
) -> None:
    """Whatever happens on the way, no client gets a byte that is not the blob's, or out of place.

    It has either all of them, or an error after the first so many.
    """
    low, high = wanted or (0, None)
    low = min(low, len(blob) - 1)
    span = [("Range", f"bytes={low}-{'' if high is None else high}")] if wanted else []
    expected = blob[low:] if high is None else blob[low : high + 1]
    if start.chunked:  # nobody can tell that the blob grew
        plan = [replace(answer, grown=0) for answer in plan]
    hosts = Hosts(blob, [start, *plan])
    data, complete, lines = pull(hosts, *span)
    assert data == expected if complete else expected.startswith(data)
    assert len(hosts.at_registry) + len(hosts.at_cdn) <= 2 * (len(plan) + 9)
    assert SECRET not in "".join(lines)
    if len(plan) < 6 and not any(answer.chunked for answer in (start, *plan)):
        assert complete


@pytest.mark.parametrize("cut", [0, 1, 300, len(BLOB) - 1])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_the_same_url_first(cut: int, *, chunked: bool) -> None:
    """A cut body goes on from the CDN without a question to the registry."""
    hosts = Hosts(BLOB, [Answer(cut=cut * (6 if chunked else 1), chunked=chunked)])
    data, complete, lines = pull(hosts)
    assert (data, complete) == (BLOB, True)
    assert len(hosts.at_registry) == 1
    last = "" if chunked else str(len(BLOB) - 1)
    assert hosts.asked_for() == ["", f"bytes={cut}-{last}"]
    (line,) = resumed(lines)
    assert line.startswith("WARNING ")
    assert f"offset={cut} attempt=1 " in line
    assert line.endswith("/layer1")


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(Answer(status=403), id="expired"),
        pytest.param(Answer(status=404), id="gone"),
        pytest.param(Answer(status=503), id="ill"),
        pytest.param(Answer(status=302), id="moved"),
        pytest.param(Answer(shifted=1), id="start"),
        pytest.param(Answer(grown=1), id="total"),
        pytest.param(Answer(ignores_range=True, grown=1), id="total of a 200"),
        pytest.param(Answer(nameless=True), id="no Content-Range"),
        pytest.param(Answer(fields=("Content-Encoding: gzip",)), id="encoded"),
        pytest.param(Answer(fields=("Content-Length: 1",)), id="two lengths"),
    ],
)
def test_then_a_fresh_one(refusal: Answer) -> None:
    """What does not go on at its place is asked for at the registry, which signs another URL."""
    hosts = Hosts(BLOB, [Answer(cut=300), refusal])
    data, complete, lines = pull(hosts)
    assert (data, complete) == (BLOB, True)
    assert len(hosts.at_registry) == 2
    assert [head.split()[1].partition(b"?")[0] for head in hosts.at_cdn] == [
        b"/layer1", b"/layer1", b"/layer2",
    ]  # fmt: skip
    assert len(resumed(lines)) == 1


@pytest.mark.parametrize("cut", [None, 5, 299, 300, 301], ids=str)
def test_a_range_that_is_ignored(cut: int | None) -> None:
    """The whole blob is read and dropped up to where the client is."""
    hosts = Hosts(BLOB, [Answer(cut=300), Answer(ignores_range=True, cut=cut)])
    data, complete, _ = pull(hosts)
    assert (data, complete) == (BLOB, True)


@pytest.mark.parametrize(
    ("wanted", "expected", "asked"),
    [
        pytest.param("bytes=100-", BLOB[100:], "bytes=140-1023", id="open"),
        pytest.param("bytes=100-199", BLOB[100:200], "bytes=140-199", id="closed"),
        pytest.param("bytes=100-5000", BLOB[100:], "bytes=140-1023", id="beyond"),
    ],
)
def test_a_clients_own_range(wanted: str, expected: bytes, asked: str) -> None:
    """It goes on within itself, and its conditions are not asked for twice."""
    hosts = Hosts(BLOB, [Answer(cut=40, fields=(STRONG,))])
    data, complete, _ = pull(hosts, ("Range", wanted), ("If-Range", '"theirs"'))
    assert (data, complete) == (expected, True)
    assert hosts.asked_for() == [wanted, asked]
    assert hosts.asked_for("If-Range") == ['"theirs"', '"v1"']


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param((STRONG,), '"v1"', id="strong"),
        pytest.param((WEAK,), "", id="weak"),
        pytest.param((), "", id="none"),
    ],
)
def test_if_range(fields: tuple[str, ...], expected: str) -> None:
    """RFC 9110, section 13.1.5: a strong ETag, where the broken answer had one."""
    hosts = Hosts(BLOB, [Answer(cut=300, fields=fields)])
    pull(hosts)
    assert hosts.asked_for("If-Range") == ["", expected]


def test_another_representation() -> None:
    """If-Range did its work: what it kept back is not joined to what the client has."""
    other = Answer(ignores_range=True, blob=bytes(len(BLOB)), fields=('ETag: "v2"',))
    hosts = Hosts(BLOB, [Answer(cut=300, fields=(STRONG,)), other])
    data, complete, _ = pull(hosts)
    assert data == BLOB if complete else BLOB.startswith(data)


def test_a_whole_that_ends_before_the_part() -> None:
    """A part may tell no total; what is shorter than where that part ends is another blob."""
    other = Answer(ignores_range=True, blob=bytes(len(BLOB) - 1))
    hosts = Hosts(BLOB, [Answer(cut=40, no_total=True), other])
    data, complete, _ = pull(hosts, ("Range", "bytes=100-"))
    assert (data, complete) == (BLOB[100:], True)

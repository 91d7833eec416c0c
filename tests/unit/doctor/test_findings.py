"""docs/troubleshooting.md and the findings are the same things."""

import re
from pathlib import Path

from app.doctor.findings import DOCUMENT, FINDINGS

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / DOCUMENT).read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (.*)\n\n((?:(?!#).*\n)*)", TEXT, re.MULTILINE))
TESTS = [ROOT / "tests/integration/test_doctor.py", *Path(__file__).parent.glob("test_*.py")]


def test_each_finding_has_its_section() -> None:
    """Both ways: no finding without one, and no section of a finding that is none."""
    assert sorted(SECTIONS) == sorted(finding.title for finding in FINDINGS.values())
    assert len({finding.anchor for finding in FINDINGS.values()}) == len(FINDINGS)


def test_what_to_change_stands_there() -> None:
    """Each directive of nginx, and each setting, that the doctor names is in the section."""
    for finding in FINDINGS.values():
        section = SECTIONS[finding.title]
        assert section.strip(), finding
        assert finding.remedies
        for change in finding.remedies:
            for setting in re.findall(r"DOCXY_[A-Z_]+|FORWARDED_ALLOW_IPS|HTTPS_PROXY", change):
                assert setting in section, finding
            if change.startswith("nginx:"):
                for directive in re.findall(
                    r"([a-z_]{5,} [^;:(){}]+;)", change.removeprefix("nginx:")
                ):
                    assert directive in section, finding


def test_each_finding_is_found_by_a_test() -> None:
    """A check that nothing has ever failed is not known to work."""
    written = "".join(path.read_text(encoding="utf-8") for path in TESTS)
    named = {name for text in re.findall(r'"([a-z0-9 -]+)"', written) for name in text.split()}
    assert FINDINGS.keys() - named == set()

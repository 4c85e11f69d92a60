"""Fail if a test was skipped in all given pytest reports (--junitxml) and .ci/skips does not list it."""

import fnmatch
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

skips = Path(__file__).parent / "skips"
listed = {line.split()[0] for line in skips.read_text().splitlines() if line and not line.startswith("#")}
ran, skipped = set(), {}
for report in sys.argv[1:]:
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}".lstrip(":")
        reason = case.find("skipped")
        # Expected failures are reported as skipped too, but they ran.
        if reason is None or reason.get("type") == "pytest.xfail":
            ran |= {name, case.get("classname")}  # a module that is skipped as a whole has its name alone
        else:
            skipped[name] = reason.get("message")
missing = {
    name: reason
    for name, reason in skipped.items()
    if name not in ran and not any(fnmatch.fnmatchcase(name, pattern) for pattern in listed)
}
for name, reason in missing.items():
    print(f"skipped, and not named in .ci/skips: {name}: {reason}")
sys.exit(bool(missing))

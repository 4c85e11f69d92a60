"""Fail where pytest's reports (--junitxml) tell of a skip that .ci/skips does not name: check_skips.py REPORT..."""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

allowed = {
    line.split()[0]
    for line in (Path(__file__).parent / "skips").read_text().splitlines()
    if line and not line.startswith("#")
}
unlisted = []
for report in sys.argv[1:]:
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        name = f"{case.get('classname')}::{case.get('name')}".lstrip(":")
        # What is expected to fail is reported as skipped too, but is no hole.
        if skipped is not None and skipped.get("type") != "pytest.xfail" and name not in allowed:
            unlisted.append(f"{name}: {skipped.get('message')}")
for line in unlisted:
    print(f"skipped, and not named in .ci/skips: {line}")
sys.exit(bool(unlisted))

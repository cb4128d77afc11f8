"""Print one closing line for several pytest runs, from their JUnit files, as pytest words it."""

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree


def closing_line(failed_parts: int, reports: Path) -> str:
    """Add up the results in `reports`; a part that failed without a failed test counts as one."""
    counts: Counter[str] = Counter()
    seconds = 0.0
    for path in sorted(reports.glob("*.xml")):
        for suite in ElementTree.parse(path).iter("testsuite"):  # noqa: S314, pytest wrote it
            for kind in ("tests", "failures", "errors", "skipped"):
                counts[kind] += int(suite.get(kind, 0))
            seconds += float(suite.get("time", 0))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    failed = max(failed, failed_parts)
    return (
        f"==== {passed} passed, {failed} failed, {counts['skipped']} skipped in {seconds:.0f}s ===="
    )


if __name__ == "__main__":
    print(closing_line(int(sys.argv[1]), Path(sys.argv[2])))

"""The fault matrix's own machinery: rows, verdicts, the page."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.faults import newest, page, shown
from tests.conftest import ROOT

TESTS = '''\
"""A topic. More of it."""

import pytest

@pytest.mark.fault("quiet", expected="fails")
def test_that_says_nothing(): ...

@pytest.mark.fault("told", expected="a row")
def test_that_tells(seen):
    seen("it | went on", recovery_s=0.25)

@pytest.mark.fault("broken", expected="well")
def test_that_breaks(seen):
    assert 1 == 2, "one is not two"

@pytest.mark.fault("absent", expected="told")
def test_that_cannot_run(seen):
    pytest.skip("no gateway")

def test_of_nothing_in_the_matrix(): ...
'''


def rows_of(folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    shutil.copy(ROOT / "tests" / "faults" / "conftest.py", folder)
    (folder / "test_topic.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    fault\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder), "--faults-report", "rows.jsonl"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert (folder / "rows.jsonl").exists(), done.stdout + done.stderr
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len({row["fault"] for row in rows}) == len(rows) == 4
    return {row["fault"]: row for row in rows}


def test_every_fault_is_one_row_also_from_several_processes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "-n", "2")
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "quiet": "BROKEN",
        "told": "as expected",
        "broken": "BROKEN",
        "absent": "not run",
    }
    assert rows["told"]["recovery_s"] == 0.25
    assert {row["topic"] for row in rows.values()} == {"A topic. More of it"}
    assert "never called seen" in rows["quiet"]["seen"]
    assert "one is not two" in rows["broken"]["seen"]
    assert rows["absent"]["seen"] == "no gateway"


def test_what_there_is_can_be_listed_without_running_it(tmp_path: Path) -> None:
    assert {row["verdict"] for row in rows_of(tmp_path, "--collect-only").values()} == {"not run"}


def test_the_page_shows_what_was_seen_last_of_every_test_that_exists() -> None:
    def row(test: str, seen: str, verdict: str = "as expected") -> dict[str, Any]:
        words = {"topic": "A topic", "fault": f"fault {test}", "expected": "it goes on", "recovery_s": None}
        return {"test": test, "seen": seen, "verdict": verdict, "date": "2026-01-02", **words}

    existing = [row("b", "not run", "not run"), row("a", "not run", "not run")]
    rows = newest(existing, [row("a", "first"), row("gone", "x")], [row("a", "second | third")])
    assert [(one["test"], one["seen"]) for one in rows] == [("b", "not run"), ("a", "second | third")]
    assert newest(existing, rows, [row("a", "no gateway", "not run")])[1]["seen"] == "second | third"
    written = page(rows, "two cores")
    assert "2 faults: 1 not run, 1 as expected. Machine: two cores." in written
    assert "| fault a | it goes on | second \\| third |  | as expected, 2026-01-02 |" in written
    [back] = [row for row in shown(written) if row["fault"] == "fault a"]
    assert back == {key: value for key, value in rows[1].items() if key != "test"}
    assert page(newest(existing, shown(written)), "two cores") == written

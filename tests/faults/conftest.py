"""The fault matrix: every test in this folder is a row of docs/faults.md.

    @pytest.mark.fault("backend answers 500 for 10 s", expected="every event arrives, in order")
    def test_...(seen, ...):
        ...asserts...
        seen("41 of 41 events arrived", recovery_s=1.2)

A test of a fault that never says what it saw fails. `@pytest.mark.short` puts a row into `make faults-short`.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

Seen = Callable[..., None]
SEEN = pytest.StashKey[dict[str, Any]]()
ROW = "fault row"
"""The name under which a row travels in a test report: also from xdist's workers to the process that writes."""
VERDICTS = {"passed": "as expected", "failed": "BROKEN", "skipped": "not run"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults-report", type=Path, help="append a JSON line per fault here; with --collect-only: what there is"
    )


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Seen:
    """``seen(text, recovery_s=None)``: what this fault did, and how long it took until all was well again."""

    def say(text: str, recovery_s: float | None = None) -> None:
        request.node.stash[SEEN] = {"seen": text, "recovery_s": recovery_s}

    return say


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    if item.get_closest_marker("fault") and SEEN not in item.stash:
        pytest.fail("this test of a fault never called seen(...): its row in docs/faults.md would be empty")
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    ended_early = report.when == "setup" and report.outcome != "passed"
    if (report.when == "call" or ended_early) and (row := _row(item)):
        row |= {"verdict": VERDICTS[report.outcome]} | item.stash.get(SEEN, {})
        if report.outcome != "passed":
            row["seen"] = _reason(report)
        report.user_properties.append((ROW, row))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, row in report.user_properties:
        if name == ROW and report.when != "teardown":  # a later phase's report repeats the properties
            _write(row)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        for row in filter(None, map(_row, session.items)):
            _write(row | {"verdict": "not run", "seen": "not run"})


_report: Path | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that the user started writes; xdist's workers hand their reports to it."""
    global _report  # noqa: PLW0603  pytest_runtest_logreport is given no config
    _report = None if hasattr(config, "workerinput") else config.getoption("--faults-report")


def _row(item: pytest.Item) -> dict[str, Any] | None:
    """What is known of a fault before its test ran; None for any other test."""
    marker = item.get_closest_marker("fault")
    if marker is None:
        return None
    module = item.getparent(pytest.Module)
    title = ((module and module.obj.__doc__) or "").partition("\n")[0].rstrip(".:")
    return {
        "test": item.nodeid.partition("tests/faults/")[2] or item.nodeid,
        "topic": title or item.path.stem.removeprefix("test_"),
        "fault": marker.args[0],
        "expected": marker.kwargs["expected"],
        "recovery_s": None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _reason(report: pytest.TestReport) -> str:
    """One line of what pytest would show in full."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).strip().partition("\n")[0][:300]


def _write(row: dict[str, Any]) -> None:
    if _report:
        with _report.open("a") as file:
            file.write(json.dumps(row) + "\n")

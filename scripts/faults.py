"""`make faults`: runs the fault matrix and writes what was seen to docs/faults.md; `--short` only runs a part of it.

    python scripts/faults.py [test_file.py ...] [--short] [-- pytest's own options]

Rows of the files that were not named keep what the page says of them: what was seen when they ran last.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "faults"
PAGE = ROOT / "docs" / "faults.md"

Row = dict[str, Any]

HEAD = """\
# The fault matrix

Written by `make faults`: every row is a test in `tests/faults` that does the fault to a real job or to the part of it
that has to stand it, with real processes, signals, sockets and files. `make faults-short` runs a part of it in CI.

{counts}. Machine: {machine}. A time includes whatever else that machine was doing.
"""


def main() -> int:
    """The exit code of pytest."""
    parser = argparse.ArgumentParser(description="Runs the fault matrix and writes docs/faults.md.")
    parser.add_argument("files", nargs="*", help="only these files of tests/faults")
    parser.add_argument("--short", action="store_true", help="only what is marked short; writes nothing")
    known, options = parser.parse_known_args(_before_dashes(sys.argv[1:]))
    options += sys.argv[1:][sys.argv[1:].index("--") + 1 :] if "--" in sys.argv else []
    chosen = [str(TESTS / Path(name).name) for name in known.files] or [str(TESTS)]
    if known.short:
        return _pytest([*chosen, "-m", "short", *options])
    with tempfile.TemporaryDirectory() as folder:
        all_file, run_file = Path(folder, "all.jsonl"), Path(folder, "run.jsonl")
        code = _pytest([str(TESTS), "--collect-only", "--faults-report", str(all_file)], quiet=True)
        if code:
            return code
        code = _pytest([*chosen, "--faults-report", str(run_file), *options])
        rows = newest(_read(all_file), shown(PAGE.read_text()), _read(run_file))
    PAGE.write_text(page(rows, machine()))
    print(f"{PAGE.relative_to(ROOT)}: {counts(rows)}")
    return code


def newest(existing: list[Row], *runs: list[Row]) -> list[Row]:
    """One row for every fault that exists, as it was seen last; a run that left it out has not seen it."""
    seen = {_fault(row): row for rows in runs for row in rows if row["verdict"] == "not run"}
    seen |= {_fault(row): row for rows in runs for row in rows if row["verdict"] != "not run"}
    return [seen.get(_fault(row), row) for row in existing]


def page(rows: Iterable[Row], machine_kind: str) -> str:
    """The Markdown of docs/faults.md."""
    rows = list(rows)
    lines = [HEAD.format(counts=counts(rows), machine=machine_kind)]
    for topic in dict.fromkeys(row["topic"] for row in rows):
        lines += [f"## {topic}", "", "| fault | expected | seen | time to recover | verdict |", "|---|---|---|---|---|"]
        lines += [_line(row) for row in rows if row["topic"] == topic] + [""]
    return "\n".join(lines).rstrip() + "\n"


def shown(text: str) -> list[Row]:
    """The rows that a page shows."""
    rows: list[Row] = []
    topic = ""
    for line in text.splitlines():
        if line.startswith("## "):
            topic = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith("| fault |"):
            cells = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
            fault, expected, seen, took, verdict = (_unescaped(cell) for cell in cells)
            verdict, _, date = verdict.partition(", ")
            recovery_s = float(took.removesuffix(" s")) if took else None
            words = {"topic": topic, "fault": fault, "expected": expected}
            rows.append({**words, "seen": seen, "recovery_s": recovery_s, "verdict": verdict, "date": date})
    return rows


def counts(rows: list[Row]) -> str:
    """How many rows there are of each verdict."""
    verdicts = [row["verdict"] for row in rows]
    told = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    return f"{len(rows)} faults: {told}"


def machine() -> str:
    """Its kind: nothing that names it."""
    memory_gb = round(psutil.virtual_memory().total / 2**30)
    cores = len(os.sched_getaffinity(0))
    gpu = "with a GPU" if Path("/dev/nvidia0").exists() else "no GPU"
    return f"{platform.system()} on {platform.machine()}, {cores} cores, {memory_gb} GiB, {gpu}"


def _line(row: Row) -> str:
    took = "" if row["recovery_s"] is None else f"{row['recovery_s']:.1f} s"
    verdict = row["verdict"] + ("" if row["verdict"] == "not run" else f", {row['date']}")
    cells = (row["fault"], row["expected"], row["seen"], took, verdict)
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _fault(row: Row) -> tuple[str, ...]:
    """What a row is known by, on the page too."""
    return tuple(_unescaped(_escaped(row[word])) for word in ("topic", "fault", "expected"))


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _unescaped(cell: str) -> str:
    return cell.replace("\\|", "|").replace("&lt;", "<")


def _pytest(arguments: list[str], *, quiet: bool = False) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL if quiet else None, check=False).returncode


def _before_dashes(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


if __name__ == "__main__":
    sys.exit(main())

"""`make fuzz`: thousands of damaged annotation files through the converters' command line.

Every case must end with COCO files or with an error that we can name; never with another exception, a crash, a hang,
too much memory, or a file outside its folder. A case is its number and the seed: `--seed 1 --only 17` repeats it.
What failed is saved in workspace/fuzz/ as the damaged file and its traceback.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fuzz_cases import make_case, write_sources  # noqa: E402
from fuzz_worker import work  # noqa: E402

START_S = 120
"""For a worker's imports on a busy machine; then the time limit of a case begins."""
PROCESSES = multiprocessing.get_context("spawn")


def main() -> int:
    options = parse_arguments()
    options.failures.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    cases = [options.only] if options.only is not None else range(options.count)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        sources = write_sources(Path(folder) / "sources", options.data and options.data.resolve())
        outcomes = Counter(run_cases(list(cases), sources, Path(folder), options))
    took_s = time.monotonic() - started
    print_summary(outcomes, took_s)
    return 1 if any(outcome.startswith("FAILED") for outcome in outcomes) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="cases to try (default: 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="N", help="repeat this one case")
    parser.add_argument("--data", type=Path, help="a further DICE folder to damage, used in one case of twenty")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=float, default=20, metavar="S", help="a case that takes longer hangs")
    parser.add_argument("--failures", type=Path, default=ROOT / "workspace" / "fuzz", help="folder for what failed")
    return parser.parse_args()


@dataclass
class Worker:
    """A process that takes one case number at a time; it lives until a case kills it."""

    number: int
    connection: Connection
    process: Any
    log: Path
    case: int | None = None
    deadline_s: float = math.inf


def run_cases(cases: list[int], sources: list[Path], folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """The outcome of each case, as it comes in."""
    todo = cases[::-1]
    count = min(options.processes, len(cases))
    workers = [start_worker(number, sources, folder, options) for number in range(count)]
    done = 0
    while done < len(cases):
        wait([worker.connection for worker in workers], timeout=0.5)
        for place, worker in enumerate(workers):
            outcome = collect(worker)
            if outcome is None:
                continue
            if worker.case is not None:
                done += 1
                yield outcome if not outcome.startswith("FAILED") else save_failure(worker, outcome, sources, options)
                show_progress(done, len(cases))
            elif outcome.startswith("FAILED"):
                raise SystemExit(f"a worker does not start: {outcome}")
            if outcome.startswith("FAILED"):
                workers[place] = start_worker(worker.number, sources, folder, options)
            elif todo:
                worker.case, worker.deadline_s = todo.pop(), time.monotonic() + options.timeout
                worker.connection.send(worker.case)
            else:
                worker.case, worker.deadline_s = None, math.inf
    for worker in workers:
        stop(worker)


def show_progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {count}", end="" if done < count else "\n", file=sys.stderr, flush=True)


def start_worker(number: int, sources: list[Path], folder: Path, options: argparse.Namespace) -> Worker:
    ours, theirs = PROCESSES.Pipe()
    sandbox = folder / f"worker-{number}"
    rare_last = options.data is not None
    arguments = (theirs, sources, sandbox, options.seed, rare_last)
    process = PROCESSES.Process(target=work, args=arguments, daemon=True)
    process.start()
    theirs.close()
    return Worker(number, ours, process, sandbox / "log", deadline_s=time.monotonic() + START_S)


def collect(worker: Worker) -> str | None:
    """What became of the worker's case, None if it is still at it; a worker that failed is gone afterwards."""
    if worker.connection.poll():
        try:
            return str(worker.connection.recv())
        except EOFError:
            worker.process.join()
            signal = -(worker.process.exitcode or 0)
            return f"FAILED: died of signal {signal}" if signal > 0 else f"FAILED: {_last_line(worker)}"
    if time.monotonic() < worker.deadline_s:
        return None
    stop(worker)
    return "FAILED: no end in time"


def stop(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join()


def _last_line(worker: Worker) -> str:
    text = worker.log.read_text(errors="replace") if worker.log.exists() else ""
    lines = [line for line in text.splitlines() if line and not line[0].isspace()]
    return lines[-1][:200] if lines else "the process vanished"


def save_failure(worker: Worker, outcome: str, sources: list[Path], options: argparse.Namespace) -> str:
    """The damaged file, and what was said of it; returns the outcome."""
    documents = [json.loads(path.read_bytes()) for path in sources]
    case = make_case(options.seed, worker.case or 0, documents, rare_last=options.data is not None)
    name = options.failures / f"{options.seed}-{worker.case}"
    name.with_suffix(".json").write_bytes(case.raw)
    told = worker.log.read_text(errors="replace") if worker.log.exists() else ""
    name.with_suffix(".txt").write_text(f"{' '.join(case.arguments)}\n{outcome}\n{told}")
    print(f"case {worker.case}: {outcome}; {name}.json, repeat: --seed {options.seed} --only {worker.case}", flush=True)
    return outcome


def print_summary(outcomes: Counter[str], took_s: float) -> None:
    kinds = Counter[str]()
    for outcome, count in outcomes.items():
        kinds[outcome.split(":")[0]] += count
    codes = Counter[str]()
    for outcome, count in outcomes.items():
        if outcome.startswith("blocked: "):
            codes.update(dict.fromkeys(outcome.removeprefix("blocked: ").split(", "), count))
    total = outcomes.total()
    print(f"{total} cases in {took_s:.0f} s ({total / took_s:.0f} per second)")
    print(", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    print("blocked by " + (", ".join(f"{code}: {count}" for code, count in sorted(codes.items())) or "nothing"))
    for outcome, count in outcomes.most_common():
        if not outcome.startswith(("blocked", "converted")):
            print(f"  {count:6} {outcome}")


if __name__ == "__main__":
    sys.exit(main())

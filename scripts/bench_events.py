"""`make bench-events`: what telling the backend costs a training, whatever state the backend is in.

A loop stands for a training: an iteration is a fixed piece of work, and says what an iteration's hook says, every time
rather than twice a second. A second process stands for the job's parent: it reads that and tells the backend of every
iteration, with an epoch's numbers. The backend is healthy, slow (2 s a call), answers 500, hangs, or is dead; `none` is
a job without one. They take turns, so a machine that drifts is as slow for each. Prints a table.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmtrain.engine.messages import Iteration, MessageReader, MessageWriter  # noqa: E402
from tests.doubles.backend import ContractBackend  # noqa: E402
from trainer_sdk.delivery.backends import Backend, FileBackend  # noqa: E402
from trainer_sdk.delivery.http_backend import HttpBackend  # noqa: E402
from trainer_sdk.delivery.outbox import Outbox  # noqa: E402
from trainer_sdk.events import LogLine, Metrics, Progress  # noqa: E402
from trainer_sdk.workspace import write_json  # noqa: E402

STATES: dict[str, Callable[[ContractBackend], None]] = {
    "healthy": lambda backend: None,
    "slow": lambda backend: backend.delay(2.0),
    "500": lambda backend: backend.fail_next(100_000),
    "hanging": lambda backend: backend.hang(),
    "dead": lambda backend: backend.go_down(),
}
NONE = "none"
POLL_S = 0.2
"""As the job's parent looks (mmtrain/engine/launch.py)."""
LOG_EVERY = 50
Turn = dict[str, list[float]]


def main() -> int:
    options = parse_arguments()
    if options.part == "loop":
        loop(options.folder, options.iterations)
        return 0
    if options.part == "teller":
        teller(options.folder, options.url)
        return 0
    turns: dict[str, list[Turn]] = {state: [] for state in (NONE, *STATES)}
    order = list(turns)
    for number in range(options.rounds):
        for state in order:
            turns[state].append(one_turn(state, options.iterations))
            print(f"round {number + 1}, {state}: {1e3 * median(turns[state][-1]['cpu']):.3f} ms", file=sys.stderr)
        order = order[1:] + order[:1]
    write_json(options.json, {"load": os.getloadavg()[0], "cores": len(os.sched_getaffinity(0)), "turns": turns})
    report(turns)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=300, help="of a turn")
    parser.add_argument("--json", type=Path, default=ROOT / "workspace" / "bench_events.json")
    for name, kind in (("part", str), ("folder", Path), ("url", str)):  # of the two processes that are started
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    return parser.parse_args()


def one_turn(state: str, iterations: int) -> Turn:
    """A loop and a parent beside it, with a backend in this state."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, url = Path(name), ""
        if state != NONE:
            backend = stack.enter_context(ContractBackend([123]))
            STATES[state](backend)
            url = backend.url
        stack.enter_context(process("teller", folder, "--url", url))
        wait_for(folder / "telling")
        with process("loop", folder, "--iterations", str(iterations)) as running:
            running.wait()
        (folder / "over").touch()
        wait_for(folder / "told.json")
        return {**json.loads((folder / "loop.json").read_text()), **json.loads((folder / "told.json").read_text())}


@contextlib.contextmanager
def process(part: str, folder: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, __file__, "--part", part, "--folder", str(folder), *more]
    with subprocess.Popen(command) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        if time.monotonic() > deadline:
            sys.exit(f"{file.name} never came")
        time.sleep(0.02)


def loop(folder: Path, iterations: int) -> None:
    """The training: CPU and wall time of each iteration, and of what it says in it."""
    writer = MessageWriter(folder / "messages")
    work = os.urandom(2**23)
    costs: Turn = {"cpu": [], "wall": [], "say": []}
    for number in range(iterations):
        begun, cpu = time.perf_counter(), time.process_time()
        hashlib.sha256(work).digest()
        said = time.perf_counter()
        writer.say(Iteration(epoch=1, iteration=number + 1, loss=1.0 / (number + 1), lr=0.01))
        now = time.perf_counter()
        costs["say"].append(now - said)
        costs["wall"].append(now - begun)
        costs["cpu"].append(time.process_time() - cpu)
    write_json(folder / "loop.json", costs)


def teller(folder: Path, url: str) -> None:
    """The job's parent: how long each telling takes it."""
    backend: Backend = HttpBackend(url) if url else FileBackend()
    outbox = Outbox(folder, "123", backend)
    outbox.tell(LogLine(message="begun"))
    time.sleep(1.5)  # the backend is being talked to, waited for, or found dead
    reader = MessageReader(folder / "messages")
    (folder / "telling").touch()
    costs: list[float] = []
    while not (folder / "over").exists():
        for news in reader.news():
            assert isinstance(news, Iteration)
            begun = time.perf_counter()
            row = Metrics(loss=news.loss, learning_rate=news.lr, extra_metrics={"loss_cls": news.loss})
            percent = news.iteration / 10
            outbox.tell(Progress(current_epoch=news.iteration, total_epochs=999, progress_percent=percent, metrics=row))
            if news.iteration % LOG_EVERY == 0:
                outbox.tell(LogLine(message=f"iteration {news.iteration}"))
            costs.append(time.perf_counter() - begun)
        time.sleep(POLL_S)
    write_json(folder / "told.json", {"tell": costs})
    os._exit(0)  # what a slow backend has not heard is not what is measured


def report(turns: dict[str, list[Turn]]) -> None:
    """By CPU time, as a busy machine's wall time says little; a quiet iteration is the tenth percentile of all."""
    headings = ("backend", "quiet iteration", "more", "median", "more", "wall", "saying it", "telling it", "90 %")
    table = Table(*headings, box=box.SIMPLE)
    cpu, wall, say, tell = (pooled(turns, what) for what in ("cpu", "wall", "say", "tell"))
    for state in turns:
        quiet, middle = at(cpu[state], 0.1), at(cpu[state], 0.5)
        table.add_row(
            state,
            f"{1e3 * quiet:.2f} ms",
            f"{quiet / at(cpu[NONE], 0.1) - 1:+.1%}",
            f"{1e3 * middle:.2f} ms",
            f"{middle / at(cpu[NONE], 0.5) - 1:+.1%}",
            f"{1e3 * at(wall[state], 0.5):.1f} ms",
            f"{1e6 * at(say[state], 0.5):.0f} us",
            f"{1e6 * at(tell[state], 0.5):.0f} us",
            f"{1e6 * at(tell[state], 0.9):.0f} us",
        )
    Console(width=140).print(table)


def pooled(turns: dict[str, list[Turn]], what: str) -> dict[str, list[float]]:
    """All turns' figures, sorted."""
    return {state: sorted(cost for turn in all_turns for cost in turn[what]) for state, all_turns in turns.items()}


def at(costs: list[float], share: float) -> float:
    return costs[int(share * (len(costs) - 1))]


if __name__ == "__main__":
    sys.exit(main())

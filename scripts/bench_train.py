"""`make bench-train`: a job's training loop beside plain MMDetection, MMSegmentation and MMPose on the same config.

For each model a data set is drawn and a job of it started with `train.py`, for its config.py and its order to the
worker. Then two trainings from scratch live side by side, each under torchrun with the same threads: the job's worker,
and `Runner.from_cfg(config).train()` without us. They take turns, an epoch each (job, plain, plain, job, ...), so that
a machine that drifts is as slow for both. First epochs do not count. Prints a table, writes JSON.

On a busy machine, `--threads 1` and the CPU time of the training processes say more than wall time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmtrain.datasets.pose_shapes import write_arrows  # noqa: E402
from mmtrain.datasets.shapes import write_shapes  # noqa: E402
from mmtrain.engine.launch import worker_environment  # noqa: E402
from mmtrain.engine.messages import FitStarted, MessageReader, read_news  # noqa: E402
from mmtrain.engine.order import MESSAGES, ORDER, WorkerOrder  # noqa: E402
from mmtrain.engine.supervise import POLL_S, end_tree  # noqa: E402
from trainer_sdk.workspace import write_json  # noqa: E402

WORKSPACE = ROOT / "workspace" / "bench-train"
PICTURE = (640, 480)
WAYS = ("job", "plain")
SAY_EVERY_S = 0.5
"""As the hooks of the job (mmtrain/engine/hooks.py)."""


class Case(NamedTuple):
    """One framework."""

    draw: Callable[..., Path]
    task: str
    config: dict[str, Any]


CASES = {
    "rtmdet-tiny": Case(write_shapes, "object_detection", {"imgsz": 320, "batch": 8}),
    "segformer-b0": Case(
        partial(write_shapes, task="semantic_segmentation"), "semantic_segmentation", {"imgsz": 256, "batch": 8}
    ),
    "pidnet-s": Case(
        partial(write_shapes, task="semantic_segmentation"), "semantic_segmentation", {"imgsz": 256, "batch": 8}
    ),
    "rtmpose-t": Case(partial(write_arrows, most=1), "pose_estimation", {"imgsz": [192, 256], "batch": 16}),
}
HEADINGS = ("model", "job", "plain", "more", "quartiles", "epoch", "CPU", "job waits", "plain waits", "own hooks")
Epoch = dict[str, Any]


def main() -> int:
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the trainings end with us
    hooks = json.loads(subprocess.run([sys.executable, ROOT / "scripts/bench_hooks.py"], check=True, stdout=-1).stdout)
    result = {"machine": machine(), "hooks": hooks, "options": {**vars(options), "json": None}, "models": {}}
    print(json.dumps(result["machine"]))
    for model in options.models:
        measured = compare(model, options)
        result["models"][model] = measured | {"summary": summary(measured["epochs"])}
        write_json(options.json, result)
    report(result)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    models = ["rtmdet-tiny", "segformer-b0", "rtmpose-t"]
    parser.add_argument("--models", nargs="+", choices=CASES, default=models)
    parser.add_argument("--rounds", type=int, default=10, help="pairs of epochs that count")
    parser.add_argument("--iterations", type=int, default=12, help="of an epoch")
    parser.add_argument("--workers", type=int, default=2, help="data loading processes of each training")
    parser.add_argument("--threads", type=int, help="of each training; default: as many as the job plans")
    parser.add_argument("--json", type=Path, default=ROOT / "workspace" / "bench_train.json")
    options = parser.parse_args()
    if min(options.rounds, options.iterations) < 2:
        parser.error("--rounds and --iterations: at least 2, the first of an epoch does not count")
    return options


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "commit": commit.stdout.strip() + (" and changes" if changed.stdout.strip() else ""),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def compare(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """The epochs of both ways, warm-up included."""
    folder = WORKSPACE / model
    shutil.rmtree(folder, ignore_errors=True)
    order = order_of_a_job(model, folder, options)
    threads = order.plan.threads.value
    costs: dict[str, list[Epoch]] = {way: [] for way in WAYS}
    with contextlib.ExitStack() as stack:
        trainings = {way: stack.enter_context(training(way, folder / way, threads)) for way in WAYS}
        for number in range(options.rounds + 1):
            for way in WAYS if number % 2 else reversed(WAYS):
                costs[way].append(trainings[way](number))
            pair = [f"{way} {costs[way][-1]['epoch_s']:.2f} s" for way in WAYS]
            print(f"{model}, epoch {number}: {', '.join(pair)}", file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    return {"threads": threads, "batch": order.plan.batch.value, "load_after": load, "epochs": costs}


def order_of_a_job(model: str, folder: Path, options: argparse.Namespace) -> WorkerOrder:
    """Starts a job, waits until its worker trains, ends it, and lays out what it ordered for both ways."""
    case = CASES[model]
    data = case.draw(
        folder / "data", counts={"train": options.iterations * case.config["batch"], "val": 2, "test": 2}, size=PICTURE
    )
    common = {"device": "cpu", "pretrained": False, "workers": options.workers}
    config = case.config | common | {"epochs": 100, "val_interval": 100, "checkpoint_interval": 1}
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "WORKSPACE_DIR": str(folder),
        "JOB_ID": "job",
        "MODEL_NAME": model,
        "TASK_TYPE": case.task,
        "DATASET_PATH": str(data),
        "CONFIG": json.dumps(config),
    }
    home = folder / "job"
    with (folder / "train.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, ROOT / "train.py"], env=environment, stdout=log, stderr=log)
        while not any(isinstance(news, FitStarted) for news in read_news(home / "work" / MESSAGES)):
            if process.poll() is not None:
                sys.exit(f"the job of {model} ended before it trained: see {log.name}")
            time.sleep(POLL_S)
        process.send_signal(signal.SIGTERM)
        process.wait()
    order = WorkerOrder.model_validate_json((home / "work" / ORDER).read_bytes())
    if options.threads:
        threads = order.plan.threads.model_copy(update={"value": options.threads})
        order = order.model_copy(update={"plan": order.plan.model_copy(update={"threads": threads})})
    shutil.rmtree(home / "work")
    write_json(home / "work" / ORDER, {**order.model_dump(mode="json"), "parent": os.getpid()})
    (folder / "plain").mkdir()
    shutil.copy(home / "config.py", folder / "plain")
    return order


@contextlib.contextmanager
def training(way: str, folder: Path, threads: int) -> Iterator[Callable[[int], Epoch]]:
    """A living training; the function that it gives runs its next epoch and returns what that cost."""
    worker = [ROOT / "scripts" / "bench_train_worker.py", way, folder]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", *map(str, worker)]
    environment = worker_environment(os.environ, threads=threads, gpus=())
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    reader = MessageReader(folder / "work" / MESSAGES) if way == "job" else None

    def next_epoch(number: int) -> Epoch:
        (folder / f"go-{number}").touch()
        while not (written := folder / f"epoch-{number}.json").exists():
            if process.poll() is not None:
                sys.exit(f"the {way} training ended early: see {folder / 'log'}")
            if reader is not None:
                reader.news()  # as the job's parent does
            time.sleep(POLL_S)
        cost: Epoch = json.loads(written.read_text())
        return cost

    try:
        yield next_epoch
    finally:
        end_tree(process)


def report(result: dict[str, Any]) -> None:
    """The table. Ratios are of neighbouring epochs; their median counts, the quartiles say how sure it is."""
    hooks, table = result["hooks"], Table(*HEADINGS, box=box.SIMPLE)
    for model, measured in result["models"].items():
        numbers = measured["summary"]
        seconds, shares = numbers["iteration_s"], numbers["data_share"]
        own = (hooks["iteration_us"] / seconds["plain"] + hooks["half_second_us"] / SAY_EVERY_S) / 1e6
        more = [f"{numbers[f'{name}_more']:+.1%}" for name in ("iteration", "epoch", "cpu")]
        spread = "{:+.1%} to {:+.1%}".format(*numbers["iteration_more_quartiles"])
        times = [f"{1e3 * seconds[way]:.0f} ms" for way in WAYS]
        table.add_row(model, *times, more[0], spread, *more[1:], *(f"{shares[way]:.1%}" for way in WAYS), f"{own:.3%}")
    Console(width=max(140, shutil.get_terminal_size().columns)).print(table)
    print(
        f"own hooks: {hooks['iteration_us']} us an iteration, {hooks['half_second_us']} us twice a second, "
        f"{hooks['picture_us']} us a picture in the loading processes"
    )


def summary(epochs: dict[str, list[Epoch]]) -> dict[str, Any]:
    """Without the first epoch, and of the others' iterations without the first, in which loading starts anew."""
    counted = {way: epochs[way][1:] for way in WAYS}
    middles = {way: [median(epoch["time"][1:]) for epoch in counted[way]] for way in WAYS}
    more = {
        "iteration": [job / plain - 1 for job, plain in zip(*middles.values(), strict=True)],
        "epoch": [job["epoch_s"] / plain["epoch_s"] - 1 for job, plain in zip(*counted.values(), strict=True)],
        "cpu": [sum(job["cpu"]) / sum(plain["cpu"]) - 1 for job, plain in zip(*counted.values(), strict=True)],
    }
    first, _, third = quantiles(more["iteration"], n=4)
    return {
        "iteration_s": {way: median(middles[way]) for way in WAYS},
        "iteration_more": median(more["iteration"]),
        "iteration_more_quartiles": [first, third],
        "epoch_more": median(more["epoch"]),
        "cpu_more": median(more["cpu"]),
        "data_share": {
            way: sum(sum(epoch["data_time"]) for epoch in counted[way])
            / sum(sum(epoch["time"]) for epoch in counted[way])
            for way in WAYS
        },
    }


if __name__ == "__main__":
    sys.exit(main())

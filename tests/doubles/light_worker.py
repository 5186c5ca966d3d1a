"""A worker that trains in seconds and without torch: for the trainer's half of a job, at many moments.

It keeps what the real one promises: the same files and messages, an order of numbers that cannot be taken up anywhere
but where it was left, checkpoints that are there whole or not at all, and a process that loads data. Its weights are a
few numbers.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmtrain.engine.messages import (
    EpochEnd,
    Finished,
    FitStarted,
    Iteration,
    MessageWriter,
    Predicting,
    Validated,
    Validating,
)
from mmtrain.engine.order import ERROR, INTERRUPTED, MESSAGES, ORDER, RESUMABLE, STOP, WorkerOrder
from mmtrain.engine.stopping import StopRequest, heed_only_the_parent
from mmtrain.engine.watchdog import show_stacks_on_request
from trainer_sdk.errors import Interrupted
from trainer_sdk.workspace import WORKER_LOCK, take_lock, write_atomically, write_json

STEP_S = 0.25
State = dict[str, Any]


def main(work: Path) -> int:
    show_stacks_on_request()
    lock = take_lock(work.parent / WORKER_LOCK)
    order = WorkerOrder.model_validate_json((work / ORDER).read_bytes())
    load = loading_process()
    stop = StopRequest(work / STOP, order.parent)
    stop.listen()
    try:
        stop.check()
        train(order, work, stop, load)
    except Interrupted as error:
        record = {"type": "Interrupted", "message": error.message, "hint": "", "traceback": traceback.format_exc()}
        write_json(work / ERROR, record)
        return 1
    finally:
        if lock is not None:
            lock.close()
    return 0


def train(order: WorkerOrder, work: Path, stop: StopRequest, load: Callable[[], float]) -> None:
    epochs, per_epoch = order.plan.epochs.value, order.plan.iters_per_epoch.value
    writer = MessageWriter(work / MESSAGES)
    state = newest(work, order.fingerprint) or {
        "fingerprint": order.fingerprint, "weights": [0.0] * 8, "iteration": 0, "best": -1.0, "best_epoch": 0,
        "best_weights": [],
    }  # fmt: skip
    begun = state["iteration"]
    writer.say(
        FitStarted(epochs=epochs, iters=epochs * per_epoch, parameters=8, done_epochs=begun // per_epoch,
                   done_iters=begun)
    )  # fmt: skip
    if begun and begun % per_epoch == 0:
        validate(state, begun // per_epoch, work, writer, stop)
    while state["iteration"] < epochs * per_epoch:
        number = state["iteration"]
        drawn = np.random.default_rng((order.plan.seed.value, number)).normal(size=8) + load()
        state["weights"] = list(np.asarray(state["weights"]) * 0.9 + drawn)
        state["iteration"] = number + 1
        epoch = number // per_epoch + 1
        writer.say(Iteration(epoch=epoch, iteration=number + 1, loss=float(drawn[0]), lr=0.1))
        if stop.asked():
            leave(state, work)
        if state["iteration"] % per_epoch == 0:
            save(state, work / f"epoch_{epoch}.pth")
            writer.say(EpochEnd(epoch=epoch, iteration=number + 1, losses={"loss": float(drawn[0])}, lr=0.1))
            validate(state, epoch, work, writer, stop)
    publish(state, epochs, work)
    for done in range(1, 4):
        time.sleep(STEP_S)
        stop.check()
        writer.say(Predicting(split="val", done=done, total=3))
    (work / "predictions_val.json").write_text("[]")
    writer.say(Finished(best_epoch=state["best_epoch"], epochs=epochs, train_s=1.0))


def validate(state: State, epoch: int, work: Path, writer: MessageWriter, stop: StopRequest) -> None:
    for done in range(1, 4):
        time.sleep(STEP_S)
        if stop.asked():
            leave(state, work)
        writer.say(Validating(epoch=epoch, done=done, total=3))
    score = abs(float(np.sin(sum(state["weights"]))))
    better = score > state["best"]
    if better:
        state |= {"best": score, "best_epoch": epoch, "best_weights": state["weights"]}
    writer.say(Validated(epoch=epoch, metrics={"coco/bbox_mAP": score, "coco/bbox_mAP_50": score}, best=better))


def publish(state: State, epochs: int, work: Path) -> None:
    save({"weights": state["best_weights"], "epoch": state["best_epoch"]}, work.parent / "out" / "best.pth")
    save({"weights": state["weights"], "epoch": epochs}, work.parent / "out" / "last.pth")
    (work.parent / "config.py").write_text("# by the light worker\n")


def leave(state: State, work: Path) -> None:
    save(state, work / INTERRUPTED)
    raise Interrupted("the parent asked to stop")


def save(state: State, path: Path) -> None:
    """As a file that looks like torch's."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", json.dumps(state))
    write_atomically(path, content.getvalue())


def read(path: Path) -> State:
    with zipfile.ZipFile(path) as archive:
        return dict(json.loads(archive.read("archive/data.pkl")))


def newest(work: Path, fingerprint: str) -> State | None:
    found = [path for pattern in RESUMABLE for path in work.glob(pattern)]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if (state := read(path))["fingerprint"] == fingerprint:
            return state
    return None


def loading_process() -> Callable[[], float]:
    """A forked child that hands over a number for every iteration; the training ends with an error when it is gone."""
    asks, answers = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(asks[1])
        heed_only_the_parent()
        while os.read(asks[0], 1):
            time.sleep(STEP_S)
            os.write(answers[1], b"1")
        os._exit(0)
    os.close(asks[0])
    os.close(answers[1])

    def load() -> float:
        os.write(asks[1], b"?")
        if not os.read(answers[0], 1):
            raise RuntimeError("the loading process died")
        return 1.0

    return load


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

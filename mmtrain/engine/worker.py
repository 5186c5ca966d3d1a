"""The heavy process: files of the job folder in, checkpoints and predictions out. Started by torchrun."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from mmtrain import compat
from mmtrain.config.build import beyond_config, build_config, without_templates
from mmtrain.datasets.stream import StreamedImages, open_stream
from mmtrain.engine.classify import classify, error_record
from mmtrain.engine.messages import Finished, MessageWriter, Predicting
from mmtrain.engine.order import ERROR, MESSAGES, ORDER, STOP, WorkerOrder
from mmtrain.engine.place import Place, SiblingDied
from mmtrain.engine.stopping import StopRequest
from mmtrain.engine.watchdog import show_stacks_on_request
from mmtrain.recipes import load_recipe
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import WORKER_LOCK, take_lock, write_json

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from torch import nn

BY_HAND = """\
# The images are in a bucket. To run this by hand: set EXTERNAL_STORAGE_ENDPOINT, _ACCESS_KEY and _SECRET_KEY, then, in
# the trainer's repository, `python -m mmtrain.engine.by_hand <this file>`.
"""


def main(work_dir: Path) -> int:
    """The process: exit code 0, or 1 with an error record for the parent."""
    show_stacks_on_request()
    place = Place.of(os.environ)
    # Held until this process ends: a rerun after a killed parent waits for its orphan.
    lock = take_lock(work_dir.parent / WORKER_LOCK) if place.first_here else None
    try:
        order = WorkerOrder.model_validate_json((work_dir / ORDER).read_bytes())
        stop = StopRequest(work_dir / STOP, order.parent)
        stop.listen()
        stop.check()
        run(order, work_dir, place, stop)
    except SiblingDied:
        traceback.print_exc()
        return 1
    except Exception as error:  # noqa: BLE001 - the process boundary: whatever it is, the parent makes it the outcome
        traceback.print_exc()
        if not (work_dir / ERROR).exists():  # by another process of this machine
            write_json(work_dir / ERROR, error_record(error))
        return 1
    finally:
        if lock is not None:
            lock.close()
    return 0


def run(order: WorkerOrder, work_dir: Path, place: Place, stop: StopRequest) -> None:
    """Trains with all others; the first takes the best checkpoint, and lets it predict every evaluated split."""
    import torch

    compat.apply()
    plan, recipe = order.plan, load_recipe(order.plan.recipe, order.plan.task)
    compat.import_framework(recipe.base.partition("::")[0])
    from mmtrain.engine import stream
    from mmtrain.engine.alarm import failing_together
    from mmtrain.engine.checkpoints import describe, publish_curves, publish_resumable, publish_weights
    from mmtrain.engine.fit import fit, runnable, upstream_config
    from mmtrain.engine.infer import load_weights
    from mmtrain.engine.safe_load import let_mmengine_load_safely
    from mmtrain.engine.saving import let_mmengine_save_atomically
    from mmtrain.engine.team import Team

    let_mmengine_load_safely()
    let_mmengine_save_atomically()
    torch.set_num_threads(order.plan.threads.value)
    if order.plan.deterministic.value:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses to be deterministic
    job_dir = work_dir.parent
    config = runnable(build_config(upstream_config(recipe), recipe, plan, order.files, work_dir))
    if place.first:
        apart = str(job_dir / "by_hand")  # spares the job's own checkpoints
        by_hand = runnable({**config.to_dict(), "work_dir": apart})
        (job_dir / "config.py").write_text(without_templates(by_hand.pretty_text), encoding="utf-8")
        _prepend(beyond_config(plan, config.to_dict()), job_dir / "config.py")
    description = describe(plan, without_templates(config.pretty_text), order.dataset, order.fingerprint)
    if isinstance(order.files.images, StreamedImages):
        if place.first:
            _prepend(BY_HAND, job_dir / "config.py")
        stream.register(open_stream(Settings.from_env(os.environ).datasets, order.files.images))
        stream.read_ahead(config)
    writer = MessageWriter(work_dir / MESSAGES) if place.first else None
    with failing_together(place, work_dir, os.environ, classify):
        team = Team.of(place, gpus=bool(plan.gpus), timeout_s=order.patience_s)
        team.agree(order.facts)
        fitted = fit(config, plan, description, writer=writer, stop=stop, team=team)
        team.part()
    finished = Finished(best_epoch=fitted.best_epoch, epochs=fitted.epochs, train_s=fitted.train_s)
    if writer is None:
        if place.first_here:
            MessageWriter(work_dir / MESSAGES).say(finished)
        return
    publish_weights(fitted.best, job_dir / "out" / "best.pth", description, {"epoch": fitted.best_epoch})
    publish_curves(work_dir, job_dir / "out" / "tensorboard")
    publish_resumable(fitted.last, job_dir / "out" / "last.pth", {"epoch": fitted.epochs})
    model = load_weights(fitted.runner, job_dir / "out" / "best.pth")
    for split in ["val", "test"] if order.files.test else ["val"]:
        _predict(split, fitted.runner, model, plan.task, work_dir, writer, stop)
    writer.say(finished)


def _predict(
    split: str,
    runner: Runner,
    model: nn.Module,
    task: Task,
    work_dir: Path,
    writer: MessageWriter,
    stop: StopRequest,
) -> None:
    """Leaves what the model sees in every picture of a split."""
    from mmtrain.engine.infer import predict, predict_masks

    loader = runner.cfg[f"{split}_dataloader"]

    def report(done: int, total: int) -> None:
        stop.check()
        writer.say(Predicting(split=split, done=done, total=total))

    if task is Task.SEMANTIC:
        predict_masks(runner, model, loader, work_dir / f"predictions_{split}", report=report)
    else:
        rows = predict(runner, model, loader, report=report)
        (work_dir / f"predictions_{split}.json").write_bytes(orjson.dumps(rows))


def _prepend(note: str, file: Path) -> None:
    file.write_text(note + file.read_text())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

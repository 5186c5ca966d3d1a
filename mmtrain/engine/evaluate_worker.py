"""Lets a model predict one split as its training did: ``python -m mmtrain.engine.evaluate_worker <work>``."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import orjson

from mmtrain.engine.messages import MessageWriter, Progressed, Remark
from mmtrain.engine.order import PREDICTIONS, EvaluateOrder
from mmtrain.engine.serving import serve
from trainer_sdk.tasks import Task


def run(order: EvaluateOrder, work_dir: Path, writer: MessageWriter) -> None:
    """Leaves what the model sees. Raises: CheckpointError, ConfigError."""
    import torch
    from mmengine.runner import Runner

    from mmtrain.config.build import TASKS
    from mmtrain.engine.infer import predict, predict_masks
    from mmtrain.engine.model_of import load_source

    torch.set_num_threads(order.threads)
    loaded = load_source(order.source)
    plan = loaded.plan.model_copy(update={"class_names": order.class_names})
    pipeline = loaded.cfg.to_dict()["test_dataloader"]["dataset"]["pipeline"]
    loader: dict[str, Any] = {
        # Pictures of different shapes would be padded to each other, which changes their results a little.
        "batch_size": (order.batch or plan.batch.value) if loaded.recipe.letterbox else 1,
        "num_workers": order.workers,
        "drop_last": False,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": TASKS[plan.task].dataset(plan, order.files, "val", pipeline),
    }

    def report(done: int, total: int) -> None:
        writer.say(Progressed(what="evaluating", done=done, total=total))

    target = work_dir / PREDICTIONS
    if loaded.task is Task.SEMANTIC:
        predict_masks(Runner, loaded.model, loader, target, labels=order.labels, report=report)
        return
    rows, strange = without_nan(predict(Runner, loaded.model, loader, report=report))
    if strange:  # of a model that diverged; a report has no place for them
        writer.say(Remark(text=f"{strange} predictions are no numbers and are left out", level="WARNING"))
    if loaded.task is not Task.POSE or loaded.recipe.one_stage:  # else its class is its box's, as the data have it
        rows = [{**row, "category_id": order.labels[row["category_id"]]} for row in rows]
    target.with_suffix(".json").write_bytes(orjson.dumps(rows))


def without_nan(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Rows that are numbers all through, and how many are not."""
    sound = [row for row in rows if all(map(math.isfinite, (row["score"], *row["bbox"], *row.get("keypoints", ()))))]
    return sound, len(rows) - len(sound)


if __name__ == "__main__":
    sys.exit(serve(run, EvaluateOrder, Path(sys.argv[1])))

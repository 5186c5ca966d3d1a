"""A complete MMEngine configuration from upstream's, the plan and the data: plain dicts in, a plain dict out.

No torch and no mm* here. Nothing of ours is named in the result: `Runner.from_cfg(config).train()` runs it by hand.
Pipelines are composed from the plan instead of patched into upstream's, so that one input size reaches every
transform of training, validation and test.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol, cast

from mmtrain.config import detection, pose, semantic
from mmtrain.config.files import DatasetFiles, Split
from mmtrain.config.schedule import (
    custom_hooks,
    default_hooks,
    optim_wrapper,
    randomness,
    schedule,
    switch_pipeline,
    train_loop,
    without_strong,
)
from mmtrain.config.slots import parts
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from trainer_sdk.tasks import Task

Dict = dict[str, Any]

START = "start.pth"
"""What of the weights fits this model; the worker writes it before the training loads it."""

VIS_BACKENDS = ("LocalVisBackend", "TensorboardVisBackend")
"""MMEngine's own scalars.json, and TensorBoard's event files; both below ``<work_dir>/<time>/vis_data``."""


MENDED = {
    "FixShapeResize": "boxes that move exactly as their pictures do",
    "OhemCrossEntropy": "a loss of 0 instead of NaN where no pixel is hard",
    "Albu": "albumentations drawn from the seed",
    "Albumentation": "albumentations drawn from the seed",
}
"""Parts of a configuration that `mmtrain/compat.py` changes for the better, and how."""
CPU_WRAPPER = {"type": "MMDistributedDataParallel", "broadcast_buffers": False, "device_ids": None}
"""MMEngine's own, which takes every process to have a GPU."""


class TaskConfig(Protocol):
    """What depends on the task; one module each."""

    def build_model(self, model: Dict, recipe: Recipe, plan: TrainPlan) -> Dict:
        """Upstream's model for our classes."""

    def train_pipeline(self, recipe: Recipe, plan: TrainPlan) -> list[Dict]:
        """With augmentation."""

    def test_pipeline(self, recipe: Recipe, plan: TrainPlan) -> list[Dict]:
        """Without; what predictions will see."""

    def dataset(self, plan: TrainPlan, files: DatasetFiles, split: Split, pipeline: list[Dict]) -> Dict:
        """One split."""

    def evaluator(self, plan: TrainPlan, files: DatasetFiles, split: Split) -> Dict | list[Dict]:
        """What is measured while training."""


TASKS: dict[Task, TaskConfig] = {
    Task.DETECTION: cast("TaskConfig", detection),
    Task.INSTANCE: cast("TaskConfig", detection),
    Task.SEMANTIC: cast("TaskConfig", semantic),
    Task.POSE: cast("TaskConfig", pose),
}


def build_config(base: Dict, recipe: Recipe, plan: TrainPlan, files: DatasetFiles, work_dir: Path) -> Dict:
    """The configuration of one training."""
    task = TASKS[recipe.task]
    return {
        "default_scope": base["default_scope"],
        **({"custom_imports": base["custom_imports"]} if "custom_imports" in base else {}),
        "model": _model(base, recipe, plan, files),
        "train_dataloader": _train_loader(base, recipe, plan, files),
        "val_dataloader": _eval_loader(recipe, plan, files, "val"),
        "test_dataloader": _eval_loader(recipe, plan, files, "test"),
        "val_evaluator": _evaluator(plan, task.evaluator(plan, files, "val")),
        "test_evaluator": _evaluator(plan, task.evaluator(plan, files, "test")),
        "train_cfg": train_loop(plan),
        "val_cfg": {"type": "ValLoop"},
        "test_cfg": {"type": "TestLoop"},
        "optim_wrapper": optim_wrapper(base["optim_wrapper"], plan),
        "param_scheduler": schedule(plan),
        "default_hooks": default_hooks(plan),
        "custom_hooks": [
            *custom_hooks(plan),
            *switch_pipeline(plan, task.train_pipeline(recipe, without_strong(plan))),
        ],
        "env_cfg": {
            # pays off only when every batch has one shape, and is another algorithm in every run
            "cudnn_benchmark": recipe.letterbox and bool(plan.gpus) and not plan.deterministic.value,
            "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
            "dist_cfg": {"backend": "nccl" if plan.gpus else "gloo"},
        },
        "log_processor": {"type": "LogProcessor", "window_size": 50, "by_epoch": True},
        "log_level": "INFO",
        "visualizer": {**base["visualizer"], "vis_backends": [{"type": kind} for kind in VIS_BACKENDS]},
        "randomness": randomness(plan),
        **({"compile": True} if plan.compile.value else {}),
        "load_from": str(work_dir / START) if plan.weights_file else None,
        "resume": False,
        **_processes(recipe, plan),
        "work_dir": str(work_dir),
    }


def _processes(recipe: Recipe, plan: TrainPlan) -> Dict:
    """How MMEngine starts; as one of several, what DistributedDataParallel has to know."""
    if plan.devices == 1:
        return {"launcher": "none"}
    unused = {"find_unused_parameters": recipe.idle_without_objects}
    return {"launcher": "pytorch", **(unused if plan.gpus else {"model_wrapper_cfg": CPU_WRAPPER | unused})}


def _evaluator(plan: TrainPlan, metrics: Dict | list[Dict]) -> Dict | list[Dict]:
    """What the processes found is sent: MMEngine's usual way is files, in a folder that all nodes would share."""
    if plan.devices == 1:
        return metrics
    if isinstance(metrics, list):
        return [{**metric, "collect_device": "gpu"} for metric in metrics]
    return {**metrics, "collect_device": "gpu"}


def _model(base: Dict, recipe: Recipe, plan: TrainPlan, files: DatasetFiles) -> Dict:
    model = TASKS[recipe.task].build_model(base["model"], recipe, plan)
    for part in parts(model):
        if "metainfo" in part:  # MMPose's: RTMO's loss and assigner read the sigmas of the points from a file
            part["metainfo"] = str(files.keypoint_layout)
    return model


def beyond_config(plan: TrainPlan, config: Dict) -> str:
    """A comment for config.py on what the trainer does besides, since a configuration has no words for it."""
    done = [f"freeze={list(plan.freeze.value)}"] if plan.freeze.value else []
    done += ["channels_last=True"] if plan.channels_last.value else []
    kinds = {str(part.get("type")).rpartition(".")[2] for part in parts(config)}
    done += [words for kind, words in MENDED.items() if kind in kinds]
    several = f"# For torchrun with {plan.devices} processes: batch_size is each one's.\n" if plan.devices > 1 else ""
    return several + (f"# The trainer did this besides, a run by hand does not: {', '.join(done)}.\n" if done else "")


def without_templates(text: str) -> str:
    """A config file's text in which MMEngine, which replaces ``{{ ... }}`` before it reads the file, finds nothing of
    that: a class may be called ``{{$HOME:}}``. In such a text, two braces in a row stand in literals only."""
    return re.sub(r"\{(?=\{)", r"\\x7b", text)


def _train_loader(base: Dict, recipe: Recipe, plan: TrainPlan, files: DatasetFiles) -> Dict:
    task = TASKS[recipe.task]
    dataset = task.dataset(plan, files, "train", task.train_pipeline(recipe, plan))
    if plan.balanced_sampling.value:
        oversample = plan.balanced_sampling.value
        dataset = {"type": "ClassBalancedDataset", "oversample_thr": oversample, "dataset": dataset}
    return {
        "batch_size": plan.batch.value // plan.devices,
        "num_workers": plan.workers.value,
        "persistent_workers": plan.workers.value > 0,
        "pin_memory": bool(plan.gpus),
        "drop_last": plan.drop_last.value,
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "batch_sampler": base["train_dataloader"].get("batch_sampler"),
        "dataset": dataset,
    }


def _eval_loader(recipe: Recipe, plan: TrainPlan, files: DatasetFiles, split: Split) -> Dict:
    task = TASKS[recipe.task]
    return {
        # Pictures of different shapes would be padded to each other, which changes their results a little.
        "batch_size": plan.batch.value // plan.devices if recipe.letterbox else 1,
        "num_workers": plan.workers.value,
        "persistent_workers": plan.workers.value > 0,
        "drop_last": False,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
        "dataset": task.dataset(plan, files, split, task.test_pipeline(recipe, plan)),
    }

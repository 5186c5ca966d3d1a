"""How much memory some iterations need. Model, optimizer, average and pipeline are the training's.

The pictures are those with most objects.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from mmtrain.config.build import build_config
from mmtrain.config.schedule import EMA
from mmtrain.config.slots import innermost
from mmtrain.engine.classify import classify
from mmtrain.engine.fit import prepared_runner, runnable, upstream_config
from mmtrain.engine.order import ProbeOrder, Tried
from mmtrain.machine import MemoryLimit, memory_limit, peak_rss_bytes
from mmtrain.recipes import load_recipe
from trainer_sdk.errors import OutOfMemory

ITERATIONS = 3
"""The optimizer has its state from the first on, so that the second is as large as any."""
PICTURES = 8
"""At least so many are shown: a mosaic begins when it has seen four others."""
LOOKED_THROUGH = 5000
"""Pictures whose objects are counted, spread over the data set."""


@DATA_SAMPLERS.register_module()
class HeaviestSampler(Sampler):  # type: ignore[misc]
    """The `batch` pictures with most objects, again and again."""

    def __init__(self, dataset: Any, batch: int, iterations: int, seed: int | None = None) -> None:
        self.dataset = dataset  # MMDetection's batch sampler asks it for sizes
        self._length = batch * iterations
        self._indices = heaviest(dataset, batch)

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(itertools.cycle(self._indices), self._length)

    def __len__(self) -> int:
        return self._length


def heaviest(dataset: Any, count: int) -> list[int]:
    """Indices of the samples with most objects; where nothing tells them apart, the first ones."""
    looked_at = np.unique(np.linspace(0, len(dataset) - 1, LOOKED_THROUGH).astype(int)).tolist()
    objects = {index: len(dataset.get_data_info(index).get("instances", ())) for index in looked_at}
    return sorted(looked_at, key=lambda index: -objects[index])[:count]


def measure(order: ProbeOrder, batch: int, folder: Path) -> Tried:
    """Some whole iterations with `batch` images on one device."""
    started, problem, gradients_bytes = time.monotonic(), "", 0
    try:
        gradients_bytes = train_a_little(order, batch, folder)
    except Exception as error:
        named = classify(error)
        if not isinstance(named, OutOfMemory):
            raise
        problem = named.message
    limit, peak_bytes = gpu_memory() if order.plan.gpus else process_memory()
    if order.devices > 1:
        peak_bytes += gradients_bytes  # DistributedDataParallel sends copies
    return Tried(
        batch=batch,
        peak_bytes=None if problem else peak_bytes,
        limit_bytes=limit.size_bytes,
        limit=limit.source,
        seconds=round(time.monotonic() - started, 1),
        problem=problem,
    )


def train_a_little(order: ProbeOrder, batch: int, folder: Path) -> int:
    """The training's own Runner over the heaviest pictures, of which nothing is kept.

    Returns:
        Size of all gradients in bytes.
    """
    gc.collect()
    if order.plan.gpus:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model = prepared_runner(probe_config(order, batch, folder), order.plan).train()
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def probe_config(order: ProbeOrder, batch: int, folder: Path) -> Config:
    """The training's configuration without validation, checkpoints and logs."""
    plan, recipe = order.plan, load_recipe(order.plan.recipe, order.plan.task)
    config = build_config(upstream_config(recipe), recipe, plan, order.files, folder)
    iterations = max(ITERATIONS, math.ceil(PICTURES / batch))
    config["train_dataloader"] |= {
        "batch_size": batch,
        "num_workers": 0,
        "persistent_workers": False,
        "dataset": innermost(config["train_dataloader"]["dataset"]),
        "sampler": {"type": HeaviestSampler.__name__, "batch": batch, "iterations": iterations},
    }
    for split in ("val", "test"):
        for part in ("dataloader", "evaluator", "cfg"):
            config[f"{split}_{part}"] = None
    config["train_cfg"] = {"type": "EpochBasedTrainLoop", "max_epochs": 1}
    config["default_hooks"] |= {"checkpoint": None, "logger": None}
    config["custom_hooks"] = [hook for hook in config["custom_hooks"] if hook["type"] == EMA["type"]]
    config["visualizer"]["vis_backends"] = None
    config["optim_wrapper"].pop("accumulative_counts", None)
    return runnable(config)


def gpu_memory() -> tuple[MemoryLimit, int]:
    """The GPU's memory, and the most that was taken of it: torch's, the driver's and that of other processes."""
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    elsewhere_bytes = total_bytes - free_bytes - torch.cuda.memory_reserved()
    return MemoryLimit(total_bytes, torch.cuda.get_device_name()), elsewhere_bytes + torch.cuda.max_memory_reserved()


def process_memory() -> tuple[MemoryLimit, int]:
    """What limits this process, and the most it had. Batches must grow: it never falls."""
    return memory_limit(), peak_rss_bytes() or 0

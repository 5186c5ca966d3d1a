"""Lets the predicting worker look at pictures, without a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mmtrain.engine.messages import MessageWriter
from mmtrain.engine.order import ModelSource
from mmtrain.predicting.options import Options
from mmtrain.predicting.order import PredictOrder
from mmtrain.predicting.worker import run
from mmtrain.predicting.writers import Wanted

LOW = 0.001
"""A score that random weights reach."""


def look(
    model: Path,
    images: Path,
    folder: Path,
    *,
    classes: tuple[str | int, ...] | None = None,
    wanted: Wanted | None = None,
    **options: Any,
) -> dict[str, Any]:
    """predictions.json; the other files are in ``folder/out``. `model`: a checkpoint, or the folder of a package."""
    for name in ("work", "out"):
        (folder / name).mkdir(parents=True)
    order = PredictOrder(
        parent=os.getpid(),
        threads=1,
        model=ModelSource(path=model, name=model.name, device="cpu", size_wh=options.get("imgsz")),
        package=model.is_dir(),
        sources=(str(images),),
        options=Options(**({"conf": LOW, "max_det": 10, "filtered": classes is not None} | options)),
        classes=classes,
        wanted=wanted or Wanted(save_crop=True),
        save_dice=True,
        readers=2,
    )
    run(order, folder / "work", MessageWriter(folder / "work" / "messages.jsonl"))
    return dict(json.loads((folder / "out/predictions.json").read_text()))

"""Models as exporters take them, and small probes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2

from mmtrain.exporters import verify
from mmtrain.exporters.export import Source
from mmtrain.exporters.metadata import About
from mmtrain.exporters.probes import probe_images
from mmtrain.recipes import Recipe
from tests.exports.models import build

SMALL = (128, 96)
"""Width and height of the input."""


def source_of(recipe: Recipe, folder: Path, imgsz: tuple[int, int] = SMALL) -> Source:
    """A model with random weights."""
    built = build(recipe, folder, imgsz)
    points = built.plan.keypoints
    return Source(
        model=built.model,
        pipeline=[dict(step) for step in built.config.test_dataloader.dataset.pipeline],
        preprocessor=dict(built.config.model.data_preprocessor),
        scope=built.config.default_scope,
        task=recipe.task,
        size_multiple=recipe.size_multiple,
        about=About(
            model_name=recipe.name,
            task=recipe.task.value,
            framework=recipe.base.partition("::")[0],
            class_names=built.plan.class_names,
            class_ids=tuple(range(len(built.plan.class_names))),
            keypoint_names=tuple(points.names) if points else (),
        ),
    )


@contextmanager
def small_probes() -> Iterator[None]:
    """Two of them, a lying and a standing one, as large as the inputs here."""
    small: list[Any] = [
        cv2.resize(image, size) for image, size in zip(probe_images(), ((160, 120), (100, 160)), strict=False)
    ]
    with patch.object(verify, "probe_images", lambda: small):
        yield

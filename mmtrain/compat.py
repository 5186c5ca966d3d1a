"""Every workaround for an upstream package, each with its reason.

tests/mm/test_compat.py fails when one is no longer needed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ONEDL_NOTICE = "Could not import OneDL"


def apply() -> None:
    """To be called before the first import of an mm* package."""
    define_torchvision_schemas()
    seed_albumentations()


def seed_albumentations() -> None:
    """Makes albumentations draw from NumPy's random state, which MMEngine seeds in every process.

    Each of its pipelines has a generator of its own, seeded by the system: two trainings with one seed would see
    different pictures, and the loaders' processes, forked from one, the same changes as each other.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else an import asks PyPI whether there is a newer version
    import albumentations
    import numpy as np

    draw = albumentations.Compose.__call__
    if getattr(draw, "seeded", False):
        return

    def draw_from_numpy(self: Any, *args: Any, **data: Any) -> Any:
        self.set_random_seed(int(np.random.randint(2**31)))
        return draw(self, *args, **data)

    draw_from_numpy.seeded = True  # type: ignore[attr-defined]
    albumentations.Compose.__call__ = draw_from_numpy


def define_torchvision_schemas() -> None:
    """Makes `import torchvision` work when its compiled operators do not fit the installed torch.

    A torchvision built for CUDA beside a CPU build of torch fails with "operator torchvision::nms does not exist":
    it registers meta kernels for operators that its C++ part never defined. mm* uses other parts of it only, so
    declaring the two schemas is enough. With fitting builds this does nothing.
    """
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    try:
        torch.ops.load_library(Path(spec.origin).parent / "_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)


_kept: list[Any] = []
"""Schemas live as long as the library object that declared them."""


def import_quietly(name: str) -> ModuleType:
    """Imports a package of the stack without its notice that an optional product of its vendor is absent.

    mmdet and mmseg print it through a logger that does not exist yet, that is, to standard output, at debug level.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            return importlib.import_module(name)
    finally:
        for line in said.getvalue().splitlines():
            if ONEDL_NOTICE not in line:
                sys.stdout.write(f"{line}\n")


def import_framework(package: str) -> None:
    """Imports what configurations of mmdet, mmseg or mmpose name, and mends it. After `apply`."""
    for name in (package, f"{package}.datasets", *NAMED_BESIDE.get(package, ())):
        import_quietly(name)
    if package == "mmseg":
        keep_ohem_finite()
    if package == "mmdet":
        fit_exactly()
        paste_nothing_beyond_the_edge()


NAMED_BESIDE = {"mmseg": ("mmdet.datasets",)}
"""Packages whose transforms a framework's pipelines use; the registry would import them too, but not quietly."""


def keep_ohem_finite() -> None:
    """Makes mmseg's OhemCrossEntropy 0, not NaN, when the model is sure of every pixel. After the import of mmseg.

    It averages the pixels below a threshold which it raises to the surest one's probability: of a single pixel, or of
    several that are equally sure, none is left. PIDNet's loss near outlines gets there on small sets, and one NaN ends
    the training.
    """
    loss_of_hard_pixels: Any = importlib.import_module("mmseg.models.losses").OhemCrossEntropy
    mean = loss_of_hard_pixels.forward
    if mean.__module__ == __name__:
        return

    def forward(self: Any, score: Any, target: Any) -> Any:
        """`score` (N, C, H, W), `target` (N, H, W) -> a scalar."""
        loss = mean(self, score, target)
        nothing = loss.isnan() and score.isfinite().all()  # a model that diverged is to be seen
        return score.sum() * 0 if nothing else loss

    loss_of_hard_pixels.forward = forward


def fit_exactly() -> None:
    """Makes mmdet's FixShapeResize move boxes as it moves the picture. After the import of mmdet.

    It moves boxes by the ratio asked for, and resizes the picture by the ratio of the rounded sides: in one that is
    twenty times as wide as high they are up to 5 of 640 pixels apart. Its Resize knows what it did.
    """
    transforms: Any = importlib.import_module("mmdet.datasets.transforms")
    inexact = transforms.FixShapeResize.transform
    if inexact.__module__ == __name__:
        return

    def transform(self: Any, results: Any) -> Any:
        if not self.keep_ratio:
            return inexact(self, results)
        height, width = results["img"].shape[:2]
        ratio = min(self.width / width, self.height / height)
        sides = tuple(max(1, int(side * ratio + 0.5)) for side in (width, height))
        how = {"interpolation": self.interpolation, "backend": self.backend}
        resize = transforms.Resize(scale=sides, clip_object_border=self.clip_object_border, **how)
        return self.pad_transform(resize(results))

    transforms.FixShapeResize.transform = transform


def paste_nothing_beyond_the_edge() -> None:
    """Makes the mask of a box that lies outside the picture empty instead of an error. After the import of mmdet.

    In a picture that was padded to the input size, a detector may find something in the padding; MMDetection's paste
    then counts from the box's begin to the picture's end, which lies before it.
    """
    heads: Any = importlib.import_module("mmdet.models.roi_heads.mask_heads.fcn_mask_head")
    paste = heads._do_paste_mask
    if paste.__module__ == __name__:
        return

    def pasted(masks: Any, boxes: Any, img_h: int, img_w: int, skip_empty: bool = True) -> Any:
        """`masks` (N, 1, h, w), `boxes` (N, 4) -> masks of a part of the picture, and which part."""
        if skip_empty and bool(((boxes[:, 0] > img_w) | (boxes[:, 1] > img_h)).all()):
            return masks.new_zeros((len(masks), 0, 0)), (slice(0, 0), slice(0, 0))
        return paste(masks, boxes, img_h, img_w, skip_empty=skip_empty)

    heads._do_paste_mask = pasted

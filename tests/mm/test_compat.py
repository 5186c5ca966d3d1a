"""Each workaround for upstream: the trouble is still there, and the workaround ends it."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_OPERATORS = """
import torch
def broken(path): raise OSError("built for another torch")
torch.ops.load_library = broken
"""
WITH_WORKAROUND = "from mmtrain import compat; compat.apply()\n"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_torchvision_without_its_operators_still_fails_to_import() -> None:
    """When this fails, `define_torchvision_schemas` can go."""
    assert "operator torchvision::nms does not exist" in run_python(WITHOUT_OPERATORS + "import torchvision").stderr


def test_torchvision_without_its_operators_imports_after_the_workaround() -> None:
    done = run_python(WITHOUT_OPERATORS + WITH_WORKAROUND + "import torchvision, mmdet.models.task_modules")
    assert done.returncode == 0, done.stderr


def test_the_workaround_leaves_fitting_operators_alone() -> None:
    code = (
        "import torch, torchvision\n"
        "kept = torchvision.ops.nms(torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.]]), torch.tensor([.9, .8]), .5)\n"
        "assert kept.tolist() == [0]"
    )
    done = run_python(WITH_WORKAROUND + code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["mmdet.datasets", "mmseg.datasets"])
def test_the_vendors_notice_is_still_printed_and_we_keep_it_out(package: str) -> None:
    """When the first half fails, `import_quietly` can go."""
    noisy = run_python(f"import {package}")
    assert "Could not import OneDL" in noisy.stdout
    quiet = run_python(f"from mmtrain.compat import import_quietly; import_quietly({package!r}); print('imported')")
    assert quiet.stdout.strip() == "imported", quiet.stdout


DRAWN = """
import random, numpy, albumentations
def drawn():
    random.seed(1); numpy.random.seed(1)
    change = albumentations.Compose([albumentations.ColorJitter(p=1.0)])
    picture = numpy.arange(48, dtype=numpy.uint8).reshape(4, 4, 3)
    return [change(image=picture)["image"].tolist() for _ in range(3)]
first = drawn()
assert len({str(each) for each in first}) == 3
print(first == drawn())
"""


def test_albumentations_still_draws_what_no_seed_repeats_and_the_workaround_ends_it() -> None:
    """When the first half fails, `seed_albumentations` can go."""
    assert run_python("import os; os.environ['NO_ALBUMENTATIONS_UPDATE'] = '1'\n" + DRAWN).stdout == "False\n"
    assert run_python(WITH_WORKAROUND + DRAWN).stdout == "True\n"


ONE_SURE_PIXEL = """
import math, torch
from mmseg.models.losses import OhemCrossEntropy
score = torch.zeros(1, 3, 8, 8)
score[:, 0] = 4.0
score.requires_grad_()
target = torch.full((1, 8, 8), 255)
target[0, 2, 3] = 0
def loss(score, target=target):
    return OhemCrossEntropy(thres=0.9, min_kept=131072)(score, target)
"""
KEPT_FINITE = "compat.import_quietly('mmseg'); compat.keep_ohem_finite(); compat.keep_ohem_finite()\n"


def test_the_mean_of_no_hard_pixel_is_still_no_number() -> None:
    """When this fails, `keep_ohem_finite` can go."""
    done = run_python(WITH_WORKAROUND + ONE_SURE_PIXEL + "assert math.isnan(loss(score))")
    assert done.returncode == 0, done.stderr


def test_the_mean_of_no_hard_pixel_is_nothing_and_a_diverged_model_is_seen() -> None:
    code = """
loss(score).backward()
assert loss(score) == 0 and score.grad.abs().sum() == 0
assert math.isnan(loss(score * float("nan")))
wrong = torch.ones_like(target) * torch.where(target == 255, 255, 1)
assert loss(score, wrong) > 4
"""
    done = run_python(WITH_WORKAROUND + KEPT_FINITE + ONE_SURE_PIXEL + code)
    assert done.returncode == 0, done.stderr


NARROW = """
import numpy, torch
from mmdet.datasets.transforms import FixShapeResize
from mmdet.structures.bbox import HorizontalBoxes
def fitted():
    # how wide the picture became, and where a box begins that begins after nine tenths of it
    picture = {"img": numpy.full((52, 1000, 3), 255, numpy.uint8)}
    picture["gt_bboxes"] = HorizontalBoxes(torch.tensor([[900.0, 0, 1000, 52]]))
    found = FixShapeResize(width=640, height=320, keep_ratio=True, pad_val=dict(img=0))(picture)
    assert found["img"].shape == (320, 640, 3)
    return int(found["img"][0].any(axis=1).sum()), found["gt_bboxes"].tensor[0, 0].item()
"""


def test_a_letterboxed_picture_still_ends_before_its_boxes_and_the_workaround_ends_that() -> None:
    """When the first half fails, `fit_exactly` can go."""
    plain = run_python(WITH_WORKAROUND + NARROW + "width, left = fitted(); assert left > 0.9 * width + 3")
    assert plain.returncode == 0, plain.stderr
    code = "compat.import_framework('mmdet'); compat.fit_exactly()\n" + NARROW + "assert fitted() == (640, 576.0)"
    exact = run_python(WITH_WORKAROUND + code)
    assert exact.returncode == 0, exact.stderr

"""A job reports within a second because little is imported first, and an image with a broken torch reports at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "mmcv", "mmengine", "mmdet", "mmseg", "mmpose", "mmdeploy")
SLOW = (*HEAVY, "numpy", "cv2", "matplotlib", "boto3", "botocore", "obstore", "httpx", "rich")


@pytest.mark.parametrize(
    ("module", "absent"),
    [("trainer_sdk.session", SLOW), ("trainer_sdk.storage.s3", SLOW), ("mmtrain.jobs.train", HEAVY)],
)
def test_what_an_import_does_not_bring_in(module: str, absent: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*({{name.partition('.')[0] for name in sys.modules}} & set({absent!r})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

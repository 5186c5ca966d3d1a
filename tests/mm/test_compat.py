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

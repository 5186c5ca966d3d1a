"""Every workaround for an upstream package, each with its reason.

tests/mm/test_compat.py fails when one is no longer needed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ONEDL_NOTICE = "Could not import OneDL"


def apply() -> None:
    """To be called before the first import of an mm* package."""
    define_torchvision_schemas()


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

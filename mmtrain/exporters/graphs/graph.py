"""What an exporter writes: a module from a batch of pictures to named tensors, and what these mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Graph:
    """A model as a function of tensors.

    `module` takes images (B, 3, H, W) float32, normalised, and (B, 2) float32 heights and widths of the pictures in
    them where `picture_input` has a name; it gives one tensor per name in `outputs`.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    postprocessing: dict[str, Any]
    """As `predict_standalone.py` reads it."""
    layouts: dict[str, str]
    """Of each output, in words, for `metadata.json`."""
    picture_input: str | None = None
    one_image: bool = False
    """The objects of a batch would be mixed: a file takes one image."""
    fixed_batch: bool = False
    """The model counts its images while it is traced: a file takes as many as were asked for."""
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    """Names of the dimensions of outputs that depend on the batch (0: "batch") or on what is seen."""

"""The shortest way from a picture to an MMDetection model: no copy into channels first, no normalisation by picture.

What the network gets is the same to the last bit as through `DetDataPreprocessor`: the same steps in the same order of
rounding, on the whole batch and in the layout (channels last) that its convolutions are fastest in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.registry import TRANSFORMS
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional


class Input(NamedTuple):
    """A picture at the size of the model's input."""

    pixels: NDArray[Any]
    """(H, W, 3), in the colour order of the network."""
    sample: Any
    """DetDataSample with what leads back to the original picture."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape


class DirectInput:
    """For one model."""

    def __init__(self, model: nn.Module, steps: Sequence[dict[str, Any]]) -> None:
        self._facts: DetDataPreprocessor = model.data_preprocessor
        self._steps = Compose([TRANSFORMS.build(dict(step)) for step in steps[:-1]])
        self._pack = TRANSFORMS.build(dict(steps[-1]))

    @staticmethod
    def fits(model: nn.Module, steps: Sequence[dict[str, Any]]) -> bool:
        """Whether this model's way is known here."""
        facts = getattr(model, "data_preprocessor", None)
        packed = steps[-1]["type"].rpartition(".")[2] == "PackDetInputs"
        return type(facts) is DetDataPreprocessor and facts.batch_augments is None and packed

    def prepare(self, sample: dict[str, Any]) -> Input:
        results = self._steps(sample)
        pixels = results.pop("img")
        if self._facts._channel_conversion:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return Input(pixels, self._pack(results)["data_samples"])

    def batch(self, group: Sequence[Input]) -> tuple[torch.Tensor, list[Any]]:
        """Normalised (N, 3, H, W), padded to the model's multiple, and the samples that go with it."""
        stacked = torch.from_numpy(np.stack([one.pixels for one in group])).to(self._facts.device)
        inputs = stacked.permute(0, 3, 1, 2).float()
        if self._facts._enable_normalize:
            inputs = inputs.sub_(self._facts.mean).div_(self._facts.std)
        height, width = inputs.shape[2:]
        multiple = self._facts.pad_size_divisor
        padded = tuple(-(-side // multiple) * multiple for side in (height, width))
        if padded != (height, width):
            border = (0, padded[1] - width, 0, padded[0] - height)
            inputs = functional.pad(inputs, border, "constant", self._facts.pad_value)
        samples = [one.sample for one in group]
        for sample in samples:
            sample.set_metainfo({"batch_input_shape": padded, "pad_shape": padded})
        return inputs, samples

"""The fixed images that every export is tried on: drawn from a seed, of several shapes, the same everywhere."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SHAPES = ((480, 640), (640, 400), (333, 500), (96, 128))
"""Height and width: lying, standing, odd, and smaller than most inputs."""
SEED = 20


def probe_images() -> list[NDArray[np.uint8]]:
    """(H, W, 3) uint8 BGR each: discs, bars and noise, with colours that tell red from blue."""
    random = np.random.default_rng(SEED)
    return [_drawn(random, *shape) for shape in SHAPES]


def _drawn(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = np.linspace(30, 200, width, dtype=np.uint8)[None, :, None] * np.array([1.0, 0.7, 0.4])
    for number in range(12):
        centre = (int(random.integers(0, width)), int(random.integers(0, height)))
        size = int(random.integers(max(4, min(height, width) // 20), max(8, min(height, width) // 4)))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        if number % 2:
            cv2.circle(image, centre, size, colour, -1)
        else:
            cv2.rectangle(image, centre, (centre[0] + 2 * size, centre[1] + size), colour, -1)
    noise = random.normal(0, 8, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)

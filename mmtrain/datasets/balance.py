"""How long an epoch is when images with rare classes are shown more often."""

from __future__ import annotations

import numpy as np

from mmtrain.datasets.columns import SplitColumns


def images_shown(split: SplitColumns, threshold: float) -> int:
    """Images in an epoch of MMEngine's ClassBalancedDataset.

    A class in a share f of the images is repeated sqrt(threshold / f) times, an image as often as its rarest class
    (Gupta et al. 2019, arXiv:1908.03195), rounded up as MMEngine does it.
    """
    images = len(split.image_id)
    pairs = np.unique(np.stack([split.row_of_object, split.objects.category_id], axis=1), axis=0)
    share = np.bincount(pairs[:, 1]) / max(1, images)
    with np.errstate(divide="ignore"):
        repeats = np.maximum(1.0, np.sqrt(threshold / share))
    of_image = np.ones(images)
    np.maximum.at(of_image, pairs[:, 0], repeats[pairs[:, 1]])
    return int(np.ceil(of_image).sum())

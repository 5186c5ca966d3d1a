"""Where the converted data of a job lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from converters.mask_list import MASKS
from converters.pose_files import FROM_ONE, LAYOUT_FILE
from mmtrain.datasets.stream import StreamedImages

Split = Literal["train", "val", "test"]


class DatasetFiles(BaseModel):
    """Absolute paths, so that config.py runs from any folder; images perhaps in a bucket."""

    model_config = ConfigDict(frozen=True)

    images: Path | StreamedImages
    train: Path
    val: Path
    test: Path | None

    @property
    def image_prefix(self) -> str:
        """What stands before the images' file names: a folder or ``s3://bucket/prefix``."""
        return self.images.uri if isinstance(self.images, StreamedImages) else str(self.images)

    def annotations(self, split: Split) -> Path:
        """MMEngine wants all three loops or none: without a test split the test loop reads val."""
        return {"train": self.train, "val": self.val, "test": self.test or self.val}[split]

    def mask_list(self, split: Split) -> Path:
        """Images and semantic masks of a split, beside the masks (converters/mask_list.py)."""
        coco = self.annotations(split)
        return coco.parent / MASKS / coco.name

    def annotations_from_one(self, split: Split) -> Path:
        """Of poses: the same with categories that count from 1."""
        path = self.annotations(split)
        return path.with_name(FROM_ONE.format(split=path.stem))

    @property
    def keypoint_layout(self) -> Path:
        """Of poses: MMPose's `dataset_info`."""
        return self.train.parent / LAYOUT_FILE

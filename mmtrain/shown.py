"""What a model is shown in training: pictures after augmentation with their objects, between engine and reports.

The engine writes a folder, ``shown.json`` and one JPEG per picture; the reports draw it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from trainer_sdk.workspace import write_json

SHOWN = "shown.json"
JOB_FOLDER = "work/browse"
"""Where a training leaves it, below the job's folder."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShownObject(_Frozen):
    """An annotation under COCO's keys, in pixels of the picture as shown."""

    category_id: int
    """Index into `Shown.class_names`."""
    bbox: tuple[float, float, float, float]
    """xywh."""
    iscrowd: bool = False
    segmentation: dict[str, Any] | None = None
    """Compressed RLE with text counts, of the picture's size."""
    keypoints: tuple[float, ...] | None = None
    """x, y, v for each; v: 0 not labelled, 1 hidden, 2 visible."""

    def annotation(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


class ShownPicture(_Frozen):
    """One picture as it enters the model, before normalisation."""

    file_name: str
    """As annotated; of a mosaic or mix-up the first picture's."""
    picture: str
    """The JPEG beside shown.json."""
    width: int
    height: int
    steps: tuple[str, ...]
    """The transforms that made another picture of it, by their class names."""
    objects: tuple[ShownObject, ...]
    class_map: str | None = None
    """Semantic segmentation: beside the JPEG a grey picture of the same size, class indices and 255 for ignored."""
    classes: tuple[int, ...] = ()
    """Those in the class map."""


class Shown(_Frozen):
    """``shown.json``. A step that failed leaves its reason and no pictures."""

    class_names: tuple[str, ...] = ()
    pipeline: tuple[dict[str, Any], ...] = ()
    """The transforms as they stand in the configuration."""
    pictures: tuple[ShownPicture, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()
    """Pairs of keypoint indices to join by a line."""
    problem: str | None = None

    def write(self, folder: Path) -> None:
        write_json(folder / SHOWN, self.model_dump(mode="json"))


def read_shown(folder: Path) -> Shown:
    """Raises: OSError, ValueError: missing or not ours."""
    return Shown.model_validate_json((folder / SHOWN).read_bytes())

"""Which mask belongs to which image, as OpenMMLab's list of data, for `mmengine.dataset.BaseDataset`.

https://mmengine.readthedocs.io/en/latest/advanced_tutorials/basedataset.html describes the form; the keys of an entry
are those that MMSegmentation's LoadAnnotations reads. Paths stand in JSON, so that a name may hold anything that a file
name can: MMSegmentation's own lists are text, and a mask must have its image's name there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from converters.coco import CocoSplit
from converters.whole_file import write_whole

MASKS = "masks"
"""The folder of masks and their lists, below that of the COCO files."""


def write_mask_list(split: CocoSplit, class_names: Sequence[str], path: Path) -> None:
    """Writes one split; images relative to their folder, masks relative to the list's."""
    entries: list[dict[str, Any]] = [
        {
            "img_id": image.id,
            "img_path": image.file_name,
            "seg_map_path": str(image.seg_file_name).removeprefix(f"{MASKS}/"),
            "label_map": None,
            "reduce_zero_label": False,
            "seg_fields": [],
        }
        for image in split.images
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, [msgspec.json.encode({"metainfo": {"classes": list(class_names)}, "data_list": entries})])

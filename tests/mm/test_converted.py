"""What the converters write is what mmdet, mmpose and mmseg read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from converters import convert, read_dice, write_conversion
from tests.conftest import ROOT
from tests.unit.test_converters_keypoints import ONE_FOR_VAL, coco_2017
from trainer_sdk.tasks import Task

READ_DETECTION = """
from mmtrain import compat; compat.apply()
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.utils import register_all_modules
register_all_modules()
metainfo = {"classes": json.loads(sys.argv[2])}
dataset = CocoDataset(ann_file=sys.argv[1], metainfo=metainfo, data_prefix={"img": ""})
load = LoadAnnotations(with_bbox=True, with_mask=True)
found = []
for i in range(len(dataset)):
    info = load({"img_shape": (480, 640), "ori_shape": (480, 640), **dataset.get_data_info(i)})
    columns = zip(info["gt_bboxes_labels"], info["gt_masks"].to_ndarray(), info["gt_ignore_flags"])
    found += [[info["img_id"], int(label), int(mask.sum()), bool(ignored)] for label, mask, ignored in columns]
print(json.dumps(found))
"""

READ_POSE = """
from mmtrain import compat; compat.apply()
from mmpose.datasets.datasets.body import CocoDataset
from mmpose.utils import register_all_modules
register_all_modules()
dataset = CocoDataset(ann_file=sys.argv[1], data_mode="topdown")
found = [dataset.get_data_info(i) for i in range(len(dataset))]
print(json.dumps([[one["img_id"], one["keypoints"].shape, float(one["keypoints"].sum())] for one in found]))
"""

READ_SEMANTIC = """
from mmtrain import compat; compat.apply()
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.utils import register_all_modules
register_all_modules()
found = LoadAnnotations()({"seg_map_path": sys.argv[1], "reduce_zero_label": False, "seg_fields": []})
print(json.dumps(found["gt_seg_map"].tolist()))
"""


def run_python(code: str, *arguments: str) -> Any:
    command = [sys.executable, "-c", "import json, sys\n" + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_mmdet_reads_boxes_masks_and_crowds(tmp_path: Path) -> None:
    conversion = convert(read_dice(json.dumps(coco_2017()).encode()), Task.INSTANCE, config_split=ONE_FOR_VAL)
    write_conversion(conversion, tmp_path)
    found = run_python(READ_DETECTION, str(tmp_path / "train.json"), json.dumps(conversion.class_names))
    expected = [(a.image_id, a.category_id, bool(a.iscrowd)) for a in conversion.splits["train"].annotations]
    assert sorted((image, label, ignored) for image, label, _, ignored in found) == sorted(expected)
    assert all(pixels > 4000 for _, _, pixels, _ in found)


def test_mmpose_reads_keypoints_and_passes_over_crowds(tmp_path: Path) -> None:
    source = json.dumps(coco_2017(keypoints=True)).encode()
    conversion = convert(read_dice(source), Task.POSE, config_split=ONE_FOR_VAL)
    write_conversion(conversion, tmp_path)
    found = run_python(READ_POSE, str(tmp_path / "train.json"))
    labelled = [a for a in conversion.splits["train"].annotations if a.num_keypoints]
    assert len(labelled) == len(conversion.splits["train"].annotations) - 1
    assert sorted((image, tuple(shape)) for image, shape, _ in found) == sorted(
        (a.image_id, (1, 17, 2)) for a in labelled
    )
    assert sum(total for *_, total in found) == sum(
        sum(a.keypoints[0::3]) + sum(a.keypoints[1::3]) for a in labelled if a.keypoints
    )


def test_mmseg_reads_indices_and_not_colours(tmp_path: Path) -> None:
    polygon = {"id": 1, "class_id": 4, "bbox": [2, 2, 4, 4], "segmentation": [[2, 2, 6, 2, 6, 6, 2, 6]]}
    sizes = {"width": 8, "height": 8, "annotations": [polygon]}
    images = [{"id": n, "file_name": f"{n}.jpg", "split": split, **sizes} for n, split in enumerate(("train", "val"))]
    document = {"classes": [{"id": 4, "name": "cell"}], "images": images}
    write_conversion(convert(read_dice(json.dumps(document).encode()), Task.SEMANTIC), tmp_path)
    mask = tmp_path / "masks" / "000001.png"
    expected = np.ones((8, 8), dtype=int)
    expected[2:6, 2:6] = 0
    assert np.asarray(Image.open(mask)).tolist() == expected.tolist()
    assert run_python(READ_SEMANTIC, str(mask)) == expected.tolist()

"""Annotations in, files out: from the platform's DICE (or COCO) to COCO files, and back. No torch, no network.

Reading       dice.py the data set in memory, dice_reader.py both living variants and COCO, dice_v09.py the ancestor,
              coco_to_dice.py several COCO files, source.py whatever lies at a path, layout.py names and keys
Deciding      split.py who trains, validates, tests, and why; split_request.py how that is asked for;
              partition.py the algorithms; strata.py classes and groups of images
Judging       checks.py the data set as a whole, labels.py classes, used.py images, geometry.py boxes and polygons,
              masks.py RLE, keypoints.py and schema.py points, findings.py every code, its severity and advice
In bulk       json_pieces.py, columns.py, shape_columns.py, objects.py: a million annotations in columns
One by one    dice_to_coco.py: a function per task for what is not clean
Writing       coco.py, semantic.py, dice_writer.py; conversion.py is all of it in order
"""

from converters.conversion import Conversion, convert, write_conversion
from converters.dice import DiceDataset
from converters.dice_reader import read_dice
from converters.findings import Finding
from converters.layout import annotation_file_names, image_key_candidates

__all__ = [
    "Conversion",
    "DiceDataset",
    "Finding",
    "annotation_file_names",
    "convert",
    "image_key_candidates",
    "read_dice",
    "write_conversion",
]

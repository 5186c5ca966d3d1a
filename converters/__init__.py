"""From the platform's DICE annotations to COCO files. No torch, no network, no images: annotations in, files out.

dice.py          reads both living variants into one form
layout.py        names of annotation files, object keys of images
split.py         who trains, validates, tests, and why
checks.py        the data set as a whole
dice_to_coco.py  one image: classes, negative marks, boxes, masks
geometry.py      boxes and polygons inside their image
masks.py         polygons and RLE
coco.py          the COCO file
conversion.py    all of it, in order
findings.py      every code, its severity and advice
"""

from converters.conversion import Conversion, convert, write_conversion
from converters.dice import DiceDataset, read_dice
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

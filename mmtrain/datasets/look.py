"""Opens one picture and says what it is. Pure and picklable: it runs in processes of its own (pool.py).

What Pillow decodes is not always what OpenCV, which reads the pictures in training, makes of it. So everything but a
plain 8-bit JPEG or PNG is decoded by OpenCV too, and OpenCV's size is believed.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from converters.semantic import DAMAGE
from mmtrain.datasets.pictures import Pictures, PicturesHere
from trainer_sdk.errors import DatasetError

THUMBNAIL_SIDE = 32
"""What a perceptual hash looks at (Krawetz 2011, hackerfactor.com "Looks Like It")."""
DRAFT_SIDE = 64
"""A JPEG is decoded at the smallest of its 8 scales above this. Every bit is still read, so truncation still shows."""
UPRIGHT = 1
SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
PLAIN_FORMATS = ("JPEG", "PNG")
Image.MAX_IMAGE_PIXELS = int(os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]) // 2
"""Pillow refuses twice as many, by the header, and only warns from here on. The same limit for both decoders: what
Pillow's header has not told, OpenCV's own check finds."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
KINDS = {
    "1": "black and white", "L": "grey", "LA": "grey with alpha", "P": "palette", "PA": "palette with alpha",
    "RGBA": "alpha", "RGBX": "alpha", "CMYK": "CMYK", "YCbCr": "YCbCr", "LAB": "Lab", "HSV": "HSV",
    "I": "32-bit grey", "F": "floating point grey",
}  # fmt: skip
"""Pillow's modes in words; 16 bits are told apart by the raw mode, because Pillow calls 16-bit colour plain RGB."""
DARK_BELOW = 32
"""Of 255. 12-bit values in a 16-bit file reach 15: a model sees black."""


class Look(NamedTuple):
    """What opening a file said; everything but `fault` is only meant where there is none."""

    fault: str = ""
    """Why it cannot be trained on, in words."""
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels as training will see them, turned by EXIF."""
    kind: str = ""
    """What it is if not 8-bit RGB."""
    turned: bool = False
    """By its EXIF tag."""
    brightest: int = 255
    """0..255, of what is left of more than 8 bits; 255 for 8-bit pictures, which are not asked."""
    sha256: bytes = b""
    """Over the file."""
    phash: int = 0
    """64 bits."""
    thumbnail: bytes = b""
    """32 x 32 grey values, row by row, not turned."""


def look(path: Path) -> Look:
    """At a file."""
    return look_through(PicturesHere(path.parent), path.name)


def look_through(pictures: Pictures, path: str) -> Look:
    """Decodes every pixel, or says why that fails.

    Raises:
        NetworkError: nothing can be said about the picture.
    """
    try:
        raw = pictures.read(path)
        if not raw:
            return Look("empty file (0 bytes)")
        return _look_inside(raw)
    except UnidentifiedImageError:
        return Look("not an image")
    except (*DAMAGE, DatasetError) as error:
        return Look(str(error) or type(error).__name__)


def _look_inside(raw: bytes) -> Look:
    with Image.open(io.BytesIO(raw)) as picture:
        kind, size = _kind(picture), picture.size
        plain_format = picture.format in PLAIN_FORMATS
        orientation = picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        picture.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
        picture.load()
        grey = _as_grey(picture)
    turned = orientation in range(UPRIGHT + 1, 9)
    brightest = 255
    if kind not in ("", "grey") or not plain_format or (turned and picture.format != "JPEG"):
        seen = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
        if seen is None:
            return Look(f"OpenCV cannot decode it ({picture.format}, {kind or '8-bit RGB'})")
        size = (seen.shape[1], seen.shape[0])
        brightest = int(seen.max()) if "bit" in kind else 255
    elif orientation in SIDEWAYS:
        size = size[1], size[0]
    thumbnail = grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return Look(
        size=size,
        kind=kind,
        turned=turned,
        brightest=brightest,
        sha256=hashlib.sha256(raw).digest(),
        phash=int(str(imagehash.phash(thumbnail)), 16),
        thumbnail=thumbnail.tobytes(),
    )


def _kind(picture: Image.Image) -> str:
    """In words; empty for 8-bit RGB. To be asked before the pixels are loaded."""
    tiles = getattr(picture, "tile", ())  # WebP and some others have none
    raw_mode = str(tiles[0].args) if tiles else ""
    if picture.format != "BMP" and ";16" in raw_mode:  # in a BMP it means 5 + 6 + 5 bits
        return "16-bit grey" if picture.mode.startswith("I") else "16-bit colour"
    return "" if picture.mode == "RGB" else KINDS.get(picture.mode, picture.mode)


def _as_grey(picture: Image.Image) -> Image.Image:
    """8 bits; deeper pictures are stretched, because Pillow would cut everything above 255 to white."""
    if not picture.mode.startswith(("I", "F")):
        return picture.convert("L")
    values: NDArray[np.float64] = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0.0, neginf=0.0)
    lowest, highest = values.min(), values.max()
    stretched = (values - lowest) * (255.0 / max(highest - lowest, 1e-9))
    return Image.fromarray(stretched.astype(np.uint8))

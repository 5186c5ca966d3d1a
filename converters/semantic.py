"""Semantic segmentation: one class for every pixel, from mask files or from polygons drawn one over the other.

A mask file holds class ids as the data set knows them, 255 for pixels to ignore. Polygons are drawn in the order of the
file, later ones over earlier ones; crowd regions are ignored pixels, and so is the box of an object that has no mask.
Whatever belongs to no class (the id of
``__background__``, 0 where no class has that id, pixels that no polygon covers) becomes a class ``background`` after
the declared ones: a model that could not say "none of these" would have to paint every pixel.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from converters.coco import CocoAnnotation, CocoImage, CocoSplit, Segmentation
from converters.dice import DiceImage
from converters.dice_to_coco import Classes
from converters.findings import FindingCounter

IGNORE = 255
LEAST_CLASSES = 2
MAX_CLASSES = IGNORE
"""An index of 8 bits that is not `IGNORE`."""
BACKGROUND_CLASS = "background"
ONE_NUMBER_PER_PIXEL = ("1", "L", "P", "I", "I;16")
"""Pillow's modes of indexed and grey pictures."""
NUMBERS = 2**16
"""A PNG has at most 16 bits a channel."""


DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders are known to raise on damaged files."""


class MaskLook(NamedTuple):
    """A mask file that could be read: width and height in pixels, and the numbers in it."""

    size: tuple[int, int]
    values: frozenset[int]


Masks = Mapping[str, MaskLook | str | None]
"""Mask file -> what was seen, why it cannot be read, or None for no such file."""


class PixelClasses(NamedTuple):
    """What the numbers in mask files mean."""

    index_of_value: dict[int, int]
    background: int | None
    """Its class index, if there is one."""


def look_at_masks(paths: Mapping[str, Path | None]) -> dict[str, MaskLook | str | None]:
    """Opens every mask file."""
    with ThreadPoolExecutor() as pool:  # Pillow decodes and numpy sorts outside the interpreter lock
        return dict(zip(paths, pool.map(look_at_mask, paths.values()), strict=True))


def look_at_mask(path: Path | None) -> MaskLook | str | None:
    """One of `Masks`."""
    if path is None:
        return None
    try:
        pixels = read_mask_file(path)
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        return (str(error) or type(error).__name__) if path.stat().st_size else "empty file"
    values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=1))
    return MaskLook((pixels.shape[1], pixels.shape[0]), frozenset(values.tolist()))


def read_mask_file(path: Path) -> NDArray[np.uint16]:
    """Numbers, (height, width).

    Raises:
        ValueError: a picture with colours.
        OSError, SyntaxError: unreadable, as Pillow has it.
    """
    with Image.open(path) as picture:
        if picture.mode not in ONE_NUMBER_PER_PIXEL:
            raise ValueError(f"it has colours ({picture.mode}), not one number per pixel")
        return np.clip(np.asarray(picture, dtype=np.int32), 0, NUMBERS - 1).astype(np.uint16)


def pixel_classes(images: Iterable[DiceImage], classes: Classes, masks: Masks) -> PixelClasses:
    """The class indices of mask numbers, and whether a background class is needed."""
    index_of_value = {class_id: index for class_id, index in classes.index_of_id.items() if class_id != IGNORE}
    nothing = set(classes.background_ids)
    looks = [look for look in masks.values() if isinstance(look, MaskLook)]
    if 0 not in index_of_value and any(0 in look.values for look in looks):
        nothing.add(0)
    drawn = any(image.mask_file is None for image in images)
    background = len(classes.declared) if drawn or nothing else None
    if background is not None:
        index_of_value |= dict.fromkeys(nothing - {IGNORE}, background)
    return PixelClasses(index_of_value, background)


def classes_in_masks(images: Iterable[DiceImage], pixels: PixelClasses, masks: Masks) -> set[int] | None:
    """The class indices in the mask files of some images; None if one of them was not looked at."""
    found: set[int] = set()
    for name in (image.mask_file for image in images if image.mask_file is not None):
        if name not in masks:
            return None
        if isinstance(look := masks[name], MaskLook):
            found |= {pixels.index_of_value[value] for value in look.values & pixels.index_of_value.keys()}
    return found


def check_masks(images: Sequence[DiceImage], pixels: PixelClasses, masks: Masks, findings: FindingCounter) -> None:
    """Every mask is there, readable, of its image's size, and holds class ids only."""
    for image in images:
        if image.mask_file is None or image.mask_file not in masks:
            continue
        look, where = masks[image.mask_file], f"{image.file_name}: {image.mask_file}"
        if look is None:
            findings.add("DS070", where, file=image.file_name)
        elif isinstance(look, str):
            findings.add("DS071", f"{where}: {look}", file=image.file_name)
        else:
            if image.width and image.height and look.size != (image.width, image.height):
                sizes = f"{look.size[0]}x{look.size[1]}, image {image.width}x{image.height}"
                findings.add("DS072", f"{where}: {sizes}", file=image.file_name)
            if strange := sorted(look.values - pixels.index_of_value.keys() - {IGNORE}):
                findings.add("DS073", f"{where}: {', '.join(map(str, strange[:10]))}", file=image.file_name)
    if pixels.background is not None:
        findings.add("DS074", f"index {pixels.background}")


def check_class_numbers(classes: Classes, pixels: PixelClasses, masks: Masks, findings: FindingCounter) -> None:
    """There is more than one, all fit into 8 bits, and none is called like the pixels that are ignored."""
    count = len(classes.declared) + (pixels.background is not None)
    if count < LEAST_CLASSES:
        findings.add("DS078", classes.declared[0].name if classes.declared else "no class")
    if count > MAX_CLASSES:
        findings.add("DS076", f"{count} classes")
    numbers = frozenset[int]().union(*(look.values for look in masks.values() if isinstance(look, MaskLook)))
    if IGNORE in numbers & classes.index_of_id.keys():
        name = classes.declared[classes.index_of_id[IGNORE]].name
        findings.add("DS073", f"class {name!r} has id {IGNORE}, which means ignored pixels in masks")


def write_masks(
    split: CocoSplit,
    mask_files: Mapping[int, str],
    pixels: PixelClasses,
    locate: Callable[[str], Path],
    folder: Path,
) -> None:
    """Writes the image of class indices of every image of a split, where its `seg_file_name` says, below ``folder``.

    Args:
        mask_files: COCO image id -> mask file of the data set; images without are drawn.
        locate: mask file -> path.
    """
    annotations, image_ids = split.annotations, split.objects.image_id  # both in order of image
    for image in split.images:
        assert image.seg_file_name is not None
        if image.id in mask_files:
            indices = _translated(read_mask_file(locate(mask_files[image.id])), pixels)
        else:
            start, end = np.searchsorted(image_ids, [image.id, image.id + 1]).tolist()
            indices = _drawn(image, annotations[start:end], pixels)
        path = folder / image.seg_file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        indexed_picture(indices).save(path)


def _translated(values: NDArray[np.uint16], pixels: PixelClasses) -> NDArray[np.uint8]:
    table = np.full(NUMBERS, IGNORE, dtype=np.uint8)
    for value, index in pixels.index_of_value.items():
        if 0 <= value < NUMBERS:
            table[value] = index
    return table[values]


def _drawn(image: CocoImage, annotations: Iterable[CocoAnnotation], pixels: PixelClasses) -> NDArray[np.uint8]:
    assert image.width and image.height and pixels.background is not None
    indices = np.full((image.height, image.width), pixels.background, dtype=np.uint8)
    for annotation in annotations:
        inside = decoded(annotation.segmentation, image.width, image.height)
        indices[inside] = IGNORE if annotation.iscrowd else annotation.category_id
    return indices


def decoded(segmentation: Segmentation | msgspec.Raw, width: int, height: int) -> NDArray[np.bool_]:
    """The pixels of one object, (height, width), as pycocotools draws them."""
    form = msgspec.json.decode(segmentation) if isinstance(segmentation, msgspec.Raw) else segmentation
    if isinstance(form, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(form, height, width))
    else:
        rle = form if isinstance(form["counts"], str) else coco_mask.frPyObjects(form, height, width)
    return np.asarray(coco_mask.decode(rle)).astype(bool)


def indexed_picture(indices: NDArray[np.uint8]) -> Image.Image:
    """With colours, so that a person who opens the file sees something."""
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette(_palette())
    return picture


def _palette() -> list[int]:
    """Distinct hues by the golden angle; white for ignored pixels."""
    hues = (np.arange(IGNORE) * 0.618034) % 1
    channels = (np.abs((hues[:, None] * 6 + offset) % 6 - 3) for offset in (0, 4, 2))
    colours = np.concatenate([np.clip(channel - 1, 0, 1) for channel in channels], axis=1)
    return [*(colours * 215 + 20).astype(int).ravel().tolist(), 255, 255, 255]

"""Pictures with something wrong about them, drawn in code."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import orjson
from PIL import ExifTags, Image, ImageDraw, ImageEnhance

Make = Callable[[Path], None]


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture unlike that of any other seed: discs of several sizes on a gradient."""
    random = np.random.default_rng(seed)
    tilt = random.uniform(-60, 60, 2)
    x, y = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    ground = np.clip(128 + tilt[0] * x + tilt[1] * y, 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.dstack([ground, ground, ground]))
    pen = ImageDraw.Draw(picture)
    for _ in range(14):
        radius = random.uniform(0.03, 0.16) * size[0]
        left, top = random.uniform(0, size[0]), random.uniform(0, size[1])
        colour = tuple(int(value) for value in random.integers(0, 255, 3))
        pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=colour)
    return picture


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def truncated_jpeg(path: Path) -> None:
    data = jpeg(scene(1000))
    path.write_bytes(data[: len(data) // 2])


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def web_page(path: Path) -> None:
    path.write_bytes(b"<!doctype html><title>404</title>")


def bomb(path: Path) -> None:
    """A PNG of 400 million pixels in a few kilobytes."""
    Image.new("1", (20_000, 20_000)).save(path, "PNG")


def deep_grey(path: Path) -> None:
    values = np.asarray(scene(1001).convert("L")).astype(np.uint16) * 257
    cv2.imwrite(str(path), values)


def twelve_bit(path: Path) -> None:
    values = np.asarray(scene(1002).convert("L")).astype(np.uint16) * 16
    cv2.imwrite(str(path), values)


def deep_colour(path: Path) -> None:
    cv2.imwrite(str(path), np.asarray(scene(1003)).astype(np.uint16) * 257)


def alpha(path: Path) -> None:
    scene(1004).convert("RGBA").save(path, "PNG")


def cmyk(path: Path) -> None:
    scene(1005).convert("CMYK").save(path, "JPEG")


def grey(path: Path) -> None:
    scene(1006).convert("L").save(path)


def palette(path: Path) -> None:
    scene(1007).convert("P").save(path, "PNG")


def floating(path: Path) -> None:
    scene(1008).convert("F").save(path, "TIFF")


def sideways(path: Path) -> None:
    """240 x 320 in the file, 320 x 240 as shown."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    scene(1009, (240, 320)).save(path, "JPEG", exif=exif)


def brighter(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.25)


def re_encoded(picture: Image.Image) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(picture, 35))).convert("RGB")


def smaller(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2))


def microscope_field(seed: int) -> Image.Image:
    """One to three cells on the same lit ground: pictures that look alike from afar."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(-1, 1, 320), np.linspace(-1, 1, 240))
    ground = np.clip(220 - 70 * (x**2 + y**2) / 2 + random.normal(0, 4, x.shape), 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.dstack([ground, ground, ground]))
    pen = ImageDraw.Draw(picture)
    for _ in range(random.integers(1, 4)):
        left, top = random.uniform(20, 260), random.uniform(20, 190)
        pen.ellipse((left, top, left + 24, top + 24), fill=(110, 60, 140))
    return picture


def write_data_set(
    folder: Path, pictures: dict[str, tuple[str, Image.Image | Make]], size: tuple[int, int] = (320, 240)
) -> Path:
    """A detection set in DICE of the given pictures: file name -> (split, picture, or what writes it)."""
    images = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, (name, (split, picture)) in enumerate(pictures.items(), start=1):
        path = folder / "images" / name
        if isinstance(picture, Image.Image):
            picture.save(path)
        else:
            picture(path)
        box = {"id": number, "class_id": 0, "class_name": "disc", "bbox": [40, 30, 80, 60]}
        entry = {"id": number, "file_name": name, "width": size[0], "height": size[1], "split": split}
        images.append(entry | {"annotations": [box]})
    classes = [{"id": 0, "name": "disc"}]
    document = {"dataset_id": "d", "task_type": "object_detection", "classes": classes, "images": images}
    (folder / "annotations_detection.json").write_bytes(orjson.dumps(document))
    return folder


def scenes(count: int, split: str = "train") -> dict[str, tuple[str, Image.Image | Make]]:
    """Sound pictures, all different."""
    return {f"{split}_{i:02}.png": (split, scene(i + 100 * len(split))) for i in range(count)}

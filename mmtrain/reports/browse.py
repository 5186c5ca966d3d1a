"""What the model is shown, as one picture and as one page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from PIL import Image, ImageDraw

from converters.semantic import BACKGROUND_CLASS
from mmtrain.config.words import pipeline_in_words, steps_in_words
from mmtrain.reports.drawing import Skeleton, drawn, font_of, jpeg, painted, read_rgb
from mmtrain.reports.palette import class_color
from mmtrain.reports.semantic import read_indices
from mmtrain.shown import Shown, ShownPicture, read_shown
from trainer_sdk.texts.printable import printable
from trainer_sdk.workspace import write_atomically

SHEET_TILE = 320  # pixels, the longest side of a picture on the contact sheet
PAGE_TILE = (720, 720)
REPORT_TILE = (380, 480)
PAGE_LABEL = 15  # pixels; pages show their pictures at about half their size until one is enlarged
_HEAD_HEIGHT, _TITLE_HEIGHT, _GUTTER = 52, 34, 10  # pixels
_INK, _SOFT, _PAPER = "#1b2027", "#5d6673", "#ffffff"
_NAMED_ABSENT = 20  # classes


class Tile(NamedTuple):
    """One picture with everything drawn on it, for a page."""

    file_name: str
    remark: str
    jpeg: str


class ShownSection(NamedTuple):
    """The part of a report that is called "What the model was shown"."""

    tiles: Sequence[Tile] = ()
    sizes: str = ""
    transforms: Sequence[str] = ()
    problem: str = ""


class ShownClass(NamedTuple):
    """One entry of the legend."""

    name: str
    color: str
    objects: int
    pictures: int


def write_browse(shown: Shown, pictures: Path, out: Path, *, title: str, subtitle: str) -> tuple[Path, Path]:
    """Writes browse.png and browse.html into `out`; `pictures` is the folder of shown.json. Returns their paths."""
    sheet, page = out / "browse.png", out / "browse.html"
    write_sheet(shown, pictures, sheet, title=f"{title}, {subtitle}")
    html = _environment().get_template("browse.html.j2").render(
        title=title,
        subtitle=subtitle,
        tiles=tiles(shown, pictures, PAGE_TILE, PAGE_LABEL),
        sizes=sizes(shown),
        transforms=pipeline_in_words(shown.pipeline),
        legend=legend(shown),
        absent=absent_classes(shown),
        skeleton=bool(shown.keypoint_names),
    )  # fmt: skip
    write_atomically(page, html.encode())
    return sheet, page


def write_sheet(shown: Shown, pictures: Path, path: Path, *, title: str) -> None:
    """The contact sheet: all pictures at a glance."""
    cells = list(_drawn(shown, pictures, (SHEET_TILE, SHEET_TILE)))
    columns = sheet_columns(len(cells))
    cell_height = max(image.height for _, image in cells) + _TITLE_HEIGHT
    sheet = Image.new("RGB", sheet_size(len(cells), cell_height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _write_head(pen, f"{title}: {sizes(shown)} pixels", legend(shown), sheet.width - 2 * _GUTTER)
    for number, (picture, image) in enumerate(cells):
        x = _GUTTER + number % columns * (SHEET_TILE + _GUTTER)
        y = _HEAD_HEIGHT + _GUTTER + number // columns * (cell_height + _GUTTER)
        pen.text((x, y), _cut(pen, picture.file_name), font=font_of(12), fill=_INK)
        pen.text((x, y + 16), remark(picture), font=font_of(11), fill=_SOFT)
        sheet.paste(image, (x + (SHEET_TILE - image.width) // 2, y + _TITLE_HEIGHT))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, compress_level=4)  # 1 % more bytes than 6 in less than half the time


def report_section(pictures: Path) -> ShownSection:
    """What a training left in `pictures`, for its report; why there is nothing, if there is nothing."""
    try:
        shown = read_shown(pictures)
        if shown.problem is not None:
            return ShownSection(problem=shown.problem)
        return ShownSection(
            tiles=tiles(shown, pictures, REPORT_TILE, PAGE_LABEL),
            sizes=sizes(shown),
            transforms=pipeline_in_words(shown.pipeline),
        )
    except (OSError, ValueError) as error:  # a report is worth more than one of its sections
        return ShownSection(problem=f"{type(error).__name__}: {error}")


def sheet_columns(count: int) -> int:
    """4 columns for 12 pictures, 6 for 24: near the 4:3 of a screen."""
    return min(count, math.ceil(math.sqrt(count * 4 / 3)))


def sheet_size(count: int, cell_height: int) -> tuple[int, int]:
    """Width and height in pixels; a cell's height includes its title."""
    columns = sheet_columns(count)
    rows = math.ceil(count / columns)
    return columns * (SHEET_TILE + _GUTTER) + _GUTTER, _HEAD_HEIGHT + rows * (cell_height + _GUTTER) + _GUTTER


def tiles(shown: Shown, pictures: Path, max_size: tuple[int, int], label_size: int = 11) -> list[Tile]:
    """Every picture, drawn and encoded, at most `max_size` (width, height) pixels."""
    return [
        Tile(picture.file_name, remark(picture), jpeg(image))
        for picture, image in _drawn(shown, pictures, max_size, label_size)
    ]


def remark(picture: ShownPicture) -> str:
    """``7 objects · mosaic, flipped``; ``2 classes`` of a class map."""
    count, one, more = len(picture.objects), "object", "objects"
    if picture.class_map is not None:
        count, one, more = len(picture.classes), "class", "classes"
    objects = f"{count} {one if count == 1 else more}"
    return " · ".join([objects, *filter(None, [", ".join(steps_in_words(picture.steps))])])


def sizes(shown: Shown) -> str:
    """``640 × 640``, or the span of widths and heights where pictures differ."""
    widths, heights = ({getattr(p, side) for p in shown.pictures} for side in ("width", "height"))
    return " × ".join(
        f"{min(span)}" if len(span) == 1 else f"{min(span)}\N{EN DASH}{max(span)}" for span in (widths, heights)
    )


def legend(shown: Shown) -> list[ShownClass]:
    """The classes that are seen, in their own order; in a class map each counts once."""
    objects = Counter(k for picture in shown.pictures for k in _class_ids(picture))
    pictures = Counter(k for picture in shown.pictures for k in {*_class_ids(picture)})
    return [
        ShownClass(name, class_color(k), objects[k], pictures[k])
        for k, name in enumerate(shown.class_names)
        if objects[k]
    ]


def _class_ids(picture: ShownPicture) -> list[int]:
    return [*picture.classes, *(thing.category_id for thing in picture.objects)]


def absent_classes(shown: Shown) -> str:
    """The classes that are not, in words."""
    seen = {entry.name for entry in legend(shown)}
    names = [name for name in shown.class_names if name not in seen]
    more = f" and {len(names) - _NAMED_ABSENT} more" if len(names) > _NAMED_ABSENT else ""
    return ", ".join(names[:_NAMED_ABSENT]) + more


def _drawn(
    shown: Shown, pictures: Path, max_size: tuple[int, int], label_size: int = 11
) -> Iterator[tuple[ShownPicture, Image.Image]]:
    """Raises: OSError: a picture is gone."""
    skeleton = Skeleton(shown.keypoint_names, shown.limbs)
    for picture in shown.pictures:
        pixels = read_rgb(pictures / picture.picture)
        if pixels is None:
            raise OSError(f"{pictures / picture.picture} cannot be read")
        if picture.class_map is not None:
            unpainted = [k for k, name in enumerate(shown.class_names) if name == BACKGROUND_CLASS]
            indices = read_indices(pictures / picture.class_map)
            yield picture, painted(pixels, indices, max_size, unpainted, enlarge=True)
            continue
        image = drawn(
            pixels,
            [thing.annotation() for thing in picture.objects],
            shown.class_names,
            max_size=max_size,
            masks=True,
            skeleton=skeleton,
            label_size=label_size,
            enlarge=True,
        )
        yield picture, image


def _write_head(pen: ImageDraw.ImageDraw, title: str, classes: Sequence[ShownClass], width: int) -> None:
    """A title and the classes with their colours, as many as fit."""
    pen.text((_GUTTER, _GUTTER), printable(title), font=font_of(17), fill=_INK)
    x, font = _GUTTER, font_of(12)
    for entry in classes:
        text = f"{printable(entry.name)} ({entry.objects})"
        end = x + 16 + int(pen.textlength(text, font=font))
        if end > width:
            pen.text((x, 40), "…", font=font, fill=_SOFT)
            return
        pen.rectangle((x, 42, x + 10, 52), fill=entry.color)
        pen.text((x + 16, 40), text, font=font, fill=_SOFT)
        x = end + 18


def _cut(pen: ImageDraw.ImageDraw, text: str) -> str:
    """The end of a path says more than its beginning."""
    text, font = printable(text), font_of(12)
    if pen.textlength(text, font=font) <= SHEET_TILE:
        return text
    kept = next(i for i in range(len(text)) if pen.textlength("…" + text[i:], font=font) <= SHEET_TILE)
    return "…" + text[kept:]


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

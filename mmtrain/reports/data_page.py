"""The data page: what a data set holds, what is wrong with it, and what can be trained on it. One file, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from converters import Conversion, Finding
from mmtrain.datasets.columns import SplitColumns, columns_of
from mmtrain.datasets.inspect import Findings
from mmtrain.datasets.profile import DatasetProfile, objects_per_image
from mmtrain.machine import available_cores
from mmtrain.reports import data_plots
from mmtrain.reports.palette import COLORS, class_color
from mmtrain.reports.render import environment, markup
from mmtrain.reports.thumbnails import Subject, thumbnails
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import write_atomically

CLASSES_OPEN = 30
"""More are folded away."""
_ABSENT_NAMED = 8
_ORDER = ("blocks", "repaired", "warns", "info")


@dataclass(frozen=True)
class DataPage:
    """What the page is about and where the pictures are; without a root it has none."""

    title: str
    task: Task
    root: Path | None = None
    paths: Mapping[str, str] = field(default_factory=dict)
    """File name as annotated -> path below the root."""


class ClassRow(NamedTuple):
    """One bar of the histogram per split; `share` of the split's largest class, 0..1."""

    name: str
    color: str | None
    counts: dict[str, int]
    share: dict[str, float]
    total: int


class SplitRow(NamedTuple):
    name: str
    images: int
    objects: int
    per_image: float
    empty_images: int
    absent: list[str]
    absent_more: int


class Picture(NamedTuple):
    file_name: str
    jpeg: str
    """Base64; empty if it cannot be shown."""


def write_data_page(page: DataPage, findings: Findings, conversion: Conversion, path: Path) -> Path:
    """Writes it whole or not at all."""
    write_atomically(path, render_data_page(page, findings, conversion).encode())
    return path


def render_data_page(page: DataPage, findings: Findings, conversion: Conversion) -> str:
    """The page as HTML."""
    splits = {name: columns_of(split) for name, split in conversion.splits.items()}
    columns, classes = [*splits.values()], class_rows(findings.profile)
    return environment().get_template("data.html.j2").render(
        page=page,
        findings=sorted(findings.findings, key=lambda finding: _ORDER.index(finding.severity)),
        blocking=[finding.code for finding in findings.blocking],
        pictures=_pictures(page, findings.findings),
        profile=findings.profile,
        trainable=sorted(findings.trainable, key=lambda answer: not answer.possible),
        best=findings.recommendation,
        split_reason=findings.split_reason,
        split_rows=[_split_row(name, split, findings.classes) for name, split in splits.items()],
        class_rows=classes[:CLASSES_OPEN],
        more_classes=classes[CLASSES_OPEN:],
        colored=len(classes) <= len(COLORS),
        size_svg=markup(data_plots.size_plot(columns, len(classes))),
        per_image_svg=markup(data_plots.per_image_plot(columns)),
        image_size_svg=markup(data_plots.image_size_plot(columns)),
    )  # fmt: skip


def class_rows(profile: DatasetProfile) -> list[ClassRow]:
    """Largest class first."""
    largest = {name: max((c[name] for c in profile.objects_per_class.values()), default=0) for name in profile.images}
    few = profile.num_classes <= len(COLORS)
    rows = [
        ClassRow(
            name=name,
            color=class_color(index) if few else None,
            counts=counts,
            share={split: count / max(largest[split], 1) for split, count in counts.items()},
            total=sum(counts.values()),
        )
        for index, (name, counts) in enumerate(profile.objects_per_class.items())
    ]
    return sorted(rows, key=lambda row: -row.total)


def _split_row(name: str, split: SplitColumns, class_names: tuple[str, ...]) -> SplitRow:
    counts = objects_per_image(split)
    used = set(np.unique(split.objects.category_id).tolist())
    absent = [label for index, label in enumerate(class_names) if index not in used] if len(counts) else []
    return SplitRow(
        name=name,
        images=len(counts),
        objects=int(counts.sum()),
        per_image=float(counts.mean()) if len(counts) else 0.0,
        empty_images=int((counts == 0).sum()),
        absent=absent[:_ABSENT_NAMED],
        absent_more=len(absent) - len(absent[:_ABSENT_NAMED]),
    )


def _pictures(page: DataPage, findings: tuple[Finding, ...]) -> dict[str, list[Picture]]:
    """Code -> the pictures that show it."""
    if page.root is None:
        return {}
    places = [(one.code, name, box) for one in findings for name, box in zip(one.files, one.boxes_xywh, strict=True)]
    subjects = [Subject(page.root / page.paths.get(name, name), box) for _, name, box in places]
    pictures: dict[str, list[Picture]] = {}
    for (code, name, _), jpeg in zip(places, thumbnails(subjects, available_cores()), strict=True):
        pictures.setdefault(code, []).append(Picture(name, jpeg))
    return pictures

"""Everything asked of a data set before it is trained on, in the order that a job, the doctor and browse share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from converters import Conversion, convert
from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.datasets.inspect import (
    MOST_OPENED,
    Findings,
    forget_damaged,
    judge,
    look_at_images,
    look_at_mask_files,
    tolerably_missing,
    with_real_sizes,
)
from mmtrain.datasets.pictures import Pictures
from trainer_sdk.tasks import Task


class Preflight(NamedTuple):
    """The data set as it would be trained on, and all that was found; `Findings.raise_if_blocked` is the caller's."""

    conversion: Conversion
    findings: Findings


def preflight(
    fetched: FetchedDataset,
    task: Task | None,
    report: Callable[[int, int], None],
    *,
    pictures: Pictures | None = None,
    config_split: Mapping[str, Any] | None = None,
    snapshot: Mapping[str, Any] | None = None,
    keypoints: Mapping[str, Any] | None = None,
    most: int | None = MOST_OPENED,
) -> Preflight:
    """Looks at the pictures, converts, and judges.

    Args:
        task: None takes the one that uses most of the labels.
        report: called with (files looked at, files in all).
        pictures: where they are; by default in the data set's folder.
        most: pictures to open; None for all.

    Raises:
        ConfigError, DatasetError: as `convert`.
    """
    looks = look_at_images(fetched, report, most, pictures)
    if fetched.bucket is not None:
        forget_damaged(fetched, looks)
    missing = tolerably_missing(fetched)
    dice = with_real_sizes(fetched.dice, looks)

    def judged(task: Task) -> Preflight:
        masks = look_at_mask_files(fetched, report) if task is Task.SEMANTIC else None
        conversion = convert(
            dice,
            task,
            config_split=config_split,
            snapshot=snapshot,
            keypoints=keypoints,
            masks=masks,
            left_out=missing,
        )
        return Preflight(*judge(conversion, fetched, looks, missing))

    first = judged(task or Task.DETECTION)
    recommended = first.findings.recommendation.task if first.findings.recommendation else Task.DETECTION
    return first if task or recommended is Task.DETECTION else judged(recommended)

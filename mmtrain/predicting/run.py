"""From addresses to files: pictures are read, looked at and written at the same time, in order, within bounds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import cv2
import orjson

from mmtrain.predicting.flow import chunks, in_order
from mmtrain.predicting.found import Seen
from mmtrain.predicting.inputs import Entry, Places
from mmtrain.predicting.options import Options
from mmtrain.predicting.order import FIRST_ROWS, MOST_ROWS, Predicted
from mmtrain.predicting.pixels import Pending, decoded, pending
from mmtrain.predicting.preannotations import Points, Spool
from mmtrain.predicting.predictor import Looker, Predictor, Ready
from mmtrain.predicting.rows import slim
from mmtrain.predicting.writers import COCO_RESULTS, PREDICTIONS, JsonList, PictureFiles, Rows, Wanted
from mmtrain.reports.drawing import Skeleton
from trainer_sdk.errors import DatasetError

WRITERS = 2
"""Threads that draw and write; each picture takes about as long as decoding it."""
PROBLEMS_KEPT = 50
Report = Callable[[int], None]


class Reading(NamedTuple):
    """How pictures get here."""

    places: Places
    threads: int
    folder: Path
    """For videos that are fetched, and for what waits to be written."""


class Writing(NamedTuple):
    """What is left behind, and where."""

    out: Path
    wanted: Wanted
    save_dice: bool
    skeleton: Skeleton | None = None
    point_names: tuple[str, ...] = ()


def predict_all(
    found: Iterable[Entry],
    predictor: Predictor,
    options: Options,
    reading: Reading,
    writing: Writing,
    report: Report,
) -> Predicted:
    """Everything, whatever single pictures are like: one that cannot be decoded is one row with its error.

    Args:
        report: is called after each picture with how many are done; what it raises ends the work.

    Raises:
        NetworkError: a storage cannot be reached any more.
        OSError: a file cannot be written.
    """
    started = time.perf_counter()
    files = PictureFiles(writing.out, predictor.classes, writing.wanted, writing.skeleton)
    readies = in_order(
        pending(found, reading.places, reading.folder),
        _opener(Looker(predictor, options), reading.places),
        threads=reading.threads,
        ahead=reading.threads + 2 * options.batch,
    )
    seen = chain.from_iterable(map(Looker(predictor, options).see, chunks(readies, options.batch)))
    keep = writing.wanted.save_images or writing.wanted.save_crop
    written = in_order(seen, _writer(files, keep=keep), threads=WRITERS, ahead=2 * WRITERS + options.batch)
    totals = _collected(written, predictor, reading, writing, report)
    return totals.predicted(predictor, time.perf_counter() - started)


def _opener(looker: Looker, places: Places) -> Callable[[Pending], Ready]:
    def open_one(one: Pending) -> Ready:
        if one.error:
            return Ready(one, None, (), one.error)
        try:
            picture = decoded(places.read(one.item.address)) if one.frame is None else one.frame
            return looker.ready(one, picture)
        except DatasetError as error:
            return Ready(one, None, (), error.message)
        except (OSError, cv2.error) as error:
            return Ready(one, None, (), str(error))

    return open_one


def _writer(files: PictureFiles, *, keep: bool) -> Callable[[Seen], tuple[Seen, Rows]]:
    def write_one(seen: Seen) -> tuple[Seen, Rows]:
        rows = files.write(seen if keep else replace(seen, picture=None))
        return replace(seen, picture=None), rows

    return write_one


@dataclass
class _Totals:
    images: int = 0
    unreadable: int = 0
    objects: int = 0
    inference_ms: float = 0.0
    of_class: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, seen: Seen, rows: Rows) -> None:
        self.images += 1
        self.inference_ms += seen.inference_ms
        self.objects += rows.platform["num_detections"]
        self.of_class.update(one["class_name"] for one in rows.platform["predictions"])
        if seen.error:
            self.unreadable += 1
            if len(self.problems) < PROBLEMS_KEPT:
                self.problems.append((seen.item.address, seen.error))

    def predicted(self, predictor: Predictor, wall_s: float) -> Predicted:
        return Predicted(
            task=predictor.task,
            class_names=predictor.classes.names,
            images=self.images,
            unreadable=self.unreadable,
            objects=self.objects,
            of_class={name: self.of_class[name] for name in predictor.classes.names},
            inference_ms=round(self.inference_ms, 3),
            wall_s=round(wall_s, 3),
            first_problems=tuple(self.problems),
        )

    def tail(self) -> dict[str, float]:
        """What predictions.json says of all of them (contract 7.4)."""
        looked_at = max(1, self.images - self.unreadable)
        return {
            "total_images": self.images,
            "total_detections": self.objects,
            "unreadable_images": self.unreadable,
            "avg_inference_time_ms": round(self.inference_ms / looked_at, 3),
        }


def _collected(
    written: Iterator[tuple[Seen, Rows]], predictor: Predictor, reading: Reading, writing: Writing, report: Report
) -> _Totals:
    totals = _Totals()
    predictions = JsonList(writing.out / PREDICTIONS, head="results")
    coco = JsonList(writing.out / COCO_RESULTS)
    spool = Spool(reading.folder / "preannotations.jsonl", predictor.classes) if writing.save_dice else None
    with (reading.folder / FIRST_ROWS).open("wb") as first:
        for seen, rows in written:
            totals.add(seen, rows)
            predictions.add(rows.platform)
            for row in rows.coco:
                coco.add(row)
            if spool is not None:
                spool.add(seen)
            if totals.images <= MOST_ROWS:
                first.write(
                    orjson.dumps({"row": slim(rows.platform), "path": seen.item.path, "error": seen.error}) + b"\n"
                )
            report(totals.images)
    coco.close()
    if spool is not None:
        spool.write(predictor.task, writing.out, Points(writing.point_names) if writing.point_names else None)
    predictions.close(totals.tail())
    return totals

"""The process that predicts: an order of the parent in, files in ``out/`` and one summary out."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2

from mmtrain.engine.messages import MessageWriter, Progressed
from mmtrain.engine.serving import serve
from mmtrain.predicting.agreement import LEAST, PROBES, agreement
from mmtrain.predicting.found import Bgr, Seen
from mmtrain.predicting.inputs import Places, entries, first_of, is_video, none_found, numbered
from mmtrain.predicting.options import Options, only_these
from mmtrain.predicting.order import PREDICTED, PredictOrder
from mmtrain.predicting.pixels import Pending, decoded
from mmtrain.predicting.predictor import Looker, Predictor
from mmtrain.predicting.run import Reading, Writing, predict_all
from mmtrain.reports.drawing import Skeleton
from trainer_sdk.errors import DatasetError
from trainer_sdk.settings import Settings
from trainer_sdk.workspace import write_json

SAY_EVERY_S = 0.5


class Opened(NamedTuple):
    """A model and what its drawings and pre-annotations need to know of its points."""

    predictor: Predictor
    options: Options
    skeleton: Skeleton = Skeleton()
    notes: tuple[str, ...] = ()


def run(order: PredictOrder, work_dir: Path, writer: MessageWriter) -> None:
    """Looks at every picture. Raises: JobError."""
    cv2.setNumThreads(1)  # pictures are decoded side by side; more threads in each would fight over the cores
    places = Places(Settings.from_env(os.environ))
    first, found = first_of(entries(order.sources, places))
    if first is None:
        raise none_found(order.sources)
    opened = proven(order, open_model(order), places)
    writing = Writing(
        out=work_dir.parent / "out",
        wanted=order.wanted,
        save_dice=order.save_dice,
        skeleton=opened.skeleton,
        point_names=tuple(opened.skeleton.names),
    )
    reading = Reading(places, order.readers, work_dir)
    report = _reporter(writer, _count(order, places))
    predicted = predict_all(found, opened.predictor, opened.options, reading, writing, report)
    predicted = predicted.model_copy(update={"notes": opened.notes})
    write_json(work_dir / PREDICTED, predicted.model_dump(mode="json"))


def open_model(order: PredictOrder) -> Opened:
    """The checkpoint's or the package's model, limited as the order says."""
    predictor, skeleton, notes = _opened(order)
    only = only_these(order.classes, predictor.classes)
    return Opened(predictor, order.options.model_copy(update={"only": only}), skeleton, notes)


def _opened(order: PredictOrder) -> tuple[Predictor, Skeleton, tuple[str, ...]]:
    if order.package:
        from mmtrain.predicting.package import open_package  # needs no torch

        return open_package(order.model.path, order.options)
    from mmtrain.predicting.checkpoint import open_checkpoint

    opened: tuple[Predictor, Skeleton, tuple[str, ...]] = open_checkpoint(order)
    return opened


def proven(order: PredictOrder, opened: Opened, places: Places) -> Opened:
    """The model in fewer bits if it sees what it sees in float32, else in float32."""
    if order.options.precision == "fp32":
        return opened
    plain = open_model(order.model_copy(update={"options": order.options.model_copy(update={"precision": "fp32"})}))
    probes = _probes(order, places)
    share = agreement(_seen(plain, probes), _seen(opened, probes), order.options.conf)
    name = order.options.precision
    if share is not None and share >= LEAST:
        note = f"{name} sees {share:.1%} of what float32 sees in {len(probes)} of these images"
        return opened._replace(notes=(*opened.notes, note))
    why = "nothing was found to compare" if share is None else f"only {share:.1%} of the objects are the same"
    return plain._replace(notes=(*plain.notes, f"{name} is not used but float32: {why}"))


def _probes(order: PredictOrder, places: Places) -> list[tuple[Pending, Bgr]]:
    """The first pictures that can be decoded."""
    found: list[tuple[Pending, Bgr]] = []
    for item in numbered(entry for entry in entries(order.sources, places) if not is_video(entry.address)):
        with contextlib.suppress(DatasetError, OSError):
            found.append((Pending(item), decoded(places.read(item.address))))
        if len(found) == PROBES:
            break
    return found


def _seen(opened: Opened, probes: list[tuple[Pending, Bgr]]) -> list[Seen]:
    looker = Looker(opened.predictor, opened.options)
    return list(looker.see([looker.ready(pending, picture) for pending, picture in probes]))


def _count(order: PredictOrder, places: Places) -> int:
    """How many pictures there are; 0 where nobody knows, as of a video's frames."""
    total = 0
    for entry in entries(order.sources, places):
        if is_video(entry.address):
            return 0
        total += 1
    return total


def _reporter(writer: MessageWriter, total: int) -> Callable[[int], None]:
    """Says now and then how far it is."""
    last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SAY_EVERY_S or done == total:
            last = time.monotonic()
            writer.say(Progressed(what="predicting", done=done, total=max(total, done)))

    return report


if __name__ == "__main__":
    sys.exit(serve(run, PredictOrder, Path(sys.argv[1])))

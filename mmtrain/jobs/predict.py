"""The predict job, from a request to published predictions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from mmtrain.display import Display
from mmtrain.engine.order import ModelSource
from mmtrain.jobs.alone import let_worker_do, one_device
from mmtrain.jobs.model_file import ModelFile, obtain_model
from mmtrain.jobs.predict_publish import publish_predictions
from mmtrain.machine import Machine, look_at_machine
from mmtrain.predicting.options import Options
from mmtrain.predicting.order import FIRST_ROWS, PREDICTED, Predicted, PredictOrder
from mmtrain.predicting.writers import Wanted
from mmtrain.reports.predictions_page import write_predictions_page
from trainer_sdk.jobspec import PredictSpec
from trainer_sdk.model_events import InferenceCompleted, InferenceRow, rows_in_pieces
from trainer_sdk.session import JobSession

STORAGE_KEYS = tuple(
    f"{side}_STORAGE_{name}" for side in ("INTERNAL", "EXTERNAL") for name in ("ACCESS_KEY", "SECRET_KEY")
)
MOST_READERS = 8


def run(spec: PredictSpec, session: JobSession) -> InferenceCompleted:
    """From a request to published predictions."""
    space = session.workspace
    space.save("job.json", spec)
    for note in spec.notes:
        session.log(note, level="WARNING")
    with session.step("check"):
        machine = look_at_machine(session.environ)
        device, gpus = one_device(spec.config.device, machine)
        model = obtain_model(spec, session.settings, space.work)
    with session.step("predict"), Display("predicting", unit="images") as display:
        order = order_of(spec, model, machine, device)
        let_worker_do("mmtrain.predicting.worker", order, session, display, gpus=gpus, keys=_keys(spec))
        predicted = Predicted.model_validate_json((space.work / PREDICTED).read_bytes())
    with session.step("report"):
        _tell(predicted, session)
        write_predictions_page(predicted.model_dump(mode="json"), _first_rows(space.work), space.out)
    with session.step("publish"):
        publish_predictions(spec, session)
    done = InferenceCompleted(
        total_images=predicted.images,
        total_inference_time_ms=predicted.inference_ms,
        avg_inference_time_ms=predicted.average_ms,
    )
    rows = (InferenceRow.model_validate(row["row"]) for row in _first_rows(space.work))
    for piece in rows_in_pieces(rows, done):
        session.tell(piece)
    return done


def order_of(spec: PredictSpec, model: ModelFile, machine: Machine, device: str) -> PredictOrder:
    """What the worker is asked: the request, with what this machine decides."""
    config = spec.config
    readers = min(MOST_READERS, machine.cores) if config.workers is None else max(1, config.workers)
    return PredictOrder(
        parent=os.getpid(),
        threads=machine.cores,
        model=ModelSource(
            path=model.path,
            name=model.name,
            device=device,
            model_name=spec.model_name,
            task=spec.task,
            class_names=config.class_names,
            keypoints=config.keypoints,
            size_wh=config.imgsz,
        ),
        package=model.package,
        sources=spec.images,
        options=Options(
            **config.model_dump(
                include={"conf", "iou", "max_det", "imgsz", "precision", "tiles", "tile_overlap", "flip"}
            ),
            filtered=config.classes is not None,
            device=device,
            threads=machine.cores,
            batch=config.batch or default_batch(device),
        ),
        classes=config.classes,
        wanted=Wanted(**config.model_dump(include={"save_images", "save_txt", "save_conf", "save_crop"})),
        save_dice=config.save_dice,
        readers=readers,
    )


def _keys(spec: PredictSpec) -> tuple[str, ...]:
    """The worker learns the keys to storages only where pictures are in one: it reads them itself."""
    return STORAGE_KEYS if any(source.startswith("s3://") for source in spec.images) else ()


def default_batch(device: str) -> int:
    """A CPU is busy with one picture; a GPU wants several."""
    return 1 if device == "cpu" else 16


def _first_rows(work: Path) -> Iterator[dict[str, object]]:
    with (work / FIRST_ROWS).open("rb") as file:
        yield from map(orjson.loads, file)


def _tell(predicted: Predicted, session: JobSession) -> None:
    looked_at = predicted.images - predicted.unreadable
    session.log(
        f"{predicted.objects} objects in {looked_at} images, {predicted.average_ms:.1f} ms an image in the model, "
        f"{looked_at / max(predicted.wall_s, 1e-9):.1f} images/s in all"
    )
    for note in predicted.notes:
        session.log(note, level="WARNING")
    if predicted.unreadable:
        named = "; ".join(f"{address}: {problem}" for address, problem in predicted.first_problems[:5])
        session.log(f"{predicted.unreadable} images could not be looked at: {named}", level="WARNING")

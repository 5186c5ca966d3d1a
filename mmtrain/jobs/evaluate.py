"""The evaluate job: one model, one split of one data set, the report of a training."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, NamedTuple

from converters import Conversion, DiceDataset, write_conversion
from mmtrain.config.files import DatasetFiles
from mmtrain.datasets.classes import Matched, matched
from mmtrain.datasets.fetch import FetchedDataset, fetch, read_snapshot
from mmtrain.datasets.inspect import Findings
from mmtrain.datasets.preflight import preflight
from mmtrain.display import Display
from mmtrain.engine.order import MODEL, EvaluateOrder, FactsOrder, ModelFacts, ModelSource
from mmtrain.jobs.alone import let_worker_do, one_device
from mmtrain.jobs.evaluate_report import Measured, report_evaluation
from mmtrain.jobs.evaluated import publish_evaluation
from mmtrain.jobs.model_file import ModelFile, obtain_model
from mmtrain.jobs.narrator import tell_findings
from mmtrain.jobs.report import headline_split
from mmtrain.machine import Machine, look_at_machine
from mmtrain.predicting.package_facts import package_facts
from mmtrain.reports.models import SplitName
from trainer_sdk.errors import CheckpointError, DatasetError
from trainer_sdk.jobspec import EvaluateSpec, ExportSpec
from trainer_sdk.model_events import TestRunCompleted
from trainer_sdk.session import JobSession
from trainer_sdk.tasks import Task

FACTS_WORKER, WORKER = "mmtrain.engine.facts_worker", "mmtrain.engine.evaluate_worker"
PACKAGE_WORKER = "mmtrain.predicting.evaluate_worker"
ONLY_FOR_TRAINING = frozenset({"DS002", "DS031", "DS043", "DS078"})
"""Findings that forbid training for what one of its splits lacks: an evaluation asks of its own split alone."""
MOST_WORKERS = 8


class Chosen(NamedTuple):
    """The data of the evaluation: one split, which stands in the place of ``val``."""

    split: SplitName
    matched: Matched
    findings: Findings


def run(spec: EvaluateSpec, session: JobSession) -> TestRunCompleted:
    """From a request to published numbers."""
    space = session.workspace
    space.save("job.json", spec)
    for note in spec.notes:
        session.log(note, level="WARNING")
    with session.step("check"), Display("checking", unit="models") as display:
        machine = look_at_machine(session.environ)
        device, gpus = one_device(spec.config.device, machine)
        file = obtain_model(spec, session.settings, space.work)
        source = _source(spec, file, device)
        facts = package_facts(source) if file.package else facts_of(source, machine, session, display)
        session.course.task = facts.task
    with session.step("fetch"), Display("fetching", unit="images") as display:
        fetched = fetch(spec.dataset, facts.task, session.settings, display)
    with session.step("inspect"), Display("checking", unit="images") as display:
        chosen = choose(spec, facts, fetched, session, display)
        write_conversion(chosen.matched.conversion, space.dataset, fetched.mask_path)
        tell_findings(chosen.findings, session)
    with session.step("evaluate"), Display("evaluating", unit="images") as display:
        order = EvaluateOrder(
            parent=os.getpid(),
            threads=machine.cores,
            source=source,
            files=DatasetFiles(
                images=fetched.root, train=space.dataset / "train.json", val=space.dataset / "val.json", test=None
            ),
            class_names=chosen.matched.conversion.class_names,
            labels=chosen.matched.labels,
            batch=spec.config.batch,
            workers=min(MOST_WORKERS, machine.cores) if spec.config.workers is None else spec.config.workers,
        )
        done = let_worker_do(PACKAGE_WORKER if file.package else WORKER, order, session, display, gpus=gpus)
    with session.step("report"):
        measured = Measured(spec, facts, chosen.split, chosen.matched, chosen.findings, fetched, source, done.seconds)
        report = report_evaluation(measured, space)
        session.log(f"{report.primary_metric.name} {_number(report.primary_metric.value)} on {chosen.split}")
    with session.step("publish"):
        return publish_evaluation(spec, report, session)


def source_of(spec: EvaluateSpec | ExportSpec, session: JobSession, device: str) -> ModelSource:
    """A checkpoint on this machine, and what the request says of it.

    Raises:
        CheckpointError: it cannot be had, or is an exported package.
        NetworkError: the storage cannot be reached or refuses us.
    """
    file = obtain_model(spec, session.settings, session.workspace.work)
    if file.package:
        raise CheckpointError(f"{file.name} is an exported package", hint="name the checkpoint it was made of")
    return _source(spec, file, device)


def _source(spec: EvaluateSpec | ExportSpec, file: ModelFile, device: str) -> ModelSource:
    return ModelSource(
        path=file.path,
        name=file.name,
        device=device,
        model_name=spec.model_name,
        task=spec.task,
        class_names=spec.config.class_names,
        keypoints=spec.config.keypoints,
        size_wh=spec.config.imgsz,
    )


def facts_of(source: ModelSource, machine: Machine, session: JobSession, display: Display) -> ModelFacts:
    """What the checkpoint says of itself, before a byte of the data is moved.

    Raises:
        CheckpointError, ConfigError: as `load_model`.
    """
    order = FactsOrder(parent=os.getpid(), threads=machine.cores, source=source)
    let_worker_do(FACTS_WORKER, order, session, display, gpus=())
    return ModelFacts.model_validate_json((session.workspace.work / MODEL).read_bytes())


def choose(
    spec: EvaluateSpec, facts: ModelFacts, fetched: FetchedDataset, session: JobSession, display: Display
) -> Chosen:
    """The images to look at, with their truth in the model's classes.

    Raises:
        ConfigError: a split that makes no sense.
        DatasetError: data that cannot be used, a split without images, classes or points that are not the model's.
    """
    everything = spec.config.split == "all"
    conversion, found = preflight(
        fetched,
        facts.task,
        display,
        config_split=_all_in_val(fetched.dice, spec.config.split_config) if everything else spec.config.split_config,
        snapshot=read_snapshot(spec.dataset, session.settings),
        keypoints=spec.config.keypoints,
    )
    session.workspace.save("findings.json", found)
    raise_if_unusable(found)
    asked = spec.config.split
    split = asked if asked is not None else headline_split(found.images)
    place = "val" if split == "all" else split
    objects = found.objects[place] or facts.task is Task.SEMANTIC  # whose truth may be files of pixels
    if not found.images[place] or not objects:
        counts = ", ".join(f"{count} {name}" for name, count in found.images.items())
        raise DatasetError(
            f"there is nothing to measure in {split}: the data set has {counts} images, and "
            f"{found.objects[place]} objects in {place}",
            hint="choose another CONFIG split (train, val, test, all), or set CONFIG split_config",
        )
    _check_points(facts, conversion)
    known = matched(conversion, facts.class_names)
    splits = known.conversion.splits
    alone = replace(known.conversion, splits={**splits, "val": splits[place]})
    return Chosen(split, known._replace(conversion=alone), found)


def raise_if_unusable(found: Findings) -> None:
    """Raises: DatasetError: data that not even a model that is there already can look at."""
    blocking = tuple(finding for finding in found.findings if finding.code not in ONLY_FOR_TRAINING)
    found.model_copy(update={"findings": blocking}).raise_if_blocked()


def _all_in_val(dice: DiceDataset, asked: dict[str, Any] | None) -> dict[str, Any]:
    """Everything in one place, but for what is excluded."""
    splits = {str(image.id): "val" for image in dice.images}
    return {"method": "manual", "splits": splits, "exclude_images": (asked or {}).get("exclude_images", [])}


def _check_points(facts: ModelFacts, conversion: Conversion) -> None:
    """Raises: DatasetError: other points than the model's, or in another order."""
    if facts.task is not Task.POSE or conversion.keypoints is None or facts.keypoint_names is None:
        return
    if conversion.keypoints.names != facts.keypoint_names:
        raise DatasetError(
            f"the model's keypoints are {', '.join(facts.keypoint_names)}, "
            f"the data set's {', '.join(conversion.keypoints.names)}",
            hint="a model can be measured on the points it was trained for alone, in their order",
        )


def _number(value: float | int | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"

"""Measures what the model saw in a split, and writes the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mmtrain.datasets.classes import Matched
from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.datasets.inspect import Findings
from mmtrain.datasets.pictures import PicturesHere
from mmtrain.engine.order import PREDICTIONS, ModelFacts, ModelSource
from mmtrain.jobs.access import Access
from mmtrain.jobs.report import measured_files, write_page_of_data
from mmtrain.metrics import report_name
from mmtrain.plan import KeypointLayout
from mmtrain.reports.models import SplitName, TrainReport, build_report
from mmtrain.versions import versions
from trainer_sdk.jobspec import EvaluateSpec
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import Workspace, fingerprint


class Measured(NamedTuple):
    """All that an evaluation is made of."""

    spec: EvaluateSpec
    facts: ModelFacts
    split: SplitName
    matched: Matched
    findings: Findings
    fetched: FetchedDataset
    source: ModelSource
    seconds: float


def report_evaluation(measured: Measured, space: Workspace) -> TrainReport:
    """Writes out/report.json, report.html, data.html and, as PNG files, out/plots/."""
    from mmtrain.reports.plot_files import write_plots
    from mmtrain.reports.render import write_report  # matplotlib: a second that only this step needs
    from mmtrain.reports.splits import draw_split, evaluate_split

    spec, facts, conversion = measured.spec, measured.facts, measured.matched.conversion
    layout = KeypointLayout.of(conversion.keypoints) if conversion.keypoints else None
    name = PREDICTIONS if facts.task is Task.SEMANTIC else f"{PREDICTIONS}.json"
    files = measured_files(facts.task, space.dataset / "val.json", space.work / name, layout)
    evaluation = evaluate_split(files, spec.config.conf)
    access = Access(measured.fetched.root, PicturesHere(measured.fetched.root))
    write_page_of_data(spec.dataset.id, measured.findings, conversion, measured.fetched, access, space)
    report = build_report(
        {measured.split: evaluation},
        measured.split,
        report_name(facts.primary_metric),
        kind="evaluate",
        job_id=spec.job_id,
        model_name=facts.recipe,
        dataset_id=spec.dataset.id,
        best_epoch=facts.epoch,
        findings=[finding.model_dump() for finding in measured.findings.findings],
        plan=_decisions(measured),
        versions=versions(),
        files=_files(measured.source.path),
        duration_s=measured.seconds,
        images={measured.split: evaluation.images},
        notes=[*spec.notes, *measured.matched.remarks(), *_notes(measured)],
    )
    write_report(report, draw_split(files, access.pictures, evaluation), space.out)
    write_plots(evaluation, space.out / "plots")
    return report


def _files(path: Path) -> list[dict[str, Any]]:
    """The checkpoint, or what is in a package."""
    found = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    return [{"name": file.name, **fingerprint(file)} for file in found]


def _notes(measured: Measured) -> list[str]:
    facts = measured.facts
    if facts.trained_on_sha256 is None:
        return ["The checkpoint does not say on which data it was trained."]
    if facts.trained_on_sha256 != measured.fetched.sha256:
        return []
    if measured.split in ("train", "all"):
        return ["The model was trained on images of this very data set: these numbers flatter it."]
    return ["The model was trained on this data set: the numbers are honest if the images are split as they were then."]


def _decisions(measured: Measured) -> list[dict[str, Any]]:
    spec, source, facts = measured.spec, measured.source, measured.facts
    asked = "asked for"
    return [
        {"name": "checkpoint", "value": source.name, "origin": "request", "reason": asked},
        {"name": "model", "value": facts.recipe, "origin": "checkpoint", "reason": "what it is one of"},
        {
            "name": "split",
            "value": measured.split,
            "origin": "request" if spec.config.split else "data",
            "reason": asked if spec.config.split else "test where it is worth a number, else val",
        },
        {
            "name": "images",
            "value": measured.findings.split_reason,
            "origin": "data",
            "reason": "who is in which split",
        },
        {
            "name": "imgsz",
            "value": list(facts.size_wh),
            "origin": "request" if spec.config.imgsz else "checkpoint",
            "reason": asked if spec.config.imgsz else "the size it was trained with",
        },
        {
            "name": "device",
            "value": source.device,
            "origin": "request" if spec.config.device else "machine",
            "reason": asked if spec.config.device else "the best one present",
        },
        {"name": "classes", "value": list(facts.class_names), "origin": "checkpoint", "reason": "matched by name"},
    ]

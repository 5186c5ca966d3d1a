"""Measures the best checkpoint on what it has not trained on, and writes the report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from converters import Conversion
from converters.pose_files import COCO_SIGMAS, USUAL_SIGMA, sigmas_of
from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.datasets.inspect import Findings
from mmtrain.engine.messages import Finished
from mmtrain.jobs.access import Access
from mmtrain.metrics import report_name
from mmtrain.plan import KeypointLayout, TrainPlan
from mmtrain.recipes import load_recipe
from mmtrain.reports.models import Curves, Evaluation, TrainReport, build_report
from mmtrain.shown import JOB_FOLDER, read_shown
from mmtrain.versions import versions
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.tasks import Task
from trainer_sdk.workspace import Workspace, fingerprint

if TYPE_CHECKING:
    from mmtrain.reports.splits import SplitFiles

log = logging.getLogger("trainer")


def report_training(
    spec: TrainSpec,
    plan: TrainPlan,
    findings: Findings,
    finished: Finished,
    curves: Curves,
    notes: list[str],
    access: Access,
    space: Workspace,
) -> TrainReport:
    """Writes out/report.json, out/report.html and, of what the model was shown, out/browse.png."""
    from mmtrain.reports.browse import report_section, write_sheet
    from mmtrain.reports.render import write_report  # matplotlib: a second that only this step needs
    from mmtrain.reports.splits import draw_split

    splits = evaluate_splits(plan, findings, space)
    evaluated_on = headline_split(findings.images)
    report = build_report(
        splits,
        evaluated_on,
        report_name(plan.primary_metric.value),
        job_id=spec.job_id,
        model_name=plan.recipe,
        dataset_id=spec.dataset.id,
        curves=curves,
        best_epoch=finished.best_epoch,
        findings=[finding.model_dump() for finding in findings.findings],
        plan=plan.decisions(),
        versions=versions(),
        files=[{"name": name, **fingerprint(space.out / name)} for name in ("best.pth", "last.pth")],
        duration_s=finished.train_s,
        images=findings.images,
        notes=[*spec.notes, *notes, *_headline_note(findings.images), *_pose_notes(plan)],
    )
    samples = draw_split(split_files(plan, evaluated_on, space), access.pictures, splits[evaluated_on])
    shown = space.path(JOB_FOLDER)
    section = report_section(shown)
    if section.tiles:
        title = f"{plan.recipe} on {spec.dataset.id}, training pictures after augmentation"
        write_sheet(read_shown(shown), shown, space.out / "browse.png", title=title)
    else:
        log.warning("the report does not show what the model was shown: %s", section.problem)
    write_report(report, samples, space.out, section)
    return report


def write_page_of_data(
    dataset_id: str,
    findings: Findings,
    conversion: Conversion,
    fetched: FetchedDataset,
    access: Access,
    space: Workspace,
) -> None:
    """Writes out/data.html, which the report links to."""
    from mmtrain.reports.data_page import DataPage, write_data_page
    from mmtrain.reports.render import DATA_PAGE

    shown = {name for finding in findings.findings for name in finding.files}
    paths = {name: path for name, path in fetched.image_paths.items() if name in shown}
    page = DataPage(dataset_id, conversion.task, access.copies(paths, space.work / "pictures"), paths)
    write_data_page(page, findings, conversion, space.out / DATA_PAGE)


def _headline_note(images: dict[str, int]) -> list[str]:
    if not images["test"] or headline_split(images) == "test":
        return []
    return [f"The test split has only {images['test']} image(s): the headline is val's."]


def _pose_notes(plan: TrainPlan) -> list[str]:
    """What the numbers of a pose depend on and do not show."""
    if plan.keypoints is None:
        return []
    sigmas = sigmas_of(plan.keypoints.names)
    measured = (
        "COCO's sigmas" if set(sigmas) <= set(COCO_SIGMAS.values()) else f"a sigma of {USUAL_SIGMA} for all points"
    )
    notes = [f"OKS uses {measured}; predictions are made once, without a mirrored copy (flip test)."]
    if not load_recipe(plan.recipe, plan.task).one_stage:
        notes.append(
            "Poses are looked for in the boxes of the ground truth: with a detector's boxes they come out worse."
        )
    return notes


def headline_split(images: dict[str, int]) -> Literal["test", "val"]:
    """Test, unless it is only what rounding left over: one picture is no result."""
    return "test" if images["test"] >= max(2, images["val"] / 2) else "val"


def evaluate_splits(plan: TrainPlan, findings: Findings, space: Workspace) -> dict[str, Evaluation]:
    """Val chooses the score threshold, where there are scores; test is only measured with it."""
    from mmtrain.reports.splits import evaluate_split

    splits: dict[str, Evaluation] = {}
    for name in ("val", "test"):
        if findings.images[name]:
            point = splits["val"].operating_point if name == "test" else None
            files = split_files(plan, name, space)
            splits[name] = evaluate_split(files, point.score_threshold if point else None)
    return splits


def split_files(plan: TrainPlan, name: str, space: Workspace) -> SplitFiles:
    """Where the worker left what it saw."""
    masks = plan.task is Task.SEMANTIC
    predictions = space.work / (f"predictions_{name}" if masks else f"predictions_{name}.json")
    return measured_files(plan.task, space.dataset / f"{name}.json", predictions, plan.keypoints)


def measured_files(task: Task, annotations: Path, predictions: Path, points: KeypointLayout | None) -> SplitFiles:
    """Truth and predictions of one split."""
    from mmtrain.reports.splits import PosePoints, SplitFiles

    pose = PosePoints(points.names, sigmas_of(points.names), points.flip_pairs, points.skeleton) if points else None
    return SplitFiles(task, annotations, predictions, pose)

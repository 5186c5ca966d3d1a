"""Measures the best checkpoint on what it has not trained on, and writes the report."""

from __future__ import annotations

from typing import Literal

from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.datasets.inspect import Findings
from mmtrain.engine.messages import Finished
from mmtrain.metrics import report_name
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from mmtrain.reports.evaluate import evaluate
from mmtrain.reports.models import Curves, Evaluation, TrainReport, build_report
from mmtrain.versions import versions
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.workspace import Workspace, fingerprint


def report_training(
    spec: TrainSpec,
    recipe: Recipe,
    plan: TrainPlan,
    findings: Findings,
    finished: Finished,
    curves: Curves,
    fetched: FetchedDataset,
    space: Workspace,
) -> TrainReport:
    """Writes out/report.json and out/report.html."""
    from mmtrain.reports.render import write_report  # matplotlib: a second that only this step needs
    from mmtrain.reports.samples import draw_samples

    splits = evaluate_splits(plan, findings, space)
    evaluated_on = headline_split(findings.images)
    report = build_report(
        splits,
        evaluated_on,
        report_name(plan.primary_metric.value),
        job_id=spec.job_id,
        model_name=recipe.name,
        dataset_id=spec.dataset.id,
        curves=curves,
        best_epoch=finished.best_epoch,
        findings=[finding.model_dump() for finding in findings.findings],
        plan=plan.decisions(),
        versions=versions(),
        files=[{"name": name, **fingerprint(space.out / name)} for name in ("best.pth", "last.pth")],
        duration_s=finished.train_s,
        images=findings.images,
        notes=[*spec.notes, *_headline_note(findings.images)],
    )
    samples = draw_samples(
        space.dataset / f"{evaluated_on}.json",
        space.work / f"predictions_{evaluated_on}.json",
        fetched.root,
        task=plan.task,
        score_threshold=splits[evaluated_on].operating_point.score_threshold,
    )
    write_report(report, samples, space.out)
    return report


def _headline_note(images: dict[str, int]) -> list[str]:
    if not images["test"] or headline_split(images) == "test":
        return []
    return [f"The test split has only {images['test']} image(s): the headline is val's."]


def headline_split(images: dict[str, int]) -> Literal["test", "val"]:
    """Test, unless it is only what rounding left over: one picture is no result."""
    return "test" if images["test"] >= max(2, images["val"] / 2) else "val"


def evaluate_splits(plan: TrainPlan, findings: Findings, space: Workspace) -> dict[str, Evaluation]:
    """Val chooses the score threshold, test is only measured with it."""
    splits: dict[str, Evaluation] = {}
    for name in ("val", "test"):
        if findings.images[name]:
            chosen = splits["val"].operating_point.score_threshold if name == "test" else None
            splits[name] = evaluate(
                space.dataset / f"{name}.json",
                space.work / f"predictions_{name}.json",
                task=plan.task,
                score_threshold=chosen,
            )
    return splits

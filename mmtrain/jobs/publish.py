"""Puts the results where the platform finds them, the manifest last, and sums up the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmtrain.datasets.fetch import FetchedDataset
from mmtrain.engine.messages import Finished
from mmtrain.metrics import report_name
from mmtrain.plan import TrainPlan
from mmtrain.recipes import Recipe
from mmtrain.reports.models import TrainReport
from mmtrain.versions import versions
from trainer_sdk.events import Completed, Metrics, Numbers, Validation
from trainer_sdk.jobspec import TrainSpec
from trainer_sdk.session import JobSession
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.workspace import Workspace, fingerprint, write_json

# Name in the storage -> file in the job folder; checkpoints are .pt there whatever they are called here (contract 5).
PUBLISHED = {
    "best.pt": "out/best.pth",
    "last.pt": "out/last.pth",
    "report.json": "out/report.json",
    "report.html": "out/report.html",
    "browse.png": "out/browse.png",
    "data.html": "out/data.html",
    "config.py": "config.py",
    "plan.json": "plan.json",
    "findings.json": "findings.json",
    "id_map.json": "dataset/id_map.json",
}
OPTIONAL = {"browse.png", "data.html"}
"""Not worth a job: the report says why it is missing, or does not link to it."""


@dataclass(frozen=True)
class Artifacts:
    """Where things are now."""

    best: str
    last: str
    folder: str


def publish(spec: TrainSpec, recipe: Recipe, fetched: FetchedDataset, session: JobSession) -> Artifacts:
    """Uploads everything, then the manifest; without a storage the job folder is the place.

    Raises:
        NetworkError: the storage cannot be reached or refuses us.
    """
    space = session.workspace
    manifest = space.out / "manifest.json"
    write_json(manifest, _manifest(spec, recipe, fetched, space))
    if not session.settings.checkpoints.from_environment:
        return Artifacts(str(space.out / "best.pth"), str(space.out / "last.pth"), str(space.out))
    storage = open_storage(session.settings.checkpoints)
    prefix = f"checkpoints/{spec.job_id}"
    uris = {name: storage.upload(space.path(file), f"{prefix}/{name}") for name, file in _published(space).items()}
    storage.upload(manifest, f"{prefix}/manifest.json")
    session.log(f"uploaded {len(uris) + 1} files to {storage.uri(prefix)}", event_type="checkpoint")
    return Artifacts(uris["best.pt"], uris["last.pt"], storage.uri(prefix))


def completed(
    spec: TrainSpec, plan: TrainPlan, report: TrainReport, finished: Finished, artifacts: Artifacts, session: JobSession
) -> Completed:
    """Tells the full evaluation of the best epoch and returns the outcome."""
    session.tell(_validation(plan, report, finished.best_epoch))
    reached = "unknown" if report.primary_metric.value is None else f"{report.primary_metric.value:.4f}"
    session.log(f"{report.primary_metric.name} {reached} on {report.evaluated_on}; best epoch {finished.best_epoch}")
    session.log(f"report: {session.workspace.out / 'report.html'}")
    session.log(f"checkpoint: {artifacts.best}", event_type="checkpoint")
    final = Metrics(accuracy=report.primary_metric.value, extra_metrics=_numbers(report.metrics))
    best = report.splits["val"].metrics
    return Completed(
        total_epochs_completed=finished.epochs,
        final_metrics=final,
        best_metrics=Metrics(accuracy=best[report_name(plan.primary_metric.value)], extra_metrics=_numbers(best)),
        best_epoch=finished.best_epoch,
        best_checkpoint_path=artifacts.best,
        last_checkpoint_path=artifacts.last,
        model_artifacts_path=artifacts.folder,
        total_duration_seconds=sum(session.course.timings_s.values()),
    )


def _validation(plan: TrainPlan, report: TrainReport, epoch: int) -> Validation:
    """The best epoch's row again, now with everything: a second call replaces the first."""
    val = report.splits["val"]
    return Validation(
        epoch=epoch,
        task_type=plan.task,
        primary_metric_name=report.primary_metric.name,
        primary_metric_value=val.metrics[report.primary_metric.name],
        metrics=_numbers(val.metrics),
        per_class_metrics={name: _numbers(row) for name, row in val.per_class.items()},
        confusion_matrix=val.confusion_matrix,
        class_names=val.class_names,
    )


def _numbers(metrics: dict[str, Any]) -> Numbers:
    return dict(metrics)


def _manifest(spec: TrainSpec, recipe: Recipe, fetched: FetchedDataset, space: Workspace) -> dict[str, Any]:
    published = spec.config.pretrained and not spec.checkpoint_path
    return {
        "job_id": spec.job_id,
        "model_name": recipe.name,
        "dataset": {"id": spec.dataset.id, "annotations_sha256": fetched.sha256},
        "versions": versions(),
        "licenses": {"weights": recipe.weights.license if published and recipe.weights else None},
        "files": {name: fingerprint(space.path(file)) | {"path": file} for name, file in _published(space).items()},
    }


def _published(space: Workspace) -> dict[str, str]:
    known = {name: file for name, file in PUBLISHED.items() if name not in OPTIONAL or space.path(file).exists()}
    curves = sorted((space.out / "tensorboard").glob("events.*"))
    return known | {f"tensorboard/{file.name}": f"out/tensorboard/{file.name}" for file in curves}

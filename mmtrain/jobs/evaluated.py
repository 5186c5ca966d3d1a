"""Puts an evaluation where the platform finds it (contract 5: test-runs/<id>/), and sums it up."""

from __future__ import annotations

from pathlib import Path

from mmtrain.engine.order import PREDICTIONS
from mmtrain.reports.models import Metrics, TrainReport
from trainer_sdk.events import Numbers
from trainer_sdk.jobspec import EvaluateSpec
from trainer_sdk.model_events import TestRunCompleted
from trainer_sdk.session import JobSession
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.workspace import Workspace

PRIMARY = {
    "mAP50-95": ("mAP@0.5:0.95(M)", "mAP@0.5:0.95", "OKS-AP"),
    "mAP50": ("mAP@0.5(M)", "mAP@0.5", "OKS-AP@0.5"),
}
"""What the test-run callback recognises (contract 2.7), and which of our numbers that is. None of class maps."""
PAGES = ("report.html", "report.json", "data.html")


def publish_evaluation(spec: EvaluateSpec, report: TrainReport, session: JobSession) -> TestRunCompleted:
    """Uploads report, plots and predictions; without a storage the job folder is the place.

    Raises:
        NetworkError: the storage cannot be reached or refuses us.
    """
    space = session.workspace
    files = _published(space)
    where = {name: str(path) for name, path in files.items()}
    if session.settings.checkpoints.from_environment:
        storage = open_storage(session.settings.checkpoints)
        prefix = f"test-runs/{spec.job_id}"
        where = {name: storage.upload(path, f"{prefix}/{name}") for name, path in files.items()}
        session.log(f"uploaded {len(where)} files to {storage.uri(prefix)}")
    session.log(f"report: {space.out / 'report.html'}")
    return TestRunCompleted(
        task_type=report.task,
        metrics=callback_metrics(report.metrics),
        per_class_metrics={name: dict(row) for name, row in report.per_class.items()},
        class_names=report.class_names,
        num_images=sum(report.images.values()),
        visualization_urls={Path(name).stem: uri for name, uri in where.items() if name.startswith("plots/")},
        predictions_json_uri=where.get("predictions.json"),
        config={"split": report.evaluated_on, **spec.config.model_dump(mode="json", exclude_none=True)},
    )


def callback_metrics(metrics: Metrics) -> Numbers:
    """With the two names that the backend looks for."""
    known: Numbers = dict(metrics)
    for name, ours in PRIMARY.items():
        found = next((metrics[key] for key in ours if key in metrics), None)
        if found is not None:
            known[name] = found
    return known


def _published(space: Workspace) -> dict[str, Path]:
    """Name below the run's prefix -> file."""
    plots = {f"plots/{path.name}": path for path in sorted((space.out / "plots").glob("*.png"))}
    pages = {name: space.out / name for name in PAGES if (space.out / name).exists()}
    predictions = space.work / f"{PREDICTIONS}.json"
    return plots | pages | ({"predictions.json": predictions} if predictions.exists() else {})

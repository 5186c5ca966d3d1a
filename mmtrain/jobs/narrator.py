"""Turns what the worker says into what people see: events for the backend, a bar or log lines, curves."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal

from mmtrain.datasets.inspect import Findings
from mmtrain.display import Display
from mmtrain.engine.messages import (
    EpochEnd,
    FitStarted,
    Iteration,
    News,
    Predicting,
    Validated,
    Validating,
    WeightsLoaded,
    lasting,
)
from mmtrain.jobs.starting import start_in_words
from mmtrain.jobs.tracking import Tracker
from mmtrain.jobs.waiting import Waiting
from mmtrain.machine import available_cores
from mmtrain.metrics import per_class_ap, report_metrics, report_name, ui_metrics
from mmtrain.plan import TrainPlan
from mmtrain.reports.models import Curves, Metrics, ValidationPoint
from trainer_sdk import events
from trainer_sdk.session import JobSession

BETWEEN_EPOCHS_EVERY_S = 10.0
"""Or CALLBACK_INTERVAL, if that is less."""


def tell_findings(findings: Findings, session: JobSession) -> None:
    """A line for the split and one for every kind of finding."""
    counts = ", ".join(f"{count} {name}" for name, count in findings.images.items())
    session.log(f"images: {counts}; {findings.split_reason}", event_type="dataset")
    for finding in findings.findings:
        level: Literal["INFO", "WARNING"] = "INFO" if finding.severity == "info" else "WARNING"
        session.log(f"{finding.text} - {finding.hint}", event_type="dataset", level=level)


class Narrator:
    """Listens to one training."""

    def __init__(self, plan: TrainPlan, session: JobSession, display: Display, tracker: Tracker) -> None:
        self._plan = plan
        self._session = session
        self._tracker = tracker
        self._display = display
        self._iters = plan.iters_per_epoch.value * plan.epochs.value
        self._waiting = Waiting(plan, available_cores())
        self._train_curve: list[Metrics] = []
        self._validation_curve: list[ValidationPoint] = []
        self._untold: EpochEnd | None = None
        self._accuracy = ""
        self._next_progress = 0.0
        self._progress_every_s = min(BETWEEN_EPOCHS_EVERY_S, session.settings.callback.interval_s)
        self._started = time.monotonic()
        self.notes: list[str] = []
        """For the report: what the training started from."""
        self._done_before = 0
        """Iterations of earlier runs of this job."""

    def remember(self, news: Iterable[News]) -> None:
        """What an earlier run of this job said, which the backend has heard."""
        for message in lasting(news):
            if isinstance(message, WeightsLoaded):
                self.notes += [_sentence(text) for text, _ in start_in_words(message)]
            elif isinstance(message, EpochEnd):
                self._train_curve.append(_train_point(message))
            elif isinstance(message, Validated):
                self._validation_curve.append(_validation_point(message))

    def note(self, text: str, level: Literal["INFO", "WARNING"] = "WARNING") -> None:
        """Something that the log and the report say."""
        self._session.log(text, level=level)
        self.notes.append(_sentence(text))

    def tell_plan(self, asked: TrainPlan) -> None:
        """What of the plan is not as it was asked for, or may disappoint."""
        batch = self._plan.batch
        if batch != asked.batch:
            self.note(f"{batch.value} images at a time: {batch.reason}", level="INFO")
        for remark in self._plan.remarks():
            self.note(remark)

    @property
    def curves(self) -> Curves:
        return Curves(train=self._train_curve, validation=self._validation_curve)

    def listen(self, news: News) -> None:
        """One message of the worker."""
        if not isinstance(news, Validated | Validating):
            self._tell_epoch(None)
        if isinstance(news, WeightsLoaded):
            self._weights(news)
        elif isinstance(news, FitStarted):
            self._begin(news)
        elif isinstance(news, Iteration):
            self._iteration(news)
        elif isinstance(news, EpochEnd):
            self._untold = news  # told together with its validation, if one follows: the platform keeps one row a call
            self._train_curve.append(_train_point(news))
            if advice := self._waiting.hear(news):
                self.note(advice)
        elif isinstance(news, Validating):
            self._display(news.done, news.total, title=f"validating epoch {news.epoch}", unit="batches")
        elif isinstance(news, Validated):
            self._validated(news)
        elif isinstance(news, Predicting):
            self._display(news.done, news.total, title=f"evaluating {news.split}", unit="images")

    def _weights(self, news: WeightsLoaded) -> None:
        for text, level in start_in_words(news):
            self._session.log(text, event_type="checkpoint", level=level)
            self.notes.append(_sentence(text))

    def _begin(self, news: FitStarted) -> None:
        self._iters, self._done_before, self._started = news.iters, news.done_iters, time.monotonic()
        self._train_curve = [point for point in self._train_curve if (point["epoch"] or 0) <= news.done_epochs]
        self._validation_curve = [point for point in self._validation_curve if point.epoch <= news.done_epochs]
        self._session.log(
            f"training {news.parameters / 1e6:.1f} M parameters for {news.epochs} epochs, {news.iters} iterations"
        )
        if news.done_iters:
            self._session.log(
                f"going on after epoch {news.done_epochs}, iteration {news.done_iters}, from the last checkpoint"
            )
            self._session.tell(self._progress(news.done_epochs, news.done_iters))  # else a page stands at 0 until then

    def _iteration(self, news: Iteration) -> None:
        loss = "not finite" if news.loss is None else f"{news.loss:.3f}"
        title = f"epoch {news.epoch}/{self._plan.epochs.value}"
        self._display(news.iteration, self._iters, f"loss {loss}{self._accuracy}", title, unit="iter")
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + self._progress_every_s
            self._session.tell(self._progress(news.epoch - 1, news.iteration))

    def _validated(self, news: Validated) -> None:
        metrics = ui_metrics(news.metrics)
        name = report_name(self._plan.primary_metric.value)
        value = metrics.get(name)
        self._accuracy = f", {name.partition('@')[0]} {value:.3f}" if value is not None else ""
        self._validation_curve = [point for point in self._validation_curve if point.epoch != news.epoch]
        self._validation_curve.append(_validation_point(news))
        self._tell_epoch(metrics)
        self._session.tell(
            events.Validation(
                epoch=news.epoch,
                task_type=self._plan.task,
                primary_metric_name=name,
                primary_metric_value=value,
                metrics=metrics,
                per_class_metrics=per_class_ap(news.metrics, self._plan.class_names),
                class_names=list(self._plan.class_names),
            )
        )
        best = " (best so far)" if news.best else ""
        self._session.log(
            f"epoch {news.epoch}: {name} {'unknown' if value is None else f'{value:.4f}'}{best}",
            event_type="validation",
        )

    def _tell_epoch(self, metrics: events.Numbers | None) -> None:
        """One progress event with metrics per epoch, with the accuracy if it was validated."""
        if self._untold is None:
            return
        epoch, self._untold = self._untold, None
        self._tracker.numbers({"lr": epoch.lr, **epoch.losses, **(metrics or {})}, epoch.epoch)
        row = events.Metrics(
            loss=epoch.losses.get("loss"),
            accuracy=(metrics or {}).get(report_name(self._plan.primary_metric.value)),
            learning_rate=epoch.lr,
            extra_metrics={**epoch.losses, **(metrics or {})},
        )
        self._session.tell(self._progress(epoch.epoch, epoch.iteration, row))

    def _progress(self, epoch: int, iteration: int, metrics: events.Metrics | None = None) -> events.Progress:
        elapsed, done = time.monotonic() - self._started, iteration - self._done_before
        left_s = round(elapsed / done * (self._iters - iteration), 1) if done > 0 else None
        return events.Progress(
            current_epoch=epoch,
            total_epochs=self._plan.epochs.value,
            progress_percent=100 * iteration / self._iters,
            metrics=metrics,
            estimated_time_remaining=left_s,
        )


def _train_point(news: EpochEnd) -> Metrics:
    names = ("epoch", "iteration", "lr", "data_share", "peak_rss_bytes", "peak_gpu_bytes")
    return {**{name: getattr(news, name) for name in names}, **news.losses}


def _validation_point(news: Validated) -> ValidationPoint:
    return ValidationPoint(epoch=news.epoch, metrics=report_metrics(news.metrics))  # the UI's names say the same twice


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."

"""Turns what the worker says into what people see: events for the backend, a bar or log lines, curves."""

from __future__ import annotations

import time

from mmtrain.display import Display
from mmtrain.engine.messages import EpochEnd, FitStarted, Iteration, News, Predicting, Validated
from mmtrain.metrics import per_class_ap, report_name, ui_metrics
from mmtrain.plan import TrainPlan
from mmtrain.reports.models import Curves, Metrics, ValidationPoint
from trainer_sdk import events
from trainer_sdk.session import JobSession

BETWEEN_EPOCHS_EVERY_S = 10.0


class Narrator:
    """Listens to one training."""

    def __init__(self, plan: TrainPlan, session: JobSession, display: Display) -> None:
        self._plan = plan
        self._session = session
        self._display = display
        self._iters = plan.iters_per_epoch.value * plan.epochs.value
        self._train_curve: list[Metrics] = []
        self._validation_curve: list[ValidationPoint] = []
        self._untold: EpochEnd | None = None
        self._accuracy = ""
        self._next_progress = 0.0
        self._started = time.monotonic()

    @property
    def curves(self) -> Curves:
        return Curves(train=self._train_curve, validation=self._validation_curve)

    def listen(self, news: News) -> None:
        """One message of the worker."""
        if not isinstance(news, Validated):
            self._tell_epoch(None)
        if isinstance(news, FitStarted):
            self._iters, self._started = news.iters, time.monotonic()
            self._session.log(
                f"training {news.parameters / 1e6:.1f} M parameters for {news.epochs} epochs, {news.iters} iterations"
            )
        elif isinstance(news, Iteration):
            self._iteration(news)
        elif isinstance(news, EpochEnd):
            self._untold = news  # told together with its validation, if one follows: the platform keeps one row a call
            self._train_curve.append({"epoch": news.epoch, "iteration": news.iteration, "lr": news.lr, **news.losses})
        elif isinstance(news, Validated):
            self._validated(news)
        elif isinstance(news, Predicting):
            self._display(news.done, news.total, title=f"evaluating {news.split}", unit="images")

    def _iteration(self, news: Iteration) -> None:
        loss = "not finite" if news.loss is None else f"{news.loss:.3f}"
        title = f"epoch {news.epoch}/{self._plan.epochs.value}"
        self._display(news.iteration, self._iters, f"loss {loss}{self._accuracy}", title, unit="iter")
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + BETWEEN_EPOCHS_EVERY_S
            self._session.tell(self._progress(news.epoch - 1, news.iteration))

    def _validated(self, news: Validated) -> None:
        metrics = ui_metrics(news.metrics)
        name = report_name(self._plan.primary_metric.value)
        value = metrics.get(name)
        self._accuracy = f", mAP {value:.3f}" if value is not None else ""
        curve = {key: number for key, number in metrics.items() if "@" in key}  # the UI's names say the same twice
        self._validation_curve.append(ValidationPoint(epoch=news.epoch, metrics=curve))
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
        row = events.Metrics(
            loss=epoch.losses.get("loss"),
            accuracy=(metrics or {}).get(report_name(self._plan.primary_metric.value)),
            learning_rate=epoch.lr,
            extra_metrics={**epoch.losses, **(metrics or {})},
        )
        self._session.tell(self._progress(epoch.epoch, epoch.iteration, row))

    def _progress(self, epoch: int, iteration: int, metrics: events.Metrics | None = None) -> events.Progress:
        elapsed = time.monotonic() - self._started
        return events.Progress(
            current_epoch=epoch,
            total_epochs=self._plan.epochs.value,
            progress_percent=100 * iteration / self._iters,
            metrics=metrics,
            estimated_time_remaining=round(elapsed / max(1, iteration) * (self._iters - iteration), 1),
        )

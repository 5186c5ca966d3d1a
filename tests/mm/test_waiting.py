"""How long the model waited for its data, as the worker says it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.logging import HistoryBuffer

from mmtrain.engine.hooks import MessageHook
from mmtrain.engine.messages import EpochEnd, MessageWriter, read_news
from tests.mm.test_resume import train
from tests.unit.test_plan import plan_of


def epochs_said(path: Path) -> list[EpochEnd]:
    return [news for news in read_news(path) if isinstance(news, EpochEnd)]


def test_only_the_last_epochs_iterations_count(tmp_path: Path) -> None:
    waited, took = HistoryBuffer(), HistoryBuffer()
    for data_s, whole_s in ((9, 10), (9, 10), (1, 2), (0, 2)):
        waited.update(data_s)
        took.update(whole_s)
    runner = SimpleNamespace(
        epoch=1,
        iter=4,
        max_iters=4,
        max_epochs=2,
        message_hub=SimpleNamespace(log_scalars={"train/time": took, "train/data_time": waited}),
        optim_wrapper=SimpleNamespace(get_lr=lambda: {"lr": [0.1]}),
    )
    hook = MessageHook(MessageWriter(tmp_path / "messages"), plan_of(epochs=2))
    hook.after_train_epoch(runner)
    runner.message_hub.log_scalars = {}
    hook.after_train_epoch(runner)
    assert [news.data_share for news in epochs_said(tmp_path / "messages")] == [0.25, None]


def test_a_training_says_it_of_every_epoch(tmp_path: Path) -> None:
    train(tmp_path / "work", MessageHook(MessageWriter(tmp_path / "messages"), plan_of(epochs=2)), epochs=2)
    first, second = epochs_said(tmp_path / "messages")
    assert first.data_share == pytest.approx(0.5, abs=0.5)
    assert second.data_share == pytest.approx(0.5, abs=0.5)
    assert 0 not in (first.data_share, second.data_share)

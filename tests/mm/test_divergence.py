"""Weights that are no longer numbers push out no checkpoint that was good."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mmtrain.engine.hooks import BAD_CHECKS, CHECK_LOSS_EVERY, DivergenceHook
from trainer_sdk.errors import DivergedError


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    return SimpleNamespace(model=torch.nn.Linear(2, 2), work_dir=str(tmp_path), iter=7)


def test_finite_weights_are_saved(runner: Any) -> None:
    DivergenceHook().before_save_checkpoint(runner, {})


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_not_saved(runner: Any, number: float, tmp_path: Path) -> None:
    for name in ("epoch_9.pth", "epoch_10.pth"):
        (tmp_path / name).touch()
    with torch.no_grad():
        runner.model.bias[1] = number
    with pytest.raises(DivergedError, match=r"the loss was not finite, and the weights are not any more") as caught:
        DivergenceHook().before_save_checkpoint(runner, {})
    assert caught.value.hint.endswith("the last good checkpoint is work/epoch_10.pth")


def test_a_loss_that_stays_not_finite_ends_the_training(runner: Any) -> None:
    hook, bad = DivergenceHook(), {"loss": torch.tensor(math.nan)}
    last = BAD_CHECKS * CHECK_LOSS_EVERY - 1
    for runner.iter in range(last):
        hook.after_train_iter(runner, 0, None, bad)
    runner.iter = last
    with pytest.raises(DivergedError, match=r"for 30 iterations") as caught:
        hook.after_train_iter(runner, 0, None, bad)
    assert caught.value.hint.endswith("it was before the first checkpoint")


def test_a_loss_that_recovers_goes_on(runner: Any) -> None:
    hook = DivergenceHook()
    for runner.iter in range(10 * CHECK_LOSS_EVERY):
        recovers = runner.iter % (2 * CHECK_LOSS_EVERY) == CHECK_LOSS_EVERY - 1
        hook.after_train_iter(runner, 0, None, {"loss": torch.tensor(1.0 if recovers else math.inf)})

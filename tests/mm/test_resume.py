"""A training that was interrupted and goes on is the same as one that never stopped: on a model of a few numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmtrain.config.schedule import custom_hooks, default_hooks, optim_wrapper, randomness, schedule, train_loop
from mmtrain.engine.fit import go_on
from mmtrain.engine.hooks import StopHook
from mmtrain.engine.resume import ResumeHook, choose_checkpoint
from mmtrain.engine.safe_load import load_checkpoint_safely
from mmtrain.engine.saving import let_mmengine_save_atomically
from mmtrain.engine.seeding import SeedHook
from mmtrain.engine.stopping import StopRequest
from tests.unit.test_plan import plan_of
from trainer_sdk.errors import Interrupted

Numbers = list[float]
EMA = {"type": "EMAHook", "momentum": 0.1, "update_buffers": True, "priority": 49}


class Noisy(BaseModel):
    """A net whose losses depend on its own randomness and on that of its data."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        for parameter in self.parameters():
            nn.init.constant_(parameter, 0.3)

    def forward(self, inputs: Any, sample_idx: Any = None, mode: str = "loss") -> Any:
        found = self.layers(torch.stack(list(inputs)).float())
        return {"loss": (found**2).mean() + found.mean()} if mode == "loss" else [float(value) for value in found]


class Weights(BaseMetric):
    """A score that rises and falls with what was learnt."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += data_samples

    def compute_metrics(self, results: Numbers) -> dict[str, float]:
        return {"coco/bbox_mAP": float(np.sin(1000 * sum(results)))}


class NoisyPoints(BaseDataset):
    """Numbers with noise from each of the three generators."""

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{"inputs": torch.tensor([float(n)])} for n in range(10)]

    def prepare_data(self, index: int) -> Any:
        found = super().prepare_data(index)
        noise = 0 if self.test_mode else torch.rand(1).double() + np.random.rand()
        return {"inputs": (found["inputs"] + noise).float(), "sample_idx": index}


class Killed(Exception):
    """In place of a kill: nothing is tidied up."""


class KillHook(Hook):
    """Dies at an iteration, 1-based."""

    priority = "LOWEST"

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self._iteration:
            raise Killed


class LossHook(Hook):
    """Keeps every loss by iteration."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.losses[runner.iter + 1] = float(outputs["loss"])


def train(
    folder: Path, *hooks: Hook, batch: int = 4, workers: int = 0, **request: Any
) -> tuple[Runner, dict[int, float]]:
    """Six epochs of three iterations, or what is left of them."""
    request = {
        "epochs": 6,
        "val_interval": 2,
        "checkpoint_interval": 1,
        "checkpoint_keep_max": 2,
        "ema": False,
        **request,
    }
    plan = plan_of(train_images=10, batch=batch, **request)
    loader = {"batch_size": batch, "num_workers": workers, "persistent_workers": workers > 0}
    train_data, val_data = (NoisyPoints(pipeline=[], serialize_data=False, test_mode=test) for test in (False, True))
    let_mmengine_save_atomically()
    runner = Runner(
        model=Noisy(),
        work_dir=str(folder),
        train_dataloader=loader | {"dataset": train_data, "sampler": {"type": "DefaultSampler", "shuffle": True}},
        val_dataloader=loader | {"dataset": val_data, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        val_evaluator=Evaluator(Weights()),
        train_cfg=train_loop(plan) | {"type": "ResumableLoop"},
        val_cfg={},
        optim_wrapper=optim_wrapper({}, plan),
        param_scheduler=schedule(plan),
        custom_hooks=[EMA, *custom_hooks(plan)],
        default_hooks=default_hooks(plan),
        randomness=randomness(plan),
        default_scope="mmengine",
        experiment_name=uuid4().hex,  # MMEngine keeps what a name has seen, the best score too
    )
    runner.cfg.param_scheduler = schedule(plan)
    losses = LossHook()
    describe = DescribeHook("ours")
    for hook in (SeedHook(42, fresh_caches=False), ResumeHook(batch), describe, losses, *hooks):
        runner.register_hook(hook)
    go_on(runner, "ours", batch)
    runner.train()
    return runner, losses.losses


class DescribeHook(Hook):
    """What `DescriptionHook` writes, as far as it is needed here."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["meta"]["trainer"] = {"fingerprint": self._fingerprint}


def killed_at(folder: Path, iteration: int, **request: Any) -> None:
    with pytest.raises(Killed):
        train(folder, KillHook(iteration), **request)


def assert_same(one: Runner, other: Runner) -> None:
    """Weights, and the best score with the epoch it was of."""
    for name, weights in one.model.state_dict().items():
        assert torch.equal(weights, other.model.state_dict()[name]), name
    first, second = (runner.message_hub.runtime_info for runner in (one, other))
    assert first["best_score"] == second["best_score"]
    assert Path(first["best_ckpt"]).name == Path(second["best_ckpt"]).name
    assert one.optim_wrapper.get_lr() == other.optim_wrapper.get_lr()


@pytest.mark.parametrize(
    ("request_", "iteration"),
    [({}, 10), ({"accumulate": 2}, 13), ({"lr_scheduler": "onecycle"}, 13), ({"early_stopping": 2}, 10)],
)
def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, request_: dict[str, Any], iteration: int
) -> None:
    whole, losses = train(tmp_path / "whole", **request_)
    killed_at(tmp_path / "parts", iteration, **request_)
    parts, later = train(tmp_path / "parts", **request_)
    assert later == {number: loss for number, loss in losses.items() if number > (iteration - 1) // 3 * 3}
    assert_same(whole, parts)


def test_data_loading_processes_change_nothing(tmp_path: Path) -> None:
    whole, losses = train(tmp_path / "whole", epochs=2)
    killed_at(tmp_path / "parts", 4, workers=2, epochs=2)
    parts, later = train(tmp_path / "parts", workers=2, epochs=2)
    assert later == {number: losses[number] for number in (4, 5, 6)}
    assert_same(whole, parts)


class StopWhen(StopHook):
    """Is asked to stop at one moment."""

    def __init__(self, *, iteration: int = 0, validation_of_epoch: int = 0) -> None:
        super().__init__(cast("StopRequest", SimpleNamespace(asked=lambda: self._now)))
        self._now = False
        self._iteration, self._validation = iteration, validation_of_epoch

    def after_train_iter(self, runner: Runner, *args: Any, **more: Any) -> None:
        self._now = runner.iter + 1 == self._iteration
        super().after_train_iter(runner, *args, **more)

    def after_val_iter(self, runner: Runner, *args: Any, **more: Any) -> None:
        self._now = runner.epoch == self._validation
        super().after_val_iter(runner, *args, **more)


@pytest.mark.parametrize(("moment", "first"), [({"iteration": 8}, 9), ({"validation_of_epoch": 4}, 13)])
def test_a_stopped_training_goes_on_with_the_next_iteration(tmp_path: Path, moment: dict[str, int], first: int) -> None:
    often = {"checkpoint_interval": 6, "accumulate": 3}
    whole, losses = train(tmp_path / "whole", **often)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", StopWhen(**moment), **often)
    parts, later = train(tmp_path / "parts", **often)
    assert later == {number: loss for number, loss in losses.items() if number >= first}
    assert_same(whole, parts)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    killed_at(tmp_path, 10)
    newest = tmp_path / "epoch_3.pth"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert choose_checkpoint(tmp_path, "ours", iters_per_epoch=3, batch=4) == tmp_path / "epoch_2.pth"
    assert choose_checkpoint(tmp_path, "another", iters_per_epoch=3, batch=4) is None


def test_half_the_batch_goes_on_with_the_same_epoch_and_learning_rate(tmp_path: Path) -> None:
    killed_at(tmp_path / "whole", 10, lr_scheduler="cosine")
    whole, _ = train(tmp_path / "whole", lr_scheduler="cosine")
    killed_at(tmp_path / "halves", 10, lr_scheduler="cosine")
    halves, losses = train(tmp_path / "halves", batch=2, accumulate=2, lr0=0.01, lr_scheduler="cosine")
    assert list(losses) == list(range(16, 31))
    assert halves.epoch == whole.epoch == 6
    assert halves.optim_wrapper.get_lr()["lr"] == pytest.approx(whole.optim_wrapper.get_lr()["lr"], rel=0.1)


class StepsHook(Hook):
    """Notes the iterations after which the weights were changed."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def after_train_iter(self, runner: Runner, *args: Any, **more: Any) -> None:
        if runner.optim_wrapper.should_update():
            self.steps.append(runner.iter + 1)


def test_every_step_of_half_the_batch_is_made_of_two(tmp_path: Path) -> None:
    """The odd number of iterations before the change is no part of the first one, nor of one after another end."""
    halves = {"batch": 2, "accumulate": 2, "lr0": 0.01}
    killed_at(tmp_path, 10)
    killed_at(tmp_path, 22, **halves)  # goes on after 15 iterations of half the batch
    first, whole = StepsHook(), list(range(17, 30, 2))
    train(tmp_path, first, **halves)  # after 20, with the gradients of one batch
    assert first.steps == [*[step for step in whole if step > 20], 30]


def test_the_best_checkpoint_holds_the_average_that_was_measured(tmp_path: Path) -> None:
    runner, _ = train(tmp_path, epochs=2, val_interval=2)
    best = load_checkpoint_safely(Path(runner.message_hub.runtime_info["best_ckpt"]))["state_dict"]
    average = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model.module.state_dict()
    assert all(torch.equal(best[name], average[name]) for name in average)
    assert not torch.equal(best["layers.0.weight"], runner.model.state_dict()["layers.0.weight"])

"""What options of a training do, seen on a model of a few numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset, ClassBalancedDataset
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from converters.coco import ObjectTable
from mmtrain import compat
from mmtrain.config.schedule import custom_hooks, optim_wrapper, randomness, schedule, switch_pipeline, train_loop
from mmtrain.datasets.balance import images_shown
from mmtrain.datasets.columns import SplitColumns
from mmtrain.engine.fit import prepare_model
from tests.unit.test_plan import FOUR_GPUS, plan_of
from trainer_sdk.errors import ConfigError

Numbers = list[float]


class Line(BaseModel):
    """Two weights, and a norm between them."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Linear(1, 1, bias=False)
        self.stem_norm = nn.BatchNorm1d(1) if norm else nn.Identity()
        self.head = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.stem.weight, 1.0)
        nn.init.constant_(self.head.weight, 1.0)

    def forward(self, inputs: Any, sample_idx: Any = None, mode: str = "loss") -> Any:
        found = self.head(self.stem_norm(self.stem(torch.stack(list(inputs)).float())))
        return {"loss": (found**2).mean() + found.mean()} if mode == "loss" else [float(value) for value in found]


class Constant(BaseMetric):
    """The same score in every validation."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(1)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        return {"coco/bbox_mAP": 0.5}


class Points(BaseDataset):
    """Eight numbers; the first one and the last one have classes of their own."""

    CLASSES = ((1,), (0,), (0,), (0,), (0,), (0,), (), (0, 2))

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{"inputs": torch.tensor([float(n)])} for n in range(8)]

    def get_cat_ids(self, idx: int) -> list[int]:
        return [*self.CLASSES[idx]]


class Marked(BaseTransform):
    """Counts the pictures that it was asked to change."""

    seen: ClassVar[list[str]] = []

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(self.mark)
        return results


def runner_of(
    tmp_path: Path, *, batch: int = 4, norm: bool = True, paramwise: dict[str, Any] | None = None, **request: Any
) -> Runner:
    """Eight points and the optimizer, loops, schedules and hooks of a plan."""
    request = {"optimizer": "SGD", "momentum": 0, "weight_decay": 0, **request}
    plan = plan_of(train_images=8, batch=batch, ema=False, **request)
    dataset = Points(pipeline=[{"type": Marked, "mark": "strong"}], serialize_data=False)
    loader = {"dataset": dataset, "batch_size": batch, "num_workers": 0}
    runner = Runner(
        model=Line(norm=norm),
        work_dir=str(tmp_path),
        train_dataloader=loader | {"sampler": {"type": "DefaultSampler", "shuffle": True}},
        val_dataloader=loader
        | {"sampler": {"type": "DefaultSampler", "shuffle": False}, "dataset": Points(serialize_data=False)},
        val_evaluator=Evaluator(Constant()),
        train_cfg=train_loop(plan),
        val_cfg={},
        optim_wrapper=optim_wrapper({"paramwise_cfg": paramwise}, plan),
        param_scheduler=schedule(plan),
        custom_hooks=[*custom_hooks(plan), *switch_pipeline(plan, [{"type": Marked, "mark": "weak"}])],
        randomness=randomness(plan),
        default_scope="mmengine",
        experiment_name=tmp_path.name,
    )
    prepare_model(runner.model, plan)
    return runner


def validated_epochs(runner: Runner) -> list[int]:
    """Epochs after which a training validated, from 1."""
    found: list[int] = []
    original = runner.call_hook

    def call_hook(name: str, **more: Any) -> None:
        if name == "after_val_epoch":
            found.append(runner.epoch)
        original(name, **more)

    runner.call_hook = call_hook
    runner.train()
    return found


def test_validations_come_rarely_first_and_often_later(tmp_path: Path) -> None:
    assert validated_epochs(runner_of(tmp_path, epochs=8, val_interval=[[0, 4], [5, 1]])) == [4, 6, 7, 8]


def test_a_score_that_stays_the_same_stops_the_training(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, epochs=50, val_interval=1, early_stopping=2)
    runner.train()
    assert runner.epoch == 3


@pytest.mark.parametrize("kind", ["step", "multistep", "cosine", "linear", "poly", "onecycle", "constant"])
@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_every_schedule_runs_and_ends_no_higher_than_it_may(tmp_path: Path, kind: str, epochs: int) -> None:
    runner = runner_of(tmp_path, epochs=epochs, lr_scheduler=kind, lr0=0.01)
    runner.train()
    rates = runner.optim_wrapper.get_lr()["lr"]
    assert 0 <= rates[0] <= 0.01 * 1.0001
    if kind != "constant" and epochs == 10:
        assert rates[0] < 0.005


def test_what_is_frozen_does_not_move_and_neither_do_its_statistics(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, epochs=2, freeze=["stem*"])
    runner.train()
    assert float(runner.model.stem.weight) == 1.0
    assert float(runner.model.stem_norm.running_mean) == 0.0
    assert float(runner.model.head.weight) != 1.0


def test_a_name_that_is_nobodys_is_refused_with_those_there_are() -> None:
    plan = SimpleNamespace(channels_last=SimpleNamespace(value=False), freeze=SimpleNamespace(value=("stm",)))
    with pytest.raises(ConfigError, match="begins with 'stm'") as caught:
        prepare_model(Line(), plan)  # type: ignore[arg-type]
    assert "stem.weight" in caught.value.hint


def weights_after(runner: Runner) -> list[float]:
    runner.train()
    return [parameter.item() for parameter in runner.model.parameters()]


STILL = {"lr_scheduler": "constant", "warmup_epochs": 0, "lr0": 0.01, "epochs": 2}


def test_batches_added_up_are_one_large_batch(tmp_path: Path) -> None:
    added = weights_after(runner_of(tmp_path / "a", batch=2, accumulate=4, norm=False, **STILL))
    whole = weights_after(runner_of(tmp_path / "b", batch=8, norm=False, **STILL))
    every = weights_after(runner_of(tmp_path / "c", batch=2, norm=False, **STILL))
    assert added == pytest.approx(whole, abs=1e-6)
    assert added != pytest.approx(every, abs=1e-3)


def test_a_step_is_no_longer_than_the_clipped_gradients(tmp_path: Path) -> None:
    after = weights_after(runner_of(tmp_path, batch=8, norm=False, grad_clip=0.5, **(STILL | {"epochs": 1, "lr0": 1})))
    assert np.linalg.norm(np.array(after) - 1.0) == pytest.approx(0.5, rel=1e-4)


def test_one_cycle_keeps_what_upstream_wants_of_each_part(tmp_path: Path) -> None:
    paramwise = {"custom_keys": {"stem": {"lr_mult": 0.1}}}
    runner = runner_of(tmp_path, epochs=10, lr_scheduler="onecycle", lr0=0.01, paramwise=paramwise)
    rates: list[list[float]] = []
    original = runner.call_hook

    def call_hook(name: str, **more: Any) -> None:
        if name == "before_train_iter":
            rates.append(runner.optim_wrapper.get_lr()["lr"])
        original(name, **more)

    runner.call_hook = call_hook
    runner.train()
    stem, head = np.array(rates).T[[1, -1]]  # the first one is MMEngine's own
    highest = int(head.argmax())
    assert head[0] == pytest.approx(0.01 / 25)
    assert (highest / len(head), head.max()) == (pytest.approx(0.3, abs=0.06), pytest.approx(0.01))
    assert head[-1] < 0.01 * 0.02
    np.testing.assert_allclose(stem, head * 0.1, rtol=1e-6)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_an_epoch_of_balanced_sampling_is_as_long_as_the_plan_says(threshold: float) -> None:
    pairs = np.array([(image, kind) for image, kinds in enumerate(Points.CLASSES) for kind in kinds])
    ids, none = np.arange(len(pairs)), np.zeros(len(pairs))
    table = ObjectTable(
        ids, pairs[:, 0], pairs[:, 1], np.zeros((len(pairs), 4)), none, none > 0, np.zeros((len(pairs), 0, 3))
    )
    split = SplitColumns(tuple("abcdefgh"), np.arange(8, dtype=np.int32), np.ones((8, 2)), table)
    balanced = ClassBalancedDataset(Points(serialize_data=False), oversample_thr=threshold)
    assert images_shown(split, threshold) == len(balanced)


def test_the_last_epochs_go_through_the_other_pipeline(tmp_path: Path) -> None:
    compat.apply()
    compat.import_quietly("mmdet.engine")
    Marked.seen.clear()
    runner_of(tmp_path, epochs=3, weak_epochs=1, mosaic=1.0).train()
    assert Marked.seen == ["strong"] * 16 + ["weak"] * 8


def test_bf16_computes_in_bf16_and_keeps_its_weights_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU only MMEngine's own refusal of CPUs stands in the way: autocast is the same."""
    monkeypatch.setattr("mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available", lambda: True)
    runner = runner_of(tmp_path, amp="bf16", machine=FOUR_GPUS, norm=False, **STILL)
    seen: list[torch.dtype] = []
    runner.model.head.register_forward_hook(lambda module, inputs, found: seen.append(found.dtype))
    after = weights_after(runner)
    assert torch.bfloat16 in seen
    assert {parameter.dtype for parameter in runner.model.parameters()} == {torch.float32}
    whole = weights_after(runner_of(tmp_path / "whole", norm=False, **STILL))
    assert after == pytest.approx(whole, rel=0.02)


def test_deterministic_is_torchs(tmp_path: Path) -> None:
    try:
        runner_of(tmp_path, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.use_deterministic_algorithms(False)


def test_channels_last_is_the_format_of_what_comes_out() -> None:
    plan = plan_of(channels_last=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))
    prepare_model(model, plan)
    found = model(torch.rand(2, 3, 16, 16))
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert not found.is_contiguous()

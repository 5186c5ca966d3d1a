"""Advice for a training whose model waits for its data."""

from __future__ import annotations

from mmtrain.engine.messages import EpochEnd
from mmtrain.jobs.waiting import Waiting
from mmtrain.reports.models import Curves
from tests.unit.test_plan import plan_of


def epoch(number: int, share: float | None) -> EpochEnd:
    return EpochEnd(epoch=number, iteration=10 * number, losses={}, lr=0.1, data_share=share)


def said(shares: list[float | None], *, cores: int = 4, **request: object) -> list[str]:
    waiting = Waiting(plan_of(**{"epochs": 5, "workers": 2, **request}), cores)
    heard = [waiting.hear(epoch(number, share)) for number, share in enumerate(shares, start=1)]
    return [text for text in heard if text is not None]


def test_a_model_that_waits_is_told_about_once() -> None:
    assert said([0.6, 0.1, 0.35, 0.4]) == [
        "the model waited 35% of epoch 3 for data: raise workers (2: asked for; usable cores: 4)"
    ]


def test_a_first_epoch_starts_the_loading_processes_and_counts_only_alone() -> None:
    assert said([0.9, 0.1, None]) == []
    assert len(said([0.9], epochs=1)) == 1


def test_where_all_cores_load_already_more_processes_are_no_advice() -> None:
    (text,) = said([0.0, 0.5], cores=2)
    assert "workers is 2 on 2 usable core(s)" in text
    assert "raise workers" not in text


def test_a_trainings_share_is_the_mean_of_the_epochs_that_know_theirs() -> None:
    points = [{"epoch": 1, "data_share": 0.2}, {"epoch": 2, "data_share": 0.4}, {"epoch": 3}, {"data_share": None}]
    assert Curves(train=points).data_share == (0.2 + 0.4) / 2
    assert Curves(train=[{"epoch": 1, "loss": 2.0}]).data_share is None

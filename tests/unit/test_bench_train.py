"""The comparison of training loops: who waits for whom, and what the figures say."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from bench_train import summary
from bench_train_worker import take_turns


def epoch(iteration_s: float, *, first_s: float = 9.0, data_s: float = 0.0, save_s: float = 0.0) -> dict[str, Any]:
    times = [first_s, iteration_s, iteration_s, iteration_s]
    return {"epoch_s": sum(times) + save_s, "cpu": times[1:], "time": times, "data_time": [data_s] * 4}


def test_first_epochs_and_first_iterations_do_not_count_and_neighbours_are_compared() -> None:
    slower = [1.0, 2.0, 4.0, 1.0]  # a machine that drifts
    job = [epoch(50.0), *(epoch(1.03 * s, save_s=1.0, data_s=0.5) for s in slower)]
    plain = [epoch(7.0), *(epoch(1.00 * s, save_s=0.0, data_s=0.0) for s in slower)]
    numbers = summary({"job": job, "plain": plain})
    assert numbers["iteration_more"] == pytest.approx(0.03)
    assert numbers["iteration_more_quartiles"] == pytest.approx([0.03, 0.03])
    assert numbers["iteration_s"] == pytest.approx({"job": 1.545, "plain": 1.5})
    assert 0.05 < numbers["epoch_more"] < 0.1
    assert numbers["cpu_more"] == pytest.approx(0.03)
    assert numbers["data_share"] == pytest.approx({"job": 8 / (36 + 3.09 * 8), "plain": 0.0})


def test_an_epoch_waits_for_its_turn_and_says_what_it_cost(tmp_path: Path) -> None:
    class Loop:
        epoch = 1
        dataloader = (1, 2)
        runner = SimpleNamespace(
            message_hub=SimpleNamespace(get_scalar=lambda _: SimpleNamespace(data=([9, 4, 3], None)))
        )

        def run_iter(self, index: int, batch: int) -> None:
            sum(range(1000 * index * batch))

        def run_epoch(self) -> None:
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
            (tmp_path / "ran").write_text(str((tmp_path / "go-1").exists()))

    take_turns(Loop, tmp_path)
    threading.Timer(0.2, (tmp_path / "go-1").touch).start()
    Loop().run_epoch()
    assert (tmp_path / "ran").read_text() == "True"
    cost = json.loads((tmp_path / "epoch-1.json").read_text())
    assert (cost["time"], cost["data_time"]) == ([4.0, 3.0], [4.0, 3.0])
    assert len(cost["cpu"]) == 2
    assert cost["epoch_s"] > 0

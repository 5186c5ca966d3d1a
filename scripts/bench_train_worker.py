"""A training of `make bench-train`, started by torchrun: ``job FOLDER`` or ``plain FOLDER``.

``job`` is the worker of the job whose order lies in ``FOLDER/work``, hooks, messages and all; ``plain`` is
``Runner.from_cfg(config).train()`` on ``FOLDER/config.py``, in a process that holds nothing of ours. Each epoch waits
for the file that permits it, and writes what it cost.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

POLL_S = 0.05


def main(way: str, folder: Path) -> None:
    {"job": job, "plain": plain}[way](folder)


def plain(folder: Path) -> None:
    from mmengine.config import Config
    from mmengine.runner import EpochBasedTrainLoop, Runner

    take_turns(EpochBasedTrainLoop, folder)
    config = Config.fromfile(folder / "config.py")
    config.work_dir = str(folder / "work")
    runner = Runner.from_cfg(config)
    ours = [name for name in sys.modules if name.startswith(("mmtrain", "trainer_sdk", "converters"))]
    assert not ours, ours
    runner.train()


def job(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from mmtrain import compat

    compat.apply()
    from mmtrain.engine import worker
    from mmtrain.engine.resume import ResumableLoop

    take_turns(ResumableLoop, folder)
    sys.exit(worker.main(folder / "work"))


def take_turns(loop: Any, folder: Path) -> None:
    """Lets every epoch (0-based) wait for ``go-N``, and writes ``epoch-N.json``: its seconds, and those of each
    iteration: as MMEngine's IterTimerHook took them, and of CPU, without saving or waiting."""
    run_epoch, run_iter = loop.run_epoch, loop.run_iter
    cpu: list[float] = []

    def run_iter_counted(self: Any, index: int, batch: Any) -> None:
        start = time.process_time()
        run_iter(self, index, batch)
        cpu.append(time.process_time() - start)

    def run_epoch_in_turn(self: Any) -> None:
        number, iterations = self.epoch, len(self.dataloader)
        while not (folder / f"go-{number}").exists():
            time.sleep(POLL_S)
        start = time.perf_counter()
        run_epoch(self)
        cost: dict[str, Any] = {"epoch_s": time.perf_counter() - start, "cpu": cpu[-iterations:]}
        for name in ("time", "data_time"):
            history, _ = self.runner.message_hub.get_scalar(f"train/{name}").data
            cost[name] = [float(value) for value in history[-iterations:]]
        written = folder / f"epoch-{number}.part"
        written.write_text(json.dumps(cost))
        written.rename(folder / f"epoch-{number}.json")

    loop.run_epoch, loop.run_iter = run_epoch_in_turn, run_iter_counted


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

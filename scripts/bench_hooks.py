"""What the job's own hooks cost in an iteration, on a runner that does nothing else: a figure that no busy machine
blurs much. Prints JSON, in microseconds.

Some of them work twice a second only, whatever an iteration takes; that work is measured apart.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mmtrain import compat

CALLS, REPEATS = 5000, 7
PARAMETERS = 300
"""As many groups of the optimizer, as where upstream gives parameters their own rules."""


def main() -> None:
    compat.apply()
    import torch
    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner

    from mmtrain.engine.hooks import DescriptionHook, DivergenceHook, MessageHook, StopHook
    from mmtrain.engine.messages import MessageWriter
    from mmtrain.engine.resume import ResumeHook
    from mmtrain.engine.seeding import SAMPLES, SeedHook, seed_all
    from mmtrain.engine.stopping import StopRequest
    from trainer_sdk.tasks import Task

    with tempfile.TemporaryDirectory() as folder:
        messages: Any = MessageHook(MessageWriter(Path(folder, "messages")), SimpleNamespace(task=Task.DETECTION))
        stop: Any = StopHook(StopRequest(Path(folder, "stop"), os.getppid()))
        seed = SeedHook(42, fresh_caches=False)
        others = [DivergenceHook(), DescriptionHook({}), ResumeHook(8)]
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(PARAMETERS)]
        runner: Any = SimpleNamespace(iter=0, epoch=0, optim_wrapper=OptimWrapper(torch.optim.SGD(groups, lr=0.1)))
        loss = {"loss": torch.tensor(1.0)}

        def iteration() -> None:
            runner.iter += 1
            Runner.call_hook(runner, "before_train_iter", batch_idx=0, data_batch=None)
            Runner.call_hook(runner, "after_train_iter", batch_idx=0, data_batch=None, outputs=loss)

        def twice_a_second() -> None:
            messages._next_say = stop._request._next_look = 0.0
            for hook in (messages, stop):
                hook.after_train_iter(runner, 0, None, loss)

        runner._hooks = [seed, *others, messages, stop]
        costs = {"iteration_us": microseconds(iteration), "half_second_us": microseconds(twice_a_second, CALLS // 10)}
    costs["picture_us"] = microseconds(lambda: seed_all((42, SAMPLES, 1, 7)))  # in the processes that load data
    print(json.dumps(costs))


def microseconds(work: Callable[[], None], calls: int = CALLS) -> float:
    """Of one call: the median of some rounds."""
    rounds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        rounds.append((time.perf_counter() - start) / calls * 1e6)
    return round(statistics.median(rounds), 1)


if __name__ == "__main__":
    main()

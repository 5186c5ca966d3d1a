"""Data loading processes of torch, as a training starts them, under signals that are not meant for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LOADS = """
import sys
import torch
from torch.utils.data import DataLoader
from mmtrain.engine.stopping import LoadingContext, heed_only_the_parent

def settle(number):
    heed_only_the_parent()

torch.set_num_threads(2)  # as a worker does
loader = DataLoader(range(10_000), num_workers=1, worker_init_fn=settle, multiprocessing_context=LoadingContext())
batches = iter(loader)
print(next(batches).item(), batches._workers[0].pid, flush=True)
for line in sys.stdin:
    print(next(batches).item(), flush=True)
batches._workers[0].terminate()
batches._workers[0].join(20)
print(batches._workers[0].exitcode, flush=True)
"""


def test_every_thread_of_a_loading_process_leaves_signals_of_others_alone(tmp_path: Path) -> None:
    """Torch starts threads in it before the process knows what to do; a signal goes to any that does not block it."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOADS]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environ, cwd=tmp_path) as process:
        assert process.stdin is not None and process.stdout is not None
        first, loader = process.stdout.readline().split()
        assert first == "0"
        for number in range(1, 40):  # the kernel gives them to the threads in turn
            os.kill(int(loader), signal.SIGTERM)
            process.stdin.write("go on\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == str(number)
        process.stdin.close()
        assert process.stdout.read().strip() == "0"  # told by its own parent, it ended of its own accord
    assert process.returncode == 0

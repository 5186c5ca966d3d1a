"""torchrun as the trainer sees it: one process in a session of its own, SIGTERM passed on, a word on how it ended."""

from __future__ import annotations

import signal
import subprocess
import sys

command = [sys.executable, "-m", "tests.doubles.light_worker", sys.argv[-1]]
worker = subprocess.Popen(command, start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
code = worker.wait()
if code:
    print(f"  exitcode  : {code} (pid: {worker.pid})", flush=True)
sys.exit(bool(code))

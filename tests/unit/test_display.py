"""What a person at a terminal sees, through a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

from tests.conftest import ROOT

SCRIPT = """
import logging, time
from trainer_sdk.texts.console import set_up_logging
from mmtrain.display import Display
set_up_logging("INFO")
with Display("starting", unit="iter") as display:
    for step in range(8):
        display(step + 1, 300, "loss 0.853, mAP 0.305", f"epoch {step + 1}/20")
        time.sleep(0.15)
    logging.getLogger("trainer").info("a line beside the bar")
"""


def seen(columns: int) -> list[str]:
    """The lines of a run at a terminal of that width, without escape sequences."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        output += piece
    assert process.wait() == 0
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", output.decode()))


def test_the_bar_shows_everything_at_80_columns_and_lines_stay_whole() -> None:
    lines = seen(80)
    bars = [line for line in lines if "epoch 8/20" in line]
    assert bars
    for part in ("8/300", "iter", "eta", "loss 0.853", "mAP 0.305"):
        assert any(part in bar for bar in bars), part
    assert any(line.rstrip().endswith("a line beside the bar") for line in lines)

"""The frame of a worker that trains nothing: an order in, messages and at most one error record out.

It has nothing to save, so it leaves at once when its parent asks for it or is gone.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mmtrain.engine.classify import error_record
from mmtrain.engine.messages import Done, MessageWriter
from mmtrain.engine.order import ERROR, MESSAGES, ORDER, STOP, AloneOrder
from mmtrain.engine.stopping import is_alive
from mmtrain.engine.watchdog import show_stacks_on_request
from trainer_sdk.workspace import WORKER_LOCK, take_lock, write_json

Order = TypeVar("Order", bound=AloneOrder)

LOOK_EVERY_S = 0.5
STOPPED = 143


def serve(run: Callable[[Order, Path, MessageWriter], None], order_type: type[Order], work_dir: Path) -> int:
    """The process: exit code 0, or 1 with an error record for the parent."""
    show_stacks_on_request()
    started = time.monotonic()
    lock = take_lock(work_dir.parent / WORKER_LOCK)  # a rerun after a killed parent waits for its orphan
    try:
        order = order_type.model_validate_json((work_dir / ORDER).read_bytes())
        leave = threading.Thread(target=_leave_when_told, args=(work_dir / STOP, order.parent), daemon=True)
        leave.start()
        writer = MessageWriter(work_dir / MESSAGES)
        run(order, work_dir, writer)
        writer.say(Done(seconds=round(time.monotonic() - started, 3)))
    except Exception as error:  # noqa: BLE001 - the process boundary: whatever it is, the parent makes it the outcome
        traceback.print_exc()
        write_json(work_dir / ERROR, error_record(error))
        return 1
    finally:
        if lock is not None:
            lock.close()
    return 0


def _leave_when_told(stop_file: Path, parent: int) -> None:
    while not stop_file.exists() and is_alive(parent):
        time.sleep(LOOK_EVERY_S)
    os._exit(STOPPED)

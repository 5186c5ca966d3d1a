"""Measures how much memory a training needs by its images at a time. A process of its own: memory may end it.

``python -m mmtrain.engine.probe FOLDER`` reads `probe.json` there and adds a line to `probe.jsonl` for every batch.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import traceback
from pathlib import Path

from mmtrain import compat
from mmtrain.datasets.stream import StreamedImages, open_stream
from mmtrain.engine.order import PROBE, PROBED, ProbeOrder
from mmtrain.engine.stopping import end_with_starter
from mmtrain.machine import memory_limit, peak_rss_bytes
from mmtrain.recipes import load_recipe
from trainer_sdk.settings import Settings
from trainer_sdk.workspace import WORKER_LOCK, take_lock


def main(folder: Path) -> int:
    """Exit code 0, also where nothing fitted: that is an answer."""
    end_with_starter()
    lock = take_lock(folder.parent.parent / WORKER_LOCK)  # a rerun after a killed parent waits for its orphan
    try:
        probe(ProbeOrder.model_validate_json((folder / PROBE).read_bytes()), folder)
    except Exception:  # noqa: BLE001 - the process boundary: the training goes on without an answer
        traceback.print_exc()
        return 1
    finally:
        if lock is not None:
            lock.close()
    return 0


def probe(order: ProbeOrder, folder: Path) -> None:
    """Tries batch after batch until one is too much, or enough is known."""
    prepare(order)
    from mmtrain.engine.measuring import measure

    empty_bytes = 0 if order.plan.gpus else peak_rss_bytes() or 0
    with (folder / PROBED).open("ab", buffering=0) as results:
        for batch in order.batches:
            tried = measure(order, batch, folder).model_copy(update={"empty_bytes": empty_bytes})
            results.write(tried.model_dump_json().encode() + b"\n")
            if tried.share > order.most_share or tried.suffices_for(order.enough, order.most_share):
                break


def prepare(order: ProbeOrder) -> None:
    """As the worker does, and a limit that is noticed as an error before the kernel kills for it."""
    import torch

    compat.apply()
    compat.import_framework(load_recipe(order.plan.recipe, order.plan.task).base.partition("::")[0])
    torch.set_num_threads(order.plan.threads.value)
    if isinstance(order.files.images, StreamedImages):
        from mmtrain.engine import stream

        stream.register(open_stream(Settings.from_env(os.environ).datasets, order.files.images))
    if not order.plan.gpus:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        with contextlib.suppress(ValueError):  # above a hard limit, which then does the same
            resource.setrlimit(resource.RLIMIT_DATA, (memory_limit().size_bytes, hard))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

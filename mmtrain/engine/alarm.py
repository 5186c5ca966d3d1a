"""When one process of a training fails, the others end too and say why, whatever they are waiting for.

Collectives know only that somebody is missing, after a long time or at once. So a process in trouble rings: a key in
torchrun's store, which lives at the first node. A thread of every process listens, answers that it is alive, and ends
a process that hangs. The verdict is what the one in trouble says of itself, or who did not answer.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson
from torch import distributed

from mmtrain.engine import upstream_words
from mmtrain.engine.order import ERROR
from mmtrain.engine.place import Place, SiblingDied
from trainer_sdk.errors import ERROR_TYPES, Interrupted, JobError, OutOfMemory, ResourceError
from trainer_sdk.workspace import write_json

LISTEN_EVERY_S = 1.0
LOOK_EVERY_S = 0.2
"""While the others answer."""
ANSWER_S = 10.0
VERDICT_S = 2 * ANSWER_S
PREFIX = "trainer/alarm/"
RUNG, VERDICT = PREFIX + "rung", PREFIX + "verdict"
GO_ON = "start the job again: it goes on from the last checkpoint"

Classify = Callable[[Exception], JobError]


@contextmanager
def failing_together(place: Place, work_dir: Path, environ: Mapping[str, str], classify: Classify) -> Iterator[None]:
    """Ends all processes when one fails inside.

    Raises:
        JobError: what ended the training, if it was another process.
        SiblingDied: it was one beside this, and left no word.
    """
    if place.world == 1:
        yield
        return
    alarm = Alarm(place, environ)
    listener = threading.Thread(target=alarm.listen, args=(work_dir / ERROR,), name="alarm", daemon=True)
    listener.start()
    try:
        yield
    except Exception as error:
        alarm.handled.set()
        verdict = alarm.ring(None if is_about_others(error, classify) else classify(error))
        if verdict is None:
            raise
        raise verdict from error
    finally:
        alarm.handled.set()


def is_about_others(error: Exception, classify: Classify) -> bool:
    """Whether it only says that another process is missing."""
    if isinstance(classify(error), OutOfMemory):  # NCCL says that too
        return False
    collective = isinstance(error, RuntimeError) and upstream_words.of_a_lost_process(str(error))
    return collective or isinstance(error, distributed.DistError)


class Alarm:
    """This process's line to the others."""

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self._place = place
        self._address = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
        self.handled = threading.Event()
        """Whether the process itself deals with what happened, or has nothing to fear any more."""

    def ring(self, ours: JobError | None) -> Exception | None:
        """Says that something is wrong; hears what.

        Args:
            ours: None if this process only noticed.

        Returns:
            None if it is this process's own failure.
        """
        try:
            store = self._store()
            store.set(RUNG, str(self._place.rank))
            store.set(self._answer(self._place.rank), "")
            if ours is not None:
                store.compare_set(VERDICT, "", _written(ours, of=self._place))
            silent = self._silent(store)
            if ours is not None:
                return None
            if not store.check([VERDICT]) and any(self._place.node_of(rank) == self._place.node for rank in silent):
                return SiblingDied(f"of processes {silent}")
            return _read(store.compare_set(VERDICT, "", _written(self._missing(silent))), self._place)
        except RuntimeError:  # the store is gone, and with it the first node
            return None if ours is not None else self._missing([0])

    def listen(self, report: Path) -> None:
        """Until an alarm or the end; then answers, and ends this process if nothing else does."""
        verdict: Exception
        try:
            store = self._store()
            while not store.check([RUNG]):
                if self.handled.wait(LISTEN_EVERY_S):
                    return
            store.set(self._answer(self._place.rank), "")
            if self.handled.wait(LISTEN_EVERY_S):
                return
            store.wait([VERDICT], datetime.timedelta(seconds=VERDICT_S))
            verdict = _read(store.get(VERDICT), self._place)
        except RuntimeError:
            verdict = self._missing([0])
        if self.handled.wait(LISTEN_EVERY_S):
            return
        if isinstance(verdict, JobError) and not report.exists():
            record = {"type": type(verdict).__name__, "message": verdict.message, "hint": verdict.hint}
            write_json(report, {**record, "traceback": "another process failed"})
        os._exit(1)  # the process itself waits for one that will not come

    def _silent(self, store: distributed.TCPStore) -> list[int]:
        """Who does not answer."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            silent = [rank for rank in range(self._place.world) if not store.check([self._answer(rank)])]
            if not silent or time.monotonic() >= deadline:
                return silent
            time.sleep(LOOK_EVERY_S)

    def _missing(self, silent: list[int]) -> JobError:
        where = sorted({self._place.node_of(rank) for rank in silent})
        if not where:
            return ResourceError("the connection between the nodes broke", hint=f"check the network; {GO_ON}")
        named = " and ".join(f"node {node}" for node in where)
        return ResourceError(
            f"{named} of {self._place.nodes} was lost while training", hint=f"its own log may say why; {GO_ON}"
        )

    def _answer(self, rank: int) -> str:
        return f"{PREFIX}{rank}"

    def _store(self) -> distributed.TCPStore:
        host, port = self._address
        patience = datetime.timedelta(seconds=ANSWER_S)
        return distributed.TCPStore(host, port, is_master=False, timeout=patience, wait_for_workers=False)


def _written(error: JobError, of: Place | None = None) -> str:
    node = None if of is None else of.node
    record = {"type": type(error).__name__, "message": error.message, "hint": error.hint, "node": node}
    return orjson.dumps(record).decode()


def _read(raw: bytes, place: Place) -> JobError:
    """Another's failure; one that all share needs no name."""
    record = orjson.loads(raw)
    kind = ERROR_TYPES[record["type"]]
    at = "" if record["node"] in (None, place.node) or kind is Interrupted else f"node {record['node']}: "
    return kind(f"{at}{record['message']}", hint=record["hint"])

"""Events that no backend took outlive the machine: beside the artifacts, for ``python -m trainer_sdk.replay``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from trainer_sdk.delivery.outbox import CURSOR, EVENTS, LINES
from trainer_sdk.settings import Settings
from trainer_sdk.storage.opening import open_storage
from trainer_sdk.storage.protocol import Storage

log = logging.getLogger(__name__)

FILES = (EVENTS, CURSOR, LINES)
MOST_S = 15.0


def keep_undelivered(folder: Path, settings: Settings, within_s: float) -> None:
    """Uploads them to ``checkpoints/<job>/undelivered/``. What fails is a warning: they are in the folder too."""

    def upload(storage: Storage, prefix: str) -> None:
        for name in filter(lambda name: (folder / name).exists(), FILES):
            storage.upload(folder / name, prefix + name)
        log.warning("events that the backend has not heard are in %s", storage.uri(prefix))

    _with_storage(folder, settings, within_s, upload)


def forget_undelivered(folder: Path, settings: Settings, within_s: float) -> None:
    """The backend has heard what an earlier run kept there."""

    def delete(storage: Storage, prefix: str) -> None:
        for name in FILES:
            storage.delete(prefix + name)

    _with_storage(folder, settings, within_s, delete)


def _with_storage(folder: Path, settings: Settings, within_s: float, work: Callable[[Storage, str], None]) -> None:
    """In a thread: a dead storage has more patience than the end of a job."""
    if not settings.checkpoints.from_environment:
        return

    def guarded() -> None:
        try:
            work(open_storage(settings.checkpoints), f"checkpoints/{folder.name}/undelivered/")
        except Exception as error:  # noqa: BLE001 - whatever it is, the job's outcome stands
            log.warning("undelivered events in the storage: %s: %s", type(error).__name__, error)

    thread = threading.Thread(target=guarded, name="undelivered", daemon=True)
    thread.start()
    thread.join(min(within_s, MOST_S))
    if thread.is_alive():
        log.warning("undelivered events: the storage does not answer; they are in %s", folder)

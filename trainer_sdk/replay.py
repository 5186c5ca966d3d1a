"""``python -m trainer_sdk.replay JOB_FOLDER``: delivers later what a job could not tell the backend.

The backend is that of the environment (``CALLBACK_URL``, ``CALLBACK_TOKEN``, ...). Every event keeps its number and its
idempotency key, and what was delivered is not sent again. A job that is over by now is not revived. Exit codes: 0, all
delivered; 2, some are left; 3, nothing to work with; 4, a job runs in the folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from trainer_sdk.delivery.http_backend import HttpBackend
from trainer_sdk.delivery.journal import read_events
from trainer_sdk.delivery.outbox import EVENTS, Outbox
from trainer_sdk.delivery.undelivered import forget_undelivered
from trainer_sdk.errors import EXIT_UNDELIVERED, ConfigError, JobError, ResourceError
from trainer_sdk.lifecycle.folder import OUTCOME
from trainer_sdk.lifecycle.outcome import Outcome
from trainer_sdk.settings import Settings, settings_problems
from trainer_sdk.texts.console import set_up_logging
from trainer_sdk.workspace import LOCK, take_lock, write_json

log = logging.getLogger("trainer")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a job folder, or a copy of checkpoints/<JOB_ID>/undelivered/")
    folder: Path = parser.parse_args().folder
    set_up_logging("INFO")
    try:
        return replay(folder.resolve(), os.environ)
    except JobError as error:
        log.error("%s", error.wire_text)
        return error.exit_code


def replay(folder: Path, environ: Mapping[str, str]) -> int:
    """Delivers for at most DELIVERY_TIMEOUT_S; the exit code.

    Raises:
        ConfigError: no backend, or no job folder.
        ResourceError: a job runs there.
    """
    settings = Settings.from_env(environ)
    problems = settings_problems(environ)
    if settings.callback_url is None:
        problems.append("CALLBACK_URL is missing")
    if not (folder / EVENTS).is_file():
        problems.append(f"{folder} is no job folder: it has no {EVENTS}")
    if problems:
        raise ConfigError("; ".join(problems))
    lock = take_lock(folder / LOCK)
    if lock is None:
        raise ResourceError(f"a job runs in {folder}", hint="it delivers its events itself; wait for its end")
    backend = HttpBackend(str(settings.callback_url), settings.callback)
    with lock:
        outbox = Outbox(folder, _job_id(folder), backend, settings.callback, late=True)
        waiting = outbox.undelivered
        delivered = outbox.close(settings.delivery_timeout_s)
        correct_outcome(folder, outbox.undelivered)
    log.info("%d of %d events delivered, %d refused", waiting - outbox.undelivered, waiting, outbox.refused)
    if not delivered:
        return EXIT_UNDELIVERED
    forget_undelivered(folder, settings, settings.delivery_timeout_s)
    return 0


def correct_outcome(folder: Path, undelivered: int) -> None:
    """``outcome.json`` says what is left now; a copy of the undelivered events alone has none."""
    path = folder / OUTCOME
    try:
        outcome = Outcome.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return
    unheard = outcome.exit_code == EXIT_UNDELIVERED
    exit_code = 0 if unheard and not undelivered else outcome.exit_code
    corrected = outcome.model_copy(update={"undelivered_events": undelivered, "exit_code": exit_code})
    try:
        write_json(path, corrected.model_dump(mode="json"))
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)


def _job_id(folder: Path) -> str:
    """As it was told; a copy of the folder may be called anything."""
    told = (str(record["body"]["job_id"]) for record in read_events(folder / EVENTS) if "job_id" in record["body"])
    return next(told, folder.name)


if __name__ == "__main__":
    sys.exit(main())

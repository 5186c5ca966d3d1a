"""The folder that stands for a job: whose it is, what an earlier run left in it, and how the job ended."""

from __future__ import annotations

import logging
from pathlib import Path

from trainer_sdk.errors import ConfigError, JobError, ResourceError
from trainer_sdk.jobspec import JobSpec
from trainer_sdk.lifecycle.outcome import Outcome, completed_before, same_request
from trainer_sdk.texts.redaction import Redaction
from trainer_sdk.workspace import Workspace, write_json

log = logging.getLogger("trainer")

OUTCOME, REQUEST = "outcome.json", "job.json"


class JobFolder:
    """Of one job id, whether or not it can be used."""

    def __init__(self, without_secrets: Redaction) -> None:
        self._without_secrets = without_secrets
        self.workspace: Workspace | None = None
        self.taken = False
        """Somebody else works, or another request completed, under this JOB_ID: we say nothing in its name."""
        self.completed = False
        """By an earlier run, as it is asked for now."""

    def open(self, root: Path, name: str, asked: JobSpec | JobError) -> JobSpec | JobError:
        """Claims the folder and clears it for a job that is to be done.

        Returns:
            What was asked for; or why it cannot be honoured, here or already before.

        Raises:
            OSError: the folder cannot be used.
        """
        self.workspace = Workspace(root, name)
        try:
            self.workspace.claim()
        except ResourceError as error:
            self.taken = True
            return error
        if completed_before(self.workspace.path(OUTCOME)):
            return self._completed(self.workspace, asked)
        if not isinstance(asked, JobError):
            self.workspace.clear(resumes=same_request(self.workspace.path(REQUEST), asked))
        return asked

    def _completed(self, space: Workspace, asked: JobSpec | JobError) -> JobSpec | JobError:
        """A completed job is neither trained again nor spoilt by another request under its name."""
        if isinstance(asked, JobError):
            self.taken = True
            return asked
        if not same_request(space.path(REQUEST), asked):
            self.taken = True
            hint = f"use another JOB_ID, or remove {space.folder}"
            return ConfigError(f"job {asked.job_id} was completed with another request", hint=hint)
        self.completed = True
        return asked

    def use_reserve(self) -> None:
        """Room for the last words, which are ours to say."""
        if self.workspace is not None and not self.taken:
            self.workspace.use_reserve()

    def earlier_outcome(self) -> Outcome:
        """Of the run that completed the job."""
        assert self.workspace is not None
        return Outcome.model_validate_json(self.workspace.path(OUTCOME).read_bytes())

    def record(self, outcome: Outcome) -> None:
        """Writes ``outcome.json``, where it is ours to write. Never raises for a full disk."""
        if self.workspace is None or self.taken:
            return
        try:
            write_json(self.workspace.path(OUTCOME), self._without_secrets.of_record(outcome))
        except OSError as error:
            log.error("%s cannot be written: %s", OUTCOME, error)

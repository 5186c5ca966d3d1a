"""The four kinds of jobs: what their id is called, and the folder in which each works."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from trainer_sdk.config.reading import agreed
from trainer_sdk.jobspec import JOB_ID

Kind = Literal["train", "predict", "export", "evaluate"]

ID_NAMES: dict[Kind, tuple[str, ...]] = {
    "train": ("JOB_ID",),
    "predict": ("INFERENCE_JOB_ID", "JOB_ID"),
    "export": ("EXPORT_JOB_ID", "JOB_ID"),
    "evaluate": ("TEST_RUN_ID", "JOB_ID"),
}
"""The backend's own name, then the mission's (contract 0 and 1.9)."""


def job_id_of(environ: Mapping[str, str], kind: Kind = "train") -> str | None:
    """The id alone, for reporting a request that cannot be read any further. None: absent or unusable."""
    found = next((found for name in ID_NAMES[kind] if (found := environ.get(name, "").strip())), "")
    return found if re.fullmatch(JOB_ID, found) else None


def folder_of(kind: Kind, job_id: str) -> str:
    """The job folder's name: each kind counts for itself, so 7 may be a training and an export too."""
    return job_id if kind == "train" else f"{kind}-{job_id}"


def read_job_id(environ: Mapping[str, str], kind: Kind, problems: list[str]) -> str:
    """The id; "" or an unusable one with a problem."""
    given = [(name, found) for name in ID_NAMES[kind] if (found := environ.get(name, "").strip())]
    if not given:
        problems.append(" or ".join(ID_NAMES[kind]) + " is missing")
        return ""
    name, found = agreed(given, problems)[0], given[0][1]
    if not re.fullmatch(JOB_ID, found):
        problems.append(f"{name}={found!r} may hold only letters, digits, '.', '_' and '-' (64 at most)")
    elif environ.get("CALLBACK_URL", "").strip() and not found.isdecimal():
        problems.append(f"{name}={found!r} must be a number when CALLBACK_URL is given: the backend's ids are integers")
    return found

"""What the system's numbers mean to a user."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from trainer_sdk.errors import JobError, NetworkError, OutOfMemory, ResourceError
from trainer_sdk.lifecycle.outcome import as_job_error


def error_of(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, ResourceError, "free space"),
        (errno.EDQUOT, ResourceError, "free space"),
        (errno.EROFS, ResourceError, "mount it for writing"),
        (errno.EACCES, ResourceError, "owner"),
        (errno.EFBIG, ResourceError, "ulimit -f"),
        (errno.EMFILE, ResourceError, "ulimit -n"),
        (errno.EIO, ResourceError, "kernel log"),
        (errno.ENOMEM, OutOfMemory, "memory limit"),
        (errno.ECONNREFUSED, NetworkError, "network"),
        (errno.EHOSTUNREACH, NetworkError, "network"),
    ],
)
def test_a_number_of_the_system_names_who_acts(number: int, kind: type[JobError], hint: str) -> None:
    found = as_job_error(error_of(number), Path("/work"))
    assert type(found) is kind
    assert hint in found.hint


def test_a_name_that_no_server_knows_is_the_networks() -> None:
    assert isinstance(as_job_error(socket.gaierror(-2, "Name or service not known"), Path("/w")), NetworkError)


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "gone"), ValueError("disk full, out of memory")])
def test_what_says_nothing_of_the_machine_is_a_bug_whatever_its_words(error: Exception) -> None:
    found = as_job_error(error, Path("/work"))
    assert (type(found), found.code, found.exit_code) == (JobError, "UnknownError", 1)

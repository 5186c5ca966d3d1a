"""What fails takes no secret with it, and no name speaks in our place: jobs as processes, without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import JobScript, RunScript, ScriptRun
from tests.doubles.backend import ContractBackend
from tests.doubles.secrets import PLANTED, files_below, told

REQUEST = {"JOB_ID": "123", "MODEL_NAME": "rtmdet-tiny", "DATASET_ID": "ds"}
RAISES = {
    "an error of ours": "raise errors.NetworkError('refused for ' + {0}, hint='not ' + {0})",
    "a bug": "raise ValueError(dict(secret={0}))",
    "a chain": "try:\n    raise KeyError({0})\nexcept KeyError as error:\n    raise RuntimeError('later') from error",
    "a group": "raise ExceptionGroup('several', [ValueError({0}), OSError(5, {0}, {0})])",
    "a note": "error = RuntimeError('x'); error.add_note({0}); raise error",
    "a milestone": "session.log('connecting with ' + {0}); session.complete(DONE)",
    "a log line": "import logging; logging.getLogger('a').error('%r', [{0}], stack_info=True); session.complete(DONE)",
}


@pytest.mark.parametrize("way", RAISES)
def test_no_secret_is_logged_sent_or_written(
    run_script: RunScript, job_script: JobScript, backend: ContractBackend, tmp_path: Path, way: str
) -> None:
    everything = "repr([os.environ[name] for name in sorted(os.environ)])"
    script = job_script(RAISES[way].format(everything))
    done: ScriptRun = run_script({**REQUEST, **PLANTED, "CALLBACK_URL": backend.url}, script=script)
    sent = json.dumps([[call.path, call.body] for call in backend.calls]).encode()
    assert "***" in done.stdout
    assert len(backend.calls) >= 2
    assert told([("stdout", done.stdout.encode()), ("stderr", done.stderr.encode()), ("sent", sent)]) == []
    assert told(files_below(tmp_path)) == []
    assert backend.status_of(123) == ("completed" if "DONE" in RAISES[way] else "failed")


@pytest.mark.parametrize(
    "name", ["CALLBACK_URL", "INTERNAL_STORAGE_ENDPOINT", "EXTERNAL_STORAGE_ENDPOINT", "CHECKPOINT_PATH"]
)
def test_a_password_in_a_url_is_refused_and_not_repeated(run_script: RunScript, tmp_path: Path, name: str) -> None:
    done = run_script({**REQUEST, name: "http://user:planted-database-4711@host:80/x"})
    assert done.exit_code == 3
    assert name in done.outcome["message"]
    assert told([("stdout", done.stdout.encode()), *files_below(tmp_path)]) == []


def test_a_record_keeps_our_own_words(run_script: RunScript, job_script: JobScript) -> None:
    """Somebody's password may be a word that we use."""
    script = job_script("session.complete(DONE)")
    done = run_script({**REQUEST, "DB_PASSWORD": "completed", "A_SECRET": "123"}, script=script)
    assert (done.outcome["status"], done.outcome["job_id"]) == ("completed", "123")


def test_a_milestone_is_one_line_whatever_it_quotes(
    run_script: RunScript, job_script: JobScript, backend: ContractBackend
) -> None:
    forged = 'x.png\\n{"level": "ERROR"}\\x1b[2J\\u2028'
    script = job_script(f"session.log('found {forged}'); raise errors.DatasetError('bad {forged}')")
    done = run_script({**REQUEST, "CALLBACK_URL": backend.url}, script=script)
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["message"] for line in lines if line["message"].startswith("found")] == [
        r'found x.png\n{"level": "ERROR"}\x1b[2J\u2028'
    ]
    (told_line,) = [call.body["message"] for call in backend.calls if call.what == "logs"]
    assert "\n" not in told_line
    assert "\x1b" not in done.outcome["message"]
    assert "\x1b" not in backend.jobs[123].error_message

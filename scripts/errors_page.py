"""docs/errors.md: every way a job can fail, who acts, and what to do; from the code where the code knows it."""

from __future__ import annotations

from collections.abc import Iterator

from trainer_sdk.errors import ERROR_TYPES, EXIT_UNDELIVERED, JobError
from trainer_sdk.failures.evidence import Evidence

NAMED: tuple[tuple[str, str], ...] = (
    ("a value, a key, a model that does not exist, or values that do not go together", "ConfigError"),
    ("annotations or pictures missing or unreadable, nothing to validate on", "DatasetError"),
    ("weights missing, of another model, damaged, or with something in them that would be run", "CheckpointError"),
    ("ENOSPC, EDQUOT, EROFS, EACCES, EFBIG, EMFILE, EIO and their like, here or in the worker", "ResourceError"),
    ("a GPU that is not there, taken, or broken (CUDA's own number says so)", "ResourceError"),
    ("the worker killed by SIGKILL, and the cgroup counted no OOM kill", "ResourceError"),
    ("SIGBUS, or a piece of shared memory that could not be had", "ResourceError"),
    ("SIGKILL, and the cgroup's `oom_kill` went up; MemoryError, ENOMEM, torch.OutOfMemoryError", "OutOfMemory"),
    ("a storage that cannot be reached, that refuses the keys, or sends damaged data every time", "NetworkError"),
    ("SIGSEGV, SIGABRT and any other signal; any exception of mm*", "FrameworkError"),
    ("the loss not finite three times in a row, ten iterations apart", "DivergedError"),
    ("SIGTERM or Ctrl-C, after the checkpoint was saved", "Interrupted"),
)

BEFORE_DATA, BEFORE_TRAINING = "before the data", "before training"
PRECONDITIONS: tuple[tuple[str, str, str], ...] = (
    (
        "disk below WORKSPACE_DIR",
        f"{BEFORE_DATA}, and {BEFORE_TRAINING}",
        "`checkpoint_keep_max` + 1 checkpoints with the optimizer's states, two best ones, the report; less what an "
        "earlier run left",
    ),
    (
        "disk below DATASET_CACHE_DIR",
        "before the first image",
        "what is still to be downloaded; and all of the above, where it is the same disk",
    ),
    (
        "/dev/shm",
        BEFORE_TRAINING,
        "workers x 2 batches x images x input size x 3 bytes (semantic: 11); workers that nobody asked for are as many "
        "as fit",
    ),
    (
        "memory of the chosen GPUs",
        f"{BEFORE_DATA}, and {BEFORE_TRAINING}",
        "weights, gradients, the optimizer's states and 300 MB; not the images",
    ),
    (
        "WORKSPACE_DIR and the caches",
        BEFORE_DATA,
        "a file can be written (in the weights' cache only where weights have to come)",
    ),
    ("storage of checkpoints", BEFORE_DATA, "an object below `checkpoints/<JOB_ID>/` can be written and removed"),
    ("storage of data sets", BEFORE_DATA, "it answers, and does not refuse the keys"),
)

POLICY = """
```yaml
apiVersion: batch/v1
kind: Job
metadata: {name: train-7}
spec:
  backoffLimit: 2
  podFailurePolicy:
    rules:
      - action: Ignore # the node was drained or the pod preempted: does not count
        onPodConditions: [{type: DisruptionTarget}]
      - action: FailJob # wrong for everybody, every time, or a bug
        onExitCodes: {containerName: trainer, operator: In, values: [1, 3]}
      - action: Count # may be better later or elsewhere: goes on from the last checkpoint
        onExitCodes: {containerName: trainer, operator: In, values: [2, 4, 5, 137, 143]}
  template:
    spec:
      restartPolicy: Never # podFailurePolicy needs it
      terminationGracePeriodSeconds: 30
      containers:
        - name: trainer
          image: openmmlab-trainer
          command: [python]
          args: [train.py, --log-level, INFO]
```
"""


def errors_page() -> Iterator[str]:
    """The page, line by line."""
    yield from (
        "# How a job fails, and what to do",
        "",
        "Generated from the code by `make describe`. A job that does not end well says so once, in three places:",
        "",
        "* the exit code of the process, which says who has to act;",
        "* the backend: `[Type] message - hint` and the traceback;",
        "* `outcome.json` in the job folder: `code`, `phase`, `retryable`, `message`, `hint`, `traceback`, and",
        "  the evidence below.",
        "",
        "A message says what, which and what was found, all problems at once; the hint says what to do.",
        "",
        "## The errors",
        "",
        "| error | on the wire | exit | retryable | what it means | who acts | what to do |",
        "|---|---|---|---|---|---|---|",
    )
    for kind in (*ERROR_TYPES.values(), JobError):
        name = "anything else" if kind is JobError else f"`{kind.__name__}`"
        meaning = (kind.__doc__ or "").strip().splitlines()[0]
        retryable = "yes" if kind.retryable else "no"
        yield f"| {name} | `{kind.code}` | {kind.exit_code} | {retryable} | {meaning} | {kind.acts} | {kind.remedy} |"
    yield from (
        "",
        "*Retryable*: the same request may end well later or on another machine, though nobody changes anything. One",
        "error may differ from its kind, as a NetworkError for keys that are refused; `outcome.json` says so.",
        f"Exit 0 is a job that is completed, or that the backend cancelled; exit {EXIT_UNDELIVERED} one that is",
        "completed while the backend could not be told (the same JOB_ID again delivers it);",
        "137 and others above 128 are the system's: nothing of the job was left to speak.",
        "",
        "## What becomes which error",
        "",
        "Judged by the types of exceptions, by errno and CUDA's numbers, by the signal that ended a process and by the",
        "cgroup's counters (v2 and v1); never by words of ours. Words of others are read where they say it in no other",
        "way: `mmtrain/engine/upstream_words.py`, `trainer_sdk/storage/s3_errors.py`.",
        "",
        "| what happened | error |",
        "|---|---|",
    )
    yield from (f"| {what} | `{error}` |" for what, error in NAMED)
    yield from evidence_section()
    yield from preconditions_section()
    yield from ("", "## Kubernetes", "", "Exit codes were chosen so that a policy can be written:", POLICY.rstrip())


def evidence_section() -> Iterator[str]:
    """The fields of the model."""
    yield from (
        "",
        "## The evidence",
        "",
        "`evidence` in `outcome.json`; null or empty is what is not known, or does not apply.",
        "",
        "| field | what |",
        "|---|---|",
    )
    for name, field in Evidence.model_fields.items():
        yield f"| `{name}` | {field.description} |"


def preconditions_section() -> Iterator[str]:
    """What is looked at before the expensive part."""
    yield from (
        "",
        "## What is looked at before the expensive part",
        "",
        "All at once, and told as one error with what is needed and what is there. The numbers are lower bounds: what",
        "they refuse could not have worked.",
        "",
        "| what | when | needed |",
        "|---|---|---|",
    )
    yield from (f"| {what} | {when} | {needed} |" for what, when, needed in PRECONDITIONS)
    yield from (
        "",
        "A storage of checkpoints that cannot be asked whether the job ran before ends it with a retryable",
        "NetworkError: it never begins anew for that reason ([decision 0016](decisions/0016-failures.md)).",
    )

"""From environment variables to one typed specification. Two dialects, one table, every problem at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from trainer_sdk.config.forms import EVALUATE, EXPORT, PREDICT, TRAIN
from trainer_sdk.config.reading import GivenValues, read_config
from trainer_sdk.config.train import TrainConfig
from trainer_sdk.errors import ConfigError, JobError
from trainer_sdk.jobspec import EvaluateSpec, ExportSpec, JobSpec, PredictSpec, TrainSpec
from trainer_sdk.request import variables as values
from trainer_sdk.request.kinds import Kind, read_job_id
from trainer_sdk.request.nodes import ALONE, Nodes, read_nodes, unclear_nodes
from trainer_sdk.settings import settings_problems
from trainer_sdk.tasks import Task

HINT = "docs/environment.md lists every variable and CONFIG key"
TEXTS = (
    "MODEL_NAME", "DATASET_ID", "DATASET_PATH", "DATASET_S3_URI", "SNAPSHOT_ID", *values.CHECKPOINTS, *values.IMAGES,
)  # fmt: skip


class UsablePart(NamedTuple):
    """What of a refused request can still be looked at, so that nobody hears of its problems in two rounds."""

    model_name: str | None
    task: Task | None
    config: TrainConfig | None
    checkpoint_path: str | None


class RefusedTraining(ConfigError):
    """A request for a training that cannot be honoured in this form."""

    def __init__(self, problems: Sequence[str], usable: UsablePart) -> None:
        told = _refusal(problems)
        super().__init__(told.message, hint=told.hint)
        self.problems = tuple(problems)
        self.usable = usable

    def and_also(self, problems: Sequence[str]) -> RefusedTraining:
        """With what else speaks against it."""
        return RefusedTraining((*self.problems, *problems), self.usable)


def read_request(kind: Kind, environ: Mapping[str, str]) -> tuple[JobSpec | JobError, Nodes]:
    """What is asked for, or why it cannot be honoured; and the machines of the job: only the first one is heard."""
    asked: JobSpec | JobError
    try:
        asked = read_spec(kind, environ)
    except JobError as error:
        asked = error
    if kind != "train":
        return asked, ALONE
    try:
        return asked, read_nodes(environ)
    except JobError as error:
        return asked if isinstance(asked, JobError) else error, unclear_nodes(environ)


def read_spec(kind: Kind, environ: Mapping[str, str]) -> JobSpec:
    """The job that the environment asks for.

    Raises:
        ConfigError: with every problem of the request in one message.
    """
    if kind == "train":
        return read_train_spec(environ)
    if kind == "predict":
        return read_predict_spec(environ)
    return read_export_spec(environ) if kind == "export" else read_evaluate_spec(environ)


def read_train_spec(environ: Mapping[str, str]) -> TrainSpec:
    """A train job. Raises: as `read_spec`."""
    problems = _first_problems(environ)
    read = read_config(TRAIN, environ, problems)
    dataset = values.read_dataset(environ, problems)
    checkpoint_path = values.read_checkpoint(environ, problems)
    job_id = read_job_id(environ, "train", problems)
    task = values.read_task(environ, {}, problems)
    model_name = values.read_model_name(environ, {}, problems)
    if model_name is None:
        problems.append(f"MODEL_NAME is missing ({values.MODELS}; `auto` asks the data)")
    if problems or read.config is None or dataset is None or model_name is None:
        raise RefusedTraining(problems, UsablePart(model_name, task, read.config, checkpoint_path))
    return TrainSpec(
        job_id=job_id,
        task=task,
        model_name=model_name,
        dataset=dataset,
        config=read.config,
        checkpoint_path=checkpoint_path,
        notes=tuple(read.notes),
    )


def read_predict_spec(environ: Mapping[str, str]) -> PredictSpec:
    """A predict job. Raises: as `read_spec`."""
    problems = _first_problems(environ)
    read = read_config(PREDICT, environ, problems)
    images = values.read_images(environ, read.lifted, problems)
    common = _read_common(environ, "predict", read.lifted, problems)
    if problems or read.config is None:
        raise _refusal(problems)
    return PredictSpec(**common.fields, notes=tuple(read.notes), images=images, config=read.config)


def read_export_spec(environ: Mapping[str, str]) -> ExportSpec:
    """An export job. Raises: as `read_spec`."""
    problems = _first_problems(environ)
    read = read_config(EXPORT, environ, problems)
    form = values.read_format(environ, problems)
    dataset = values.read_dataset(environ, problems) if values.names_a_dataset(environ) else None
    common = _read_common(environ, "export", read.lifted, problems)
    if problems or read.config is None or form is None:
        raise _refusal(problems)
    return ExportSpec(**common.fields, notes=tuple(read.notes), format=form, dataset=dataset, config=read.config)


def read_evaluate_spec(environ: Mapping[str, str]) -> EvaluateSpec:
    """An evaluate job. Raises: as `read_spec`."""
    problems = _first_problems(environ)
    read = read_config(EVALUATE, environ, problems)
    dataset = values.read_dataset(environ, problems)
    common = _read_common(environ, "evaluate", read.lifted, problems)
    if problems or read.config is None or dataset is None:
        raise _refusal(problems)
    return EvaluateSpec(**common.fields, notes=tuple(read.notes), dataset=dataset, config=read.config)


@dataclass(frozen=True)
class _Common:
    """What the jobs that have a model already share."""

    job_id: str
    training_job_id: str | None
    task: Task | None
    model_name: str | None
    checkpoint_path: str | None

    @property
    def fields(self) -> dict[str, Any]:
        return dict(vars(self))


def _read_common(environ: Mapping[str, str], kind: Kind, lifted: GivenValues, problems: list[str]) -> _Common:
    common = _Common(
        job_id=read_job_id(environ, kind, problems),
        training_job_id=values.read_training_job_id(environ, problems),
        task=values.read_task(environ, lifted, problems),
        model_name=values.read_model_name(environ, lifted, problems),
        checkpoint_path=values.read_checkpoint(environ, problems),
    )
    if not values.names_a_checkpoint(environ):
        problems.append("no checkpoint: set CHECKPOINT_PATH (a file, s3://bucket/key or https://...)")
    elif common.checkpoint_path is None and common.model_name is None:
        problems.append(f"the checkpoint {values.PRETRAINED!r} needs a MODEL_NAME ({values.MODELS})")
    return common


def _first_problems(environ: Mapping[str, str]) -> list[str]:
    return settings_problems(environ) + [
        f"{name}={environ[name]!r} is not UTF-8" for name in TEXTS if not values.is_utf8(environ.get(name, ""))
    ]


def _refusal(problems: Sequence[str]) -> ConfigError:
    error = ConfigError.of_problems("the request cannot be honoured", problems, hint=HINT)
    assert isinstance(error, ConfigError)
    return error

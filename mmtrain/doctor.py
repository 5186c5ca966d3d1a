"""The preflight without a job: ``python -m mmtrain.doctor DATASET [--task T] [--json] [--html OUT] [--all]``.

DATASET is a DICE folder, or an annotation file alone, of which only the JSON can be checked. Exit code: 0 fit for
training, 3 not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from converters import Conversion, DiceDataset, annotation_file_names, convert, read_dice
from converters.dice_to_coco import SHAPE_OF_TASK
from mmtrain.datasets.fetch import FetchedDataset, fetch
from mmtrain.datasets.inspect import (
    MOST_OPENED,
    Findings,
    at_input_size,
    findings_of,
)
from mmtrain.datasets.preflight import preflight
from mmtrain.display import Display
from trainer_sdk.errors import TOOL_ERRORS, DatasetError, as_job_error
from trainer_sdk.jobspec import DatasetRef
from trainer_sdk.settings import Settings
from trainer_sdk.tasks import TASK_ALIASES, Task

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES_SHOWN = 3
CLASSES_SHOWN = 20
PLAIN_WIDTH = 120
"""Characters, where there is no terminal to ask."""
COLOURS = {"blocks": "bold red", "repaired": "yellow", "warns": "yellow", "info": "blue"}
"""By severity, worst first."""


@dataclass(frozen=True)
class Checkup:
    """What the preflight of a training job would find."""

    task: Task
    findings: Findings
    conversion: Conversion
    fetched: FetchedDataset | None
    """None when only the annotations were there to look at."""


def check(
    dataset: Path, task: Task | None, report: Callable[[int, int], None], most: int | None = MOST_OPENED
) -> Checkup:
    """As a training job checks, in the same order.

    Raises:
        JobError: there is nothing to check, or nothing that can be read.
    """
    if not dataset.is_dir():
        return _check_annotations(dataset, task)
    task = task or _task_of_folder(dataset)
    fetched = fetch(
        DatasetRef(id=dataset.name or "dataset", path=str(dataset), version_hash=None),
        task,
        Settings.from_env({}),
        report,
    )
    conversion, findings = preflight(fetched, task, report, most=most)
    if findings.recommendation and findings.recommendation.imgsz:
        findings = at_input_size(findings, conversion, findings.recommendation.imgsz)
    return Checkup(task, findings, conversion, fetched)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    quiet = options.json or not sys.stdout.isatty()
    most = None if options.all else MOST_OPENED
    try:
        with nullcontext(lambda done, total: None) if quiet else Display("checking", unit="images") as report:
            checkup = check(options.dataset, options.task and TASK_ALIASES[options.task], report, most)
    except TOOL_ERRORS as error:
        named = as_job_error(error)
        print(orjson.dumps({"error": named.wire_text, "blocked": True}).decode() if options.json else named.wire_text)
        return named.exit_code
    if options.html:
        _write_page(checkup, options.dataset, options.html)
    print(_as_json(checkup) if options.json else "", end="")
    if not options.json:
        _tell(checkup, options.dataset)
    return DatasetError.exit_code if checkup.findings.blocking else 0


def _check_annotations(file: Path, task: Task | None) -> Checkup:
    if not file.is_file():
        raise DatasetError(f"there is no {file}", hint="give a DICE folder or an annotation file")
    dice = read_dice(file.read_bytes())
    task = task or _task_of_file(dice, file.name)
    conversion = convert(dice, task)
    findings = findings_of(conversion, dice)
    if findings.recommendation and findings.recommendation.imgsz and not findings.blocking:
        findings = at_input_size(findings, conversion, findings.recommendation.imgsz)
    return Checkup(task, findings, conversion, None)


def _task_of_folder(folder: Path) -> Task:
    """That of the first annotation file there is; without one, `fetch` has the words for it."""
    for task in Task:
        for name in annotation_file_names(task.value):
            if (folder / name).is_file():
                return _task_of_file(read_dice((folder / name).read_bytes()), name)
    return Task.DETECTION


def _task_of_file(dice: DiceDataset, name: str) -> Task:
    """What the file says it is, else what its name says."""
    if dice.task_type in TASK_ALIASES:
        return TASK_ALIASES[dice.task_type]
    return next((task for task in Task if name in annotation_file_names(task.value)), Task.DETECTION)


def _write_page(checkup: Checkup, dataset: Path, path: Path) -> None:
    from mmtrain.reports.data_page import DataPage, write_data_page  # matplotlib: a second

    fetched = checkup.fetched
    page = DataPage(
        title=dataset.resolve().name,
        task=checkup.task,
        root=fetched.root if fetched else None,
        paths=fetched.image_paths if fetched else {},
    )
    write_data_page(page, checkup.findings, checkup.conversion, path)


def _as_json(checkup: Checkup) -> str:
    document: dict[str, Any] = {"task": checkup.task.value, "blocked": bool(checkup.findings.blocking)}
    document |= {"pictures_opened": checkup.fetched is not None} | checkup.findings.model_dump(mode="json")
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def _tell(checkup: Checkup, dataset: Path) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(Text(f"{dataset}: {checkup.task.value}", style="bold"))
    console.print(_grid(_facts(checkup)))
    if checkup.fetched is None:
        console.print("the pictures were not looked at: give the data set's folder for that")
    console.print(_table(checkup.findings) if checkup.findings.findings else "\nnothing found that needs a word\n")
    codes = ", ".join(finding.code for finding in checkup.findings.blocking)
    verdict = Text(f"NOT fit for training: {codes}", "bold red") if codes else Text("fit for training", "bold green")
    console.print(verdict)


def _table(findings: Findings) -> Table:
    """Worst first."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("", "code", "count", "finding", box=box.SIMPLE, show_header=False)
    for finding in sorted(findings.findings, key=lambda finding: list(COLOURS).index(finding.severity)):
        examples = [Text(f"  {example}", "dim") for example in finding.examples[:EXAMPLES_SHOWN]]
        what = Text("\n").join([Text(finding.title), *examples, Text(f"-> {finding.hint}", "italic")])
        table.add_row(Text(finding.severity, COLOURS[finding.severity]), finding.code, f"{finding.count:,}", what)
    return table


def _grid(rows: list[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for label, text in rows:
        grid.add_row(Text(label, "dim"), Text(text))
    return grid


def _facts(checkup: Checkup) -> list[tuple[str, str]]:
    """What there is, and what can be trained on it."""
    findings, profile = checkup.findings, checkup.findings.profile
    classes = ", ".join(findings.classes[:CLASSES_SHOWN]) + ", ..." * (len(findings.classes) > CLASSES_SHOWN)
    rows = [
        ("images", f"{sum(profile.images.values()):,}; {findings.split_reason}"),
        ("objects", _counts(profile.objects)),
        ("classes", f"{profile.num_classes}: {classes}"),
    ]
    if profile.object_px and profile.image_long_side_px:
        sizes, images = profile.object_px, profile.image_long_side_px
        rows.append(("sizes", f"most objects {sizes.p10:.0f} to {sizes.p90:.0f} px, images {images.p50:.0f} px long"))
    for answer in sorted(findings.trainable, key=lambda answer: not answer.possible):
        models = f" ({', '.join(answer.models) or 'no model yet'})" if answer.possible else ""
        rows.append(("can train" if answer.possible else "cannot", f"{answer.task.value}: {answer.reason}{models}"))
    if best := findings.recommendation:
        rows.append(("advice", f"{best.task.value} with {best.model or 'no model yet'}: {best.model_reason}"))
        if best.imgsz:
            rows.append(("", f"input size {'x'.join(map(str, best.imgsz))}: {best.imgsz_reason}"))
    return rows


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in numbers.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mmtrain.doctor", description="Checks a data set before training.")
    parser.add_argument("dataset", type=Path, help="DICE folder, or an annotation file (pictures are not looked at)")
    tasks = sorted(name for name, task in TASK_ALIASES.items() if task in SHAPE_OF_TASK)
    parser.add_argument("--task", choices=tasks, help="default: what the annotation file says")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--html", type=Path, metavar="OUT", help="also write the data page")
    parser.add_argument("--all", action="store_true", help=f"open every picture, not {MOST_OPENED:,} of them")
    return parser


if __name__ == "__main__":
    sys.exit(main())

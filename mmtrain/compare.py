"""Jobs side by side: ``python -m mmtrain.compare JOB JOB ... [--html FILE]``.

JOB is a job's folder, or its id below WORKSPACE_DIR. Jobs that failed or are half done are compared as far as they
came.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmtrain.jobs.summary import JOB_FILES, is_job, summary_of
from mmtrain.reports.comparison import JobSummary, Section, sections, write_comparison
from trainer_sdk.errors import TOOL_ERRORS, ConfigError, tell
from trainer_sdk.settings import Settings

PLAIN_WIDTH, WIDTH_A_JOB = 80, 28
"""Characters, where there is no terminal to ask."""
STATUS_COLOURS = {"completed": "green", "unfinished": "yellow"}


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Prints the table, writes the page, and returns the exit code: 0, or that of the error."""
    options = _parser().parse_args(arguments)
    try:
        folders = job_folders(options.jobs, Settings.from_env(environ).workspace_dir)
        jobs = _told_apart([summary_of(folder) for folder in folders], folders)
        _tell(jobs)
        if options.html:
            write_comparison(jobs, options.html)
            print(options.html)
    except TOOL_ERRORS as error:
        return tell(error)
    return 0


def job_folders(jobs: Sequence[str], workspace: Path) -> list[Path]:
    """Where each job is: the folder of this name, else the one in the workspace.

    Raises:
        ConfigError: some are nowhere; all of them are named.
    """
    found = {job: next(filter(is_job, (Path(job), workspace / job)), None) for job in jobs}
    if lost := [job for job, folder in found.items() if folder is None]:
        hint = f"give job folders (with {', '.join(JOB_FILES)}), or ids below {workspace}"
        raise ConfigError.of_problems("not every job can be found", [f"no job {job}" for job in lost], hint=hint)
    return [folder.resolve() for folder in found.values() if folder is not None]


def _told_apart(jobs: list[JobSummary], folders: list[Path]) -> list[JobSummary]:
    """Jobs of one id from two workspaces are called by their whole paths."""
    names = [job.name for job in jobs]
    return [
        job.model_copy(update={"name": str(folder)}) if names.count(job.name) > 1 else job
        for job, folder in zip(jobs, folders, strict=True)
    ]


def _tell(jobs: list[JobSummary]) -> None:
    width = None if sys.stdout.isatty() else max(PLAIN_WIDTH, WIDTH_A_JOB * (len(jobs) + 1))
    console = Console(highlight=False, width=width)
    for job in jobs:
        for remark in job.remarks:
            console.print(Text(f"{job.name}: {remark}", style="yellow"))
    console.print(_table(jobs))


def _table(jobs: list[JobSummary]) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("", style="dim", ratio=2)
    for job in jobs:
        table.add_column(Text(job.name), overflow="fold", ratio=3)
    for section in sections(jobs):
        _add(table, section)
    return table


def _add(table: Table, section: Section) -> None:
    table.add_row(Text(section.title, "bold not dim"), Text(section.remark, "dim"))
    for row in section.rows:
        cells = [Text(text, _style(row.label, text, i in row.best)) for i, text in enumerate(row.cells)]
        table.add_row(Text(f"  {row.label}"), *cells)
    table.add_section()


def _style(label: str, text: str, best: bool) -> str:
    if label == "status":
        return STATUS_COLOURS.get(text, "red")
    return "bold green" if best else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mmtrain.compare", description="Jobs side by side: metrics, time, memory, size and plan."
    )
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="job folder, or a job's id below WORKSPACE_DIR")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page, with the curves")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

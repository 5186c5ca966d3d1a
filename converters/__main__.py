"""``python -m converters SOURCE OUT_DIR [--task T] [--split 0.7,0.15,0.15] [--seed 42]``: DICE to COCO files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters import (
    Conversion,
    annotation_file_names,
    convert,
    read_dice,
    write_conversion,
)
from converters.dice_to_coco import SHAPE_OF_TASK
from trainer_sdk.errors import DatasetError, JobError


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts, says what was done, and returns the exit code: 0, or that of the error (3 for bad data)."""
    options = _parser().parse_args(arguments)
    try:
        dataset = read_dice(_annotation_file(options.source, options.task).read_bytes())
        conversion = convert(dataset, options.task, config_split=_config_split(options.split, options.seed))
        _print_findings(conversion)
        conversion.raise_if_blocked()
    except JobError as error:
        print(error.wire_text, file=sys.stderr)
        return error.exit_code
    write_conversion(conversion, options.out_dir)
    print(summary(conversion, options.out_dir))
    return 0


def summary(conversion: Conversion, folder: Path) -> str:
    """One line: what came out, and why it is split as it is."""
    annotations = sum(len(split.annotations) for split in conversion.splits.values())
    classes = len(conversion.class_names)
    return f"{folder}: {annotations} annotations of {classes} classes; split {conversion.split_reason}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m converters", description="DICE annotations to COCO files.")
    parser.add_argument("source", type=Path, help="data set folder or annotation file")
    parser.add_argument("out_dir", type=Path, help="folder for train.json, val.json, test.json and id_map.json")
    parser.add_argument("--task", choices=list(SHAPE_OF_TASK), default="object_detection")
    parser.add_argument("--split", type=_ratio, metavar="TRAIN,VAL[,TEST]", help="split anew, by these fractions")
    parser.add_argument("--seed", type=int, help="split anew, by this seed (default: 42)")
    return parser


def _ratio(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _config_split(ratio: list[float] | None, seed: int | None) -> dict[str, Any] | None:
    if ratio is None and seed is None:
        return None
    return {"method": "auto", "ratio": ratio, "seed": seed}


def _annotation_file(source: Path, task: str) -> Path:
    names = annotation_file_names(task) if source.is_dir() else ("",)
    for path in (source / name for name in names):
        if path.is_file():
            return path
    looked_for = f" (looked for {', '.join(names)})" if source.is_dir() else ""
    raise DatasetError(f"No annotation file at {source}{looked_for}", hint="Give a data set folder or a JSON file.")


def _print_findings(conversion: Conversion) -> None:
    for finding in conversion.findings:
        if finding.severity != "blocks":  # those come with the error
            print(f"{finding.severity}: {finding.text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

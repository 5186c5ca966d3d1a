"""``python -m converters SOURCE OUT_DIR``: DICE or COCO to COCO files of train, val, test; ``--to dice`` leads back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.coco_to_dice import coco_folder_to_dice
from converters.conversion import ID_MAP_FILE, Conversion, convert, write_conversion
from converters.dice_to_coco import SHAPE_OF_TASK
from converters.partition import SPLIT_NAMES
from converters.semantic import Masks, look_at_masks
from converters.source import LocalSource, mask_path, read_source
from trainer_sdk.errors import TOOL_ERRORS, ConfigError, tell
from trainer_sdk.tasks import TASK_ALIASES, Task

OUTPUTS = (*(f"{name}.json" for name in SPLIT_NAMES), ID_MAP_FILE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts, says what was done, and returns the exit code: 0, or that of the error (3 for bad data)."""
    options = _parser().parse_args(arguments)
    try:
        if options.to == "dice":
            _refuse_split(options)
            print(coco_folder_to_dice(options.source, options.out_dir, TASK_ALIASES.get(options.task)))
            return 0
        _make_room(options.out_dir, options.source)
        source = read_source(options.source, TASK_ALIASES.get(options.task))
        conversion = convert(
            source.dataset,
            source.task,
            config_split=_config_split(options),
            masks=_masks(source),
        )
        _print_findings(conversion)
        conversion.raise_if_blocked()
        write_conversion(conversion, options.out_dir, lambda name: mask_path(source.root, name) or source.root / name)
    except TOOL_ERRORS as error:
        return tell(error)
    print(summary(conversion, options.out_dir))
    return 0


def summary(conversion: Conversion, folder: Path) -> str:
    """One line: what came out, and why it is split as it is."""
    annotations = sum(len(split.annotations) for split in conversion.splits.values())
    classes = len(conversion.class_names)
    reason = conversion.split_reason.replace("CONFIG.split_config", "the command line")
    return f"{folder}: {annotations} annotations of {classes} classes; split {reason}"


def _make_room(out_dir: Path, source: Path) -> None:
    """Removes what an earlier conversion left in the folder, and refuses one with files of another origin."""
    found = [path for name in OUTPUTS if (path := out_dir / name).exists()]
    ours = (out_dir / ID_MAP_FILE).is_file() and out_dir.resolve() != source.resolve()
    if found and not ours:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"{out_dir} holds {names}, not written by this command", hint="give another OUT_DIR")
    for path in reversed(found):
        path.unlink()


def _refuse_split(options: argparse.Namespace) -> None:
    if _config_split(options) is not None:
        hint = "the splits of the COCO files are kept: convert to COCO with another split first"
        raise ConfigError("--split, --seed, --stratify and --group-by do not go with --to dice", hint=hint)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m converters", description="DICE annotations to COCO files.")
    parser.add_argument("source", type=Path, help="data set folder or annotation file")
    parser.add_argument("out_dir", type=Path, help="folder for train.json, val.json, test.json and id_map.json")
    tasks = [name for name, task in TASK_ALIASES.items() if task in SHAPE_OF_TASK]
    parser.add_argument("--task", choices=tasks, help="default: what the file says, else object_detection")
    parser.add_argument("--to", choices=("coco", "dice"), default="coco", help="dice: the way back, from COCO files")
    anew = parser.add_argument_group("split anew", "any of these sets the data set's own split aside, test included")
    anew.add_argument("--split", type=_ratio, metavar="TRAIN,VAL[,TEST]", help="fractions (default: 0.8,0.2)")
    anew.add_argument("--seed", type=int, help="default: 42")
    anew.add_argument("--stratify", action="store_true", help="every class in the same proportion")
    anew.add_argument("--group-by", metavar="folder|metadata.KEY", help="keep groups together")
    return parser


def _ratio(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _config_split(options: argparse.Namespace) -> dict[str, Any] | None:
    asked = {
        "ratio": options.split,
        "seed": options.seed,
        "stratify": options.stratify or None,
        "group_by": options.group_by,
    }
    return {"method": "auto", **asked} if any(value is not None for value in asked.values()) else None


def _masks(source: LocalSource) -> Masks | None:
    if source.task is not Task.SEMANTIC:
        return None
    names = {image.mask_file for image in source.dataset.images if image.mask_file}
    return look_at_masks({name: mask_path(source.root, name) for name in names})


def _print_findings(conversion: Conversion) -> None:
    for finding in conversion.findings:
        if finding.severity != "blocks":  # those come with the error
            print(f"{finding.severity}: {finding.text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

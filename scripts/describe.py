"""Writes docs/environment.md from the code, so that the two cannot disagree; --check only compares."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from trainer_sdk.environment import VARIABLES  # noqa: E402
from trainer_sdk.errors import ERROR_TYPES, EXIT_UNDELIVERED  # noqa: E402
from trainer_sdk.jobspec import TrainConfig  # noqa: E402
from trainer_sdk.request import NAMES, NOT_YET  # noqa: E402

TARGET = ROOT / "docs" / "environment.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    text = "\n".join(page()) + "\n"
    if not parser.parse_args().check:
        TARGET.write_text(text)
        return 0
    if TARGET.read_text() != text:
        print(f"{TARGET.relative_to(ROOT)} does not match the code: run `make describe`", file=sys.stderr)
        return 1
    return 0


def page() -> Iterator[str]:
    yield "# What a job reads and how it ends"
    yield ""
    yield "Generated from the code by `make describe`. A value given twice must be the same both times."
    for title, variables in VARIABLES:
        yield from ("", f"## {title}", "", "| variable | meaning | default |", "|---|---|---|")
        for variable in variables:
            yield f"| `{variable.name}` | {variable.meaning} | {variable.default} |"
    yield from config_section()
    yield from exit_codes()


def config_section() -> Iterator[str]:
    yield from (
        "",
        "## CONFIG",
        "",
        'A flat object, `{"basic": {...}, "advanced": {...}}`, or the platform\'s generic `advanced_config` tree, of',
        "which only leaves that differ from its defaults count. A key may stand at any level. What is not given is",
        "decided by the recipe, the data and the machine; `plan.json` says by which, and why. Unknown keys are",
        "refused.",
        "",
        "| key | also | values | meaning |",
        "|---|---|---|---|",
    )
    for name, _, keys in NAMES:
        field = TrainConfig.model_fields[name]
        others = ", ".join(f"`{key}`" for key in keys if key != name)
        yield f"| `{name}` | {others} | {values(field.annotation)} | {field.description} |"
    yield ""
    yield f"Known from older trainers and refused by this version: {', '.join(f'`{key}`' for key in sorted(NOT_YET))}."


def values(annotation: object) -> str:
    """A type in words."""
    parts = [part for part in typing.get_args(annotation) if part is not type(None)] or [annotation]
    part = parts[0]
    if typing.get_origin(part) is typing.Annotated:
        part = typing.get_args(part)[0]
    if typing.get_origin(part) is typing.Literal:
        return " ".join(f"`{choice}`" for choice in typing.get_args(part))
    if typing.get_origin(annotation) is typing.Literal:
        return " ".join(f"`{choice}`" for choice in typing.get_args(annotation))
    names = {int: "integer", float: "number", str: "text", bool: "true or false"}
    return names.get(
        typing.cast(type, part), "object" if typing.get_origin(part) is dict else "number or [width, height]"
    )


def exit_codes() -> Iterator[str]:
    yield from ("", "## Exit codes", "", "| exit | error | meaning |", "|---|---|---|", "| 0 | | completed |")
    yield f"| {EXIT_UNDELIVERED} | | completed, but the backend could not be told: run the same JOB_ID again |"
    for kind in ERROR_TYPES.values():
        yield f"| {kind.exit_code} | `{kind.code}` | {(kind.__doc__ or '').strip().splitlines()[0]} |"
    yield "| 1 | `UnknownError` | A bug of ours; the traceback is in outcome.json. |"


if __name__ == "__main__":
    sys.exit(main())

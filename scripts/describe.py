"""Writes docs/environment.md, errors.md, findings.md and what the UI reads from the code; --check only compares.

For the UI: capabilities.json at the top, where the platform looks for that of a trainer on its disk, and schemas/,
a mirror of its bucket config-schemas: ``<framework>.json`` and ``model-capabilities/<framework>.json``.
"""

from __future__ import annotations

import argparse
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from converters.findings import RULES  # noqa: E402
from mmtrain.capabilities import ALL, capabilities, frameworks  # noqa: E402
from mmtrain.config_schema import config_schema  # noqa: E402
from scripts.errors_page import errors_page  # noqa: E402
from trainer_sdk.config.forms import EVALUATE, EXPORT, PREDICT, TRAIN  # noqa: E402
from trainer_sdk.config.frozen import Size  # noqa: E402
from trainer_sdk.config.reading import ConfigForm  # noqa: E402
from trainer_sdk.environment import VARIABLES  # noqa: E402
from trainer_sdk.errors import ERROR_TYPES, EXIT_UNDELIVERED  # noqa: E402

DOCS = ROOT / "docs"
MODEL_JOBS = {"predict.py": PREDICT, "export.py (also EXPORT_CONFIG)": EXPORT, "evaluate.py": EVALUATE}
SCHEMAS = ROOT / "schemas"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    pages = {
        DOCS / "environment.md": environment_page,
        DOCS / "errors.md": errors_page,
        DOCS / "findings.md": findings_page,
    }
    texts = {path: "\n".join(page()) + "\n" for path, page in pages.items()} | documents()
    if not check:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return 0
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    stale += [path for path in SCHEMAS.rglob("*.json") if path not in texts]
    for path in stale:
        print(f"{path.relative_to(ROOT)} does not match the code: run `make describe`", file=sys.stderr)
    return len(stale) > 0


def documents() -> dict[Path, str]:
    """What the platform's UI reads."""
    found = {ROOT / "capabilities.json": capabilities(ALL)}
    for name in frameworks():
        found[SCHEMAS / f"{name}.json"] = config_schema(name)
        found[SCHEMAS / "model-capabilities" / f"{name}.json"] = capabilities(name)
    return {
        path: orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n" for path, document in found.items()
    }


def environment_page() -> Iterator[str]:
    yield "# What a job reads and how it ends"
    yield ""
    yield "Generated from the code by `make describe`. A value given twice must be the same both times."
    for title, variables in VARIABLES:
        yield from ("", f"## {title}", "", "| variable | meaning | default |", "|---|---|---|")
        for variable in variables:
            yield f"| `{variable.name}` | {variable.meaning} | {variable.default} |"
    yield from config_section()
    for title, form in MODEL_JOBS.items():
        yield from ("", f"## CONFIG of {title}", "", *config_table(form))
    yield from exit_codes()


def findings_page() -> Iterator[str]:
    yield from (
        "# What can be found in a data set",
        "",
        "Generated from the code by `make describe`. Codes are stable. `python -m mmtrain.doctor <dataset>` looks for",
        "all of it without training; a job does so before it trains, and writes `findings.json`.",
        "",
        "* **blocks**: no honest training is possible; the job ends with a DatasetError",
        "* **repaired**: the data were changed (clipped, dropped, moved) and training goes on",
        "* **warns**: the data were kept as they are, but somebody should know",
        "* **info**: a fact worth a line in the report",
        "",
        "| code | severity | what | what to do, or what was done |",
        "|---|---|---|---|",
    )
    for code in sorted(RULES):
        rule = RULES[code]
        yield f"| {code} | {rule.severity} | {rule.title} | {rule.hint} |"


def config_section() -> Iterator[str]:
    yield from (
        "",
        "## CONFIG",
        "",
        'A flat object, `{"basic": {...}, "advanced": {...}}`, or the platform\'s generic `advanced_config` tree, of',
        "which only leaves that differ from its defaults count. A key may stand at any level. What is not given is",
        "decided by the recipe, the data and the machine; `plan.json` says by which, and why. Unknown keys are",
        "refused.",
        "Lists and objects may also be text that holds JSON. `crop_size` is MMSegmentation's [height, width].",
        "",
        *config_table(TRAIN),
    )


def config_table(form: ConfigForm[Any]) -> Iterator[str]:
    """Every key of one kind of job, and those it refuses."""
    yield from ("| key | also | values | meaning |", "|---|---|---|---|")
    for name, _, keys in form.names:
        field = form.model.model_fields[name]
        others = ", ".join(f"`{key}`" for key in keys if key != name)
        default = f" (default {field.default})" if shows_default(form, field.default) else ""
        yield f"| `{name}` | {others} | {values(field.annotation)} | {field.description}{default} |"
    if form.lifted:
        pairs = ", ".join(f"`{key}` ({variable})" for key, variable in form.lifted.items())
        yield from ("", f"CONFIG may also say what these variables say: {pairs}.")
    if form.refused:
        yield from ("", "Known from other trainers and refused:", "", "| key | instead |", "|---|---|")
        yield from (f"| `{key}` | {reason} |" for key, reason in form.refused.items())


def shows_default(form: ConfigForm[Any], default: object) -> bool:
    """A training's are the recipe's or said in words."""
    return form is not TRAIN and isinstance(default, bool | int | float)


def values(annotation: object) -> str:
    """A type in words."""
    if typing.get_origin(annotation) is typing.Annotated:
        return values(typing.get_args(annotation)[0])
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " ".join(f"`{choice}`" for choice in inner)
    if origin is tuple:
        return "[width, height]" if annotation == Size else "list"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(values(part) for part in inner if part is not type(None)))
    if origin is dict:
        return "object"
    names = {int: "integer", float: "number", str: "text", bool: "true or false"}
    return names[typing.cast(type, annotation)]


def exit_codes() -> Iterator[str]:
    yield from (
        "",
        "## Exit codes",
        "",
        "What to do about each: [errors.md](errors.md).",
        "",
        "| exit | error | meaning |",
        "|---|---|---|",
        "| 0 | | completed |",
    )
    yield f"| {EXIT_UNDELIVERED} | | completed, but the backend could not be told: run the same JOB_ID again |"
    for kind in ERROR_TYPES.values():
        yield f"| {kind.exit_code} | `{kind.code}` | {(kind.__doc__ or '').strip().splitlines()[0]} |"
    yield "| 1 | `UnknownError` | A bug of ours; the traceback is in outcome.json. |"


if __name__ == "__main__":
    sys.exit(main())

"""The values of an MMEngine configuration out of its text, without running it: a checkpoint may be anybody's."""

from __future__ import annotations

import ast
import math
from typing import Any

CONSTANTS = {"inf": math.inf, "nan": math.nan}


def read_values(text: str) -> dict[str, Any]:
    """Name -> value of every assignment of plain values; whatever else stands there is left out.

    Args:
        text: as MMEngine's `Config.pretty_text` writes it: ``name = dict(type='X', sizes=[1, 2])``.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                try:
                    values[target.id] = _value(statement.value)
                except _NotPlain:
                    continue
    return values


class _NotPlain(ValueError):
    """Would have to be run."""


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in CONSTANTS:
        return CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand)
        if isinstance(inner, int | float):
            return -inner
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(item) for key, item in zip(node.keys, node.values, strict=True) if key is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        found: dict[Any, Any] = {}
        for argument in node.args:
            found |= _value(argument)
        return found | {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg is not None}
    raise _NotPlain(ast.dump(node)[:100])


def with_numbers_of(config: Any, said: Any) -> Any:
    """`config`, with the numbers that `said` has at the same places.

    Names of types, paths and everything else that could make something run stay `config`'s.
    """
    if isinstance(config, dict) and isinstance(said, dict):
        return {key: with_numbers_of(value, said[key]) if key in said else value for key, value in config.items()}
    if isinstance(config, list | tuple) and isinstance(said, list | tuple):
        if len(config) == len(said):
            return type(config)(with_numbers_of(one, other) for one, other in zip(config, said, strict=True))
        return type(config)(said) if all(_is_number(item) for item in (*config, *said)) else config
    return said if _is_number(config) and _is_number(said) else config


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)

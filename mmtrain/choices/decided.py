"""A value, who decided it, and why."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from trainer_sdk.config.train import TrainConfig

Origin = Literal["request", "recipe", "data", "machine"]
Value = TypeVar("Value")


class Decided(BaseModel, Generic[Value]):
    """A value with its origin and reason."""

    model_config = ConfigDict(frozen=True)

    value: Value
    origin: Origin
    reason: str = ""


def asked_or(asked: Value | None, default: Value, reason: str) -> Decided[Value]:
    """What was asked for, else the recipe's."""
    if asked is not None:
        return Decided(value=asked, origin="request", reason="asked for")
    return Decided(value=default, origin="recipe", reason=reason)


def stated(config: TrainConfig, name: str, reason: str) -> Decided[Any]:
    """A value whose default stands in the request's own model."""
    if name in config.model_fields_set:
        return Decided(value=getattr(config, name), origin="request", reason="asked for")
    return Decided(value=getattr(config, name), origin="recipe", reason=reason)

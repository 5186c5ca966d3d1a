"""What every part of a request is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationInfo, field_validator

from trainer_sdk.config.values import SWITCH, refuse_switch, takes_switches

Side = Annotated[int, Field(ge=32, le=8192)]
Size = tuple[Side, Side]
Probability = Annotated[float, Field(ge=0, le=1)]


def _without_signature(address: str | None) -> str | None:
    return address.partition("?")[0] if address and address.startswith(("http://", "https://")) else address


Address = Annotated[str | None, PlainSerializer(_without_signature)]
"""A path or a URL; written down without its query, which may be a signature."""


class Frozen(BaseModel):
    """Immutable; unknown names and numbers that are none are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Asked(Frozen):
    """A CONFIG in our names. Every field has a description, which docs/environment.md and refusals quote."""

    @field_validator("*", mode="before")
    @classmethod
    def _a_switch_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes true for 1."""
        field = cls.model_fields[str(info.field_name)]
        if SWITCH not in field.metadata and not takes_switches(field.annotation):
            refuse_switch(value)
        return value

"""What all shapes of the HTTP API share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Ns", "Problem", "Ref", "Shape"]

Ref = Annotated[str, Field(description="A frame of the evidence, SEGMENT.INDEX", examples=["12.345"])]
Ns = Annotated[int, Field(description="Nanoseconds since 1970-01-01 UTC")]


class Shape(BaseModel):
    """Closed on purpose: what is not described is not sent."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """An error, as a problem document (RFC 9457)."""

    type: str = Field("about:blank", description="What kind of problem it is")
    title: str = Field(description="The kind of problem in words")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What is wrong here and what to do about it")
    instance: str = Field("", description="The path that was asked for")
    errors: list[dict[str, Any]] = Field([], description="Parameters that are wrong, one by one")

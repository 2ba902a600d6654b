"""Types of settings that are a duration: how people write them, and how long they may be."""

from contextlib import suppress
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field


def _plain_seconds(value: object) -> object:
    """Read `2.5` as seconds, also when it comes from the environment as text; Pydantic itself reads ISO 8601."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


type Duration = Annotated[
    timedelta, BeforeValidator(_plain_seconds), Field(ge=timedelta(0), le=timedelta(days=3650))
]  # ten years, so that now plus the duration is a date
"""A setting in seconds or in ISO 8601: `2.5`, `PT2.5S`, `P14D`."""


type Wait = Annotated[Duration, Field(le=timedelta(days=24))]
"""A time to wait; Postgres counts it in milliseconds, with 31 bits."""

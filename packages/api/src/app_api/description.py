"""The parts of the API's description (OpenAPI) that depend on the settings."""

from typing import Any, Final

from fastapi import FastAPI

NEW_PASSWORD: Final = "x-new-password"  # noqa: S105  # a mark in a schema
"""Marks a new password in the schema of a body; `describe_passwords` replaces it with `minLength`."""


def describe_passwords(app: FastAPI, *, min_length: int) -> None:
    """Let the description say how long a new password has to be; the service itself refuses shorter ones."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        description = describe()
        for schema in description["components"]["schemas"].values():
            for field in schema.get("properties", {}).values():
                if field.pop(NEW_PASSWORD, False):
                    field["minLength"] = min_length
        return description

    app.openapi = openapi  # type: ignore[method-assign]  # how FastAPI wants it extended

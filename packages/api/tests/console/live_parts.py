"""What the parts of pages that are kept live are sent."""

from collections.abc import Mapping
from html import unescape
from uuid import UUID

from fastapi import FastAPI

from app_api.console.fragments import Watched
from app_api.console.rendering import Console
from app_db import Database


def marks_of(page: str) -> list[str]:
    """Return what a page watches."""
    return [unescape(mark.split('"')[0]) for mark in page.split('data-live="')[1:]]


async def texts_of(
    app: FastAPI, database: Database, *marks: str, viewer_id: UUID | None = None, probe: object = None
) -> Mapping[str, str]:
    """Return what would be sent of these parts, by mark: to an operator, or to the account that looks at its own."""
    console: Console = app.state.console
    parts = [mark.split(":", 1) for mark in marks]
    watched = [Watched(name, about, viewer_id) for name, about in parts]
    texts = {}
    async with database.unit_of_work(read_only=True) as session:
        session.info["process"] = app.state.console_hub.process | {"database": database, "probe": probe}
        for name in {one.name for one in watched}:
            fragment = console.fragments[name]
            assert fragment.for_operators == (viewer_id is None)
            for one, context in (await fragment.read(session, [each for each in watched if each.name == name])).items():
                texts[one.mark] = console.templates.get_template(fragment.template).render(context)
    return texts

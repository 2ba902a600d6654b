"""Sends the file of an export, piece by piece."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from fastapi.responses import StreamingResponse

from app_db import Database
from app_db.features.export.repository import ExportRepository


def file_of(
    database: Database, job_id: UUID, *, user_id: UUID, sizes: Sequence[int], name: str, media_type: str
) -> StreamingResponse:
    """Return the file under this name; `sizes` are those of its pieces."""
    headers = {"Content-Length": str(sum(sizes)), "Content-Disposition": f'attachment; filename="{name}"'}
    parts = parts_of(database, job_id, user_id=user_id, count=len(sizes))
    return StreamingResponse(parts, media_type=media_type, headers=headers)


async def parts_of(database: Database, job_id: UUID, *, user_id: UUID, count: int) -> AsyncIterator[bytes]:
    """Yield the pieces. Each is read by itself, so that a slow client keeps no connection to the database."""
    for number in range(count):
        async with database.unit_of_work(read_only=True) as session:
            part = await ExportRepository(session).part_of(job_id, number, user_id=user_id)
        if part is None:
            return  # shorter than its Content-Length, so that no client takes it for complete
        yield part

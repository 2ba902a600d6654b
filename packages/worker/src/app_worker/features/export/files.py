"""The file of an export: full pieces are rows of a table, so that its size is not limited by memory."""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app_db.features.export.repository import ExportRepository
from app_worker.context import JobContext

PIECE: Final = 256 * 1024
"""Bytes of one piece of the file."""


@dataclass
class ExportFile:
    """An export in progress: full pieces are rows of the table, the rest is in memory."""

    job: JobContext
    user_id: UUID
    number: int = 0
    rest: list[str] = field(default_factory=list)

    async def write(self, text: str, *, at_least: int = PIECE) -> None:
        """Add a text to the file; store a piece when enough has been collected."""
        self.rest.append(text)
        content = "".join(self.rest).encode()
        if len(content) >= at_least:
            async with self.job.transaction() as session:
                await ExportRepository(session).add(self.job.id, self.number, user_id=self.user_id, content=content)
            self.number, self.rest = self.number + 1, []

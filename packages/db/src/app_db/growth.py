"""What makes a table grow, and what bounds it: `make reference` writes docs/reference/tables.md from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Growth:
    """One for each model, as `__growth__`.

    Example:
        class Bookmark(Base):
            __tablename__ = "bookmarks"
            __growth__ = Growth("a bookmark", until="its account is deleted", row_bytes=300)
    """

    row: str
    """What a row is there for."""
    until: str
    """When it goes, with the setting that says so."""
    row_bytes: int | None = None
    """Bytes on disk with its indexes, each column filled, as a test measures; None if nobody has."""

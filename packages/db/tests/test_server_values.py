"""Values that Postgres makes are in the object once the row was written: no attribute has to be loaded afterwards.

SQLAlchemy expires such values after an UPDATE unless the mapper has `eager_defaults` ("Preventing Implicit IO when
Using AsyncSession", 2.1); reading one then is a MissingGreenlet, and was a 500.
"""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest_asyncio
from sqlalchemy import Computed, FetchedValue, MetaData, func, update
from sqlalchemy.orm import Mapped, mapped_column

from app_db import Database, Session
from app_db.base import Base, Timestamps
from app_db.testing.plugin import MakeUser
from app_db.types import new_id


class Scratch(Base):
    """Tables that no migration makes."""

    __abstract__ = True
    metadata = MetaData()


class Note(Timestamps, Scratch):
    """A row with columns that the server fills, and with its own mapper arguments."""

    __tablename__ = "notes"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    text: Mapped[str]
    copies: Mapped[int] = mapped_column(server_default="0")
    shouted: Mapped[str] = mapped_column(Computed("upper(text)", persisted=True))
    whispered: Mapped[str] = mapped_column(Computed("lower(text)", persisted=False))
    length: Mapped[int | None] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())
    revision: Mapped[int] = mapped_column(default=1)

    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012  as SQLAlchemy declares it


TRIGGER = (
    """
    CREATE FUNCTION count_letters() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.length := length(NEW.text); RETURN NEW; END $$
    """,
    "CREATE TRIGGER letters BEFORE INSERT OR UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION count_letters()",
)


@pytest_asyncio.fixture(loop_scope="session")
async def note(database: Database) -> AsyncIterator[Note]:
    """A committed row of a table that is dropped after the test."""
    async with database.engine.begin() as connection:
        await connection.run_sync(Scratch.metadata.create_all)
        for statement in TRIGGER:
            await connection.exec_driver_sql(statement)
    try:
        async with database.sessions.begin() as session:
            session.add(note := Note(text="Rex"))
        yield note
    finally:
        async with database.engine.begin() as connection:
            await connection.run_sync(Scratch.metadata.drop_all)
            await connection.exec_driver_sql("DROP FUNCTION count_letters")


def test_every_model_returns_what_the_server_makes() -> None:
    assert [mapper.class_.__name__ for mapper in Base.registry.mappers if mapper.eager_defaults is not True] == []


async def test_what_the_server_makes_in_an_insert_is_there(note: Note) -> None:
    assert note.created_at == note.updated_at
    assert (note.copies, note.shouted, note.whispered, note.length) == (0, "REX", "rex", 3)


async def test_what_the_server_makes_in_an_update_is_there(note: Note, session: Session) -> None:
    changed = await session.get_one(Note, note.id)

    changed.text = "Kitty"
    changed.copies = Note.copies + 1
    await session.flush()

    assert changed.updated_at > note.updated_at
    assert (changed.copies, changed.shouted, changed.whispered, changed.length) == (1, "KITTY", "kitty", 5)


async def test_what_the_server_makes_in_an_update_is_there_after_the_commit(note: Note, database: Database) -> None:
    async with database.sessions.begin() as session:
        changed = await session.merge(Note(id=note.id, text="Nemo", revision=1))

    assert changed.updated_at > note.updated_at
    assert (changed.shouted, changed.length) == ("NEMO", 4)


async def test_a_statement_that_returns_the_entity_renews_one_that_was_loaded(note: Note, session: Session) -> None:
    loaded = await session.get_one(Note, note.id)

    statement = update(Note).where(Note.id == note.id).values(text="Polly", copies=func.greatest(Note.copies, 7))
    returned = (await session.scalars(statement.returning(Note))).one()

    assert returned is loaded
    assert loaded.updated_at > note.updated_at
    assert (loaded.copies, loaded.shouted, loaded.length) == (7, "POLLY", 5)


async def test_the_time_of_a_change_to_an_account_is_there(session: Session, make_user: MakeUser) -> None:
    ada = await make_user()
    changed = await session.merge(ada)

    changed.email = "Ada@example.test"
    await session.flush()

    assert changed.updated_at > ada.created_at

"""Deletes what belongs to an account, in whichever tables of features it is."""

from uuid import UUID

from sqlalchemy import delete, func, literal, select, union_all, update

from app_db.account_parts import PART, AccountPart
from app_db.base import Base
from app_db.models import User
from app_db.session import Session


async def delete_parts(session: Session, user_id: UUID, *parts: AccountPart, keep: UUID | None = None) -> int:
    """Delete the rows of a user from all tables that are marked as one of these parts, but `keep`; return how many.

    One statement, however many features there are.
    """
    gone = [
        delete(table).where(table.c.user_id == user_id, *([] if keep is None else [table.c.id != keep]))
        .returning(table.c.id).cte(f"of_{table.name}")
        for table in Base.metadata.sorted_tables if table.info.get(PART) in parts
    ]  # fmt: skip
    none = select(literal(0).label("rows"))
    counts = union_all(none, *(select(func.count()).select_from(rows) for rows in gone)).subquery()
    count = (await session.scalars(select(func.sum(counts.c.rows)))).one()
    if AccountPart.SECOND_FACTOR in parts:
        without = update(User).where(User.id == user_id).values(second_factors=[])
        await session.execute(without)  # guard: test_who_proves_an_address_is_asked_for_no_second_factor_of_another
    return int(count)

"""Lists that are read from an index, newest first: a range of it, and conditions that are tried on each row of it."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, bindparam, column, func, literal, true, tuple_
from sqlalchemy.orm import InstrumentedAttribute, aliased
from sqlalchemy.sql import Select, select
from sqlalchemy.sql.base import ExecutableOption

from app_db.base import Base
from app_db.paging import Cursor, Slice
from app_db.repositories.limits import unseen
from app_db.session import Session

MOST_LOOKED_AT: Final = 5_000
"""If conditions are tried on each row, so many rows are looked at; then the page ends, and its cursor goes on."""

type Conditions = Callable[[Any], list[ColumnElement[bool]]]  # Any: a model, or its alias
type Order = Sequence[InstrumentedAttribute[Any]]  # Any: a time, an id


async def walk[T: Base](
    session: Session,
    model: type[T],
    *,
    order: Order,
    within: Sequence[ColumnElement[bool]],
    sift: Conditions | None = None,
    after: Cursor | None,
    limit: int,
    options: Sequence[ExecutableOption] = (),
) -> Slice[T]:
    """Return up to `limit` rows of a range, the last in `order` first, that come after the cursor, by one query.

    An index has to have `within` and `order`: the id, a time and the id, or a column that `pinned_to` has pinned and
    the id; then `within` has the cursor. `sift` gives what else has to be true, `options` are those of the rows.
    """
    newest = select(model).where(*within, *_beyond(order, after)).order_by(*(column.desc() for column in order))
    if sift is None:
        return _page((await session.scalars(newest.limit(unseen(limit + 1)).options(*options))).all(), order, limit)
    found = await session.execute(_sifted(newest, model, order, sift=sift, limit=limit).options(*options))
    rows = found.all()
    page = _page([row for row, *_ in rows if row is not None], order, limit)
    _, *end = rows[0]
    return page if end[-1] is None else Slice(page.items, _cursor(end), partial=True)


def _sifted(
    newest: Select[Any], model: type[Base], order: Order, *, sift: Conditions, limit: int
) -> Select[Any]:  # Any: columns
    """Select the rows of a page, at least one of nothing, each with where the walk has ended if the page is short."""
    row = aliased(model, newest.limit(unseen(MOST_LOOKED_AT)).subquery())
    of_row = [getattr(row, column.key) for column in order]
    found = select(of_row[-1]).where(*sift(row)).order_by(*(column.desc() for column in of_row)).limit(limit + 1).cte()
    page = select(func.count().label("size")).select_from(found).subquery("page")
    # Looked for only if the page is short: the condition is no row's, so Postgres tries it before it reads any.
    keys = newest.with_only_columns(*order).where(page.c.size <= limit).correlate(page)
    end = keys.offset(unseen(MOST_LOOKED_AT - 1)).limit(1).lateral("walked")
    # An array, so that the rows are found by their ids whatever the planner expects.
    is_found = order[-1] == func.any(func.array(select(found.c.id).scalar_subquery()))
    rows = select(model, *end.c).select_from(page).outerjoin(end, true()).outerjoin(model, is_found)
    return rows.order_by(*(column.desc() for column in order))


def pinned_to(
    order: Order, value: object, *, since: UUID | None, before: UUID | None, after: Cursor | None
) -> list[ColumnElement[bool]]:
    """Return the range of an index of `order`, a column and the id, whose first column has this value.

    Written as a range of pairs, because of `=` the planner knows that the column decides no order: it would read the
    index of ids and look for rows that have the value, however far away they are. And the value is a query, which the
    planner does not look into: of the least or greatest value of the column it would expect hardly any row, and sort
    all that there are, a third of the audit.

    Args:
        order: the column and the id.
        value: of the column.
        since: the least id.
        before: the id that all are less than.
        after: where the page before has ended.
    """
    least, most = since or UUID(int=0), before or UUID(int=2**128 - 1)
    most = min(most, after.last_id) if after else most
    hidden = select(literal(value, order[0].type)).scalar_subquery()
    # Not null, so that the planner may use an index of the rows that have a value.
    return [order[0].is_not(None), tuple_(*order) >= tuple_(hidden, least), tuple_(*order) < tuple_(hidden, most)]


def newest_of_each(
    key: InstrumentedAttribute[Any], ids: Collection[UUID], *columns: InstrumentedAttribute[Any], limit: int
) -> Select[Any]:  # Any: columns
    """Select up to `limit` rows for each of these ids, the newest first. An index has to have `key` and the id.

    Among the columns is the id of the row.
    """
    asked = func.unnest(bindparam("asked", [*ids], type_=ARRAY(Uuid))).table_valued(column("id", Uuid))
    each = asked.render_derived(name="asked")
    newest = select(*columns).where(key == each.c.id).order_by(key.class_.id.desc()).limit(limit).lateral("newest")
    return select(newest).select_from(each).join(newest, true()).order_by(newest.c.id.desc())


def _beyond(order: Order, after: Cursor | None) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    if after.at is None:
        return [order[-1] < after.last_id]
    return [tuple_(*order) < tuple_(after.at, after.last_id)] if len(order) > 1 else [order[-1] < after.last_id]


def _page[T](rows: Sequence[T], order: Order, limit: int) -> Slice[T]:
    page = rows[:limit]
    return Slice(page, _cursor([getattr(page[-1], column.key) for column in order]) if len(rows) > limit else None)


def _cursor(keys: Sequence[Any]) -> Cursor:  # Any: times and ids
    return Cursor(keys[-1], keys[0] if isinstance(keys[0], datetime) else None)

"""The statement that begins a login session: each statement is a round trip, and the database may be far away."""

from sqlalchemy import CTE, BigInteger, Table, bindparam, delete, func, insert, select

from app_db.base import Base
from app_db.models import AuditEvent, UserSession
from app_db.session import Session
from app_db.types import new_id

_SESSION_TABLE, _EVENT_TABLE = (Base.metadata.tables[model.__tablename__] for model in (UserSession, AuditEvent))
_SESSIONS = _SESSION_TABLE.c
_OF_SESSION = {column.key: f"session_{column.key}" for column in _SESSIONS}
_OF_EVENT = {column.key: f"event_{column.key}" for column in _EVENT_TABLE.c if column.key != "happened_at"}
"""The names of the parameters by column."""


def _inserted(table: Table, names: dict[str, str]) -> CTE:
    return insert(table).values({column: bindparam(name) for column, name in names.items()}).cte(f"of_{table.name}")


# PostgreSQL 18, 7.8.4: each part of a WITH sees the tables as the statement found them, so the new session stays.
_SURPLUS = (
    select(_SESSIONS.id)
    .where(_SESSIONS.user_id == bindparam("session_user_id"))
    .order_by((_SESSIONS.idle_expires_at > bindparam("session_created_at")).desc(), _SESSIONS.id.desc())
    .offset(bindparam("kept", type_=BigInteger))
)
_ENDED = delete(_SESSION_TABLE).where(_SESSIONS.id.in_(_SURPLUS)).returning(_SESSIONS.id).cte("ended")
_BEGIN = (
    select(func.count())
    .select_from(_ENDED)
    .add_cte(_inserted(_SESSION_TABLE, _OF_SESSION))
    .add_cte(_inserted(_EVENT_TABLE, _OF_EVENT))  # guard: test_a_sign_in_is_audited
)


async def begin_session(session: Session, begun: UserSession, event: AuditEvent, *, cap: int) -> int:
    """Insert a session of a locked user, and its event; end the user's oldest beyond `cap`, and return how many.

    Expired sessions are ended first.
    """
    event.id = new_id()
    values = {name: getattr(begun, column) for column, name in _OF_SESSION.items()}
    values |= {name: getattr(event, column) for column, name in _OF_EVENT.items()}
    return (await session.execute(_BEGIN, {**values, "kept": cap - 1})).scalar_one()

"""Limits in the ledger: workers declare those of their code, and operators set others. Nothing here commits."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from app_db.errors import NotFound
from app_db.jobs.admission import EFFECTIVE
from app_db.jobs.after_commit import notify_after_commit
from app_db.jobs.limits import Limit, parse_rate, require_running, show_rate
from app_db.jobs.payload import JobPayload
from app_db.session import Session

# A kind that has lost its limit in the code keeps its row, so that the jobs that wait for it are admitted.
_DECLARE = text("""
    WITH declared AS (
        SELECT * FROM unnest(
            CAST(:kinds AS text[]), CAST(:pers AS text[]), CAST(:runnings AS integer[]), CAST(:rates AS integer[]),
            CAST(:periods AS interval[]), CAST(:limited AS boolean[])
        ) AS declared (name, per, running, rate, period, is_limited)
    )
    INSERT INTO job_limits AS known (name, per, running, rate, period)
    SELECT name, per, running, rate, period FROM declared
    WHERE is_limited OR name IN (SELECT name FROM job_limits) ORDER BY name
    ON CONFLICT (name) DO UPDATE SET per = excluded.per, running = excluded.running, rate = excluded.rate,
        period = excluded.period
    WHERE (known.per, known.running, known.rate, known.period)
        IS DISTINCT FROM (excluded.per, excluded.running, excluded.rate, excluded.period)
    RETURNING name
""")
_SET = text("""
    UPDATE job_limits SET set_at = now(), set_by = :by, set_running = :running, set_rate = :rate, set_period = :period
    WHERE name = :name RETURNING name
""")
_RESET = text("""
    UPDATE job_limits SET set_at = NULL, set_by = NULL, set_running = NULL, set_rate = NULL, set_period = NULL
    WHERE name = :name RETURNING name
""")
_LOOK_AGAIN = text("UPDATE job_limit_keys SET admit_at = least(admit_at, now()) WHERE name = ANY (:names)")
_LIST = text(f"""
    SELECT name, per, {EFFECTIVE}, set_at, set_by,
        (SELECT count(DISTINCT limit_key) FROM job_limit_keys WHERE job_limit_keys.name = job_limits.name) AS keys
    FROM job_limits WHERE name = coalesce(:name, name) ORDER BY name
""")  # noqa: S608  # made of constants


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit as it holds now."""

    name: str
    """The kind."""
    per: str | None
    running: int | None
    rate: str | None
    set_at: datetime | None
    """When an operator set it; None if it is as the code declares it."""
    set_by: str | None
    keys: int
    """How many keys have jobs that wait."""


async def declare(session: Session, payload_classes: Iterable[type[JobPayload]]) -> None:
    """Write the limits that these classes declare; a worker does so before it claims anything."""
    rows = [(each.kind, *_declared(each.limited)) for each in payload_classes]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(6)]
    names = ("kinds", "pers", "runnings", "rates", "periods", "limited")
    changed = (await session.scalars(_DECLARE, dict(zip(names, columns, strict=True)))).all()
    await _look_again(session, changed)


async def set_limit(session: Session, name: str, *, running: int | None, rate: str | None, by: str | None) -> None:
    """Let this limit hold instead of the one in the code, at once, for jobs that wait too; None lifts that part.

    Jobs that are admitted already go on.

    Raises:
        NotFound: no worker has declared a limit of this kind.
        ValueError: for a number or a rate that is no limit.
    """
    require_running(running)
    number, period = _rate(rate)
    about = {"name": name, "running": running, "rate": number, "period": period, "by": by}
    await _look_again(session, (await session.scalars(_SET, about)).all() or _not_found())


async def reset_limit(session: Session, name: str) -> None:
    """Let the limit in the code hold again.

    Raises:
        NotFound: as `set_limit` does.
    """
    await _look_again(session, (await session.scalars(_RESET, {"name": name})).all() or _not_found())


async def limits(session: Session, name: str | None = None) -> list[LimitRow]:
    """Return all limits, or that of one kind."""
    rows = (await session.execute(_LIST, {"name": name})).all()
    return [
        LimitRow(
            row.name, row.per, row.running, show_rate(row.rate, row.period) if row.rate else None,
            row.set_at, row.set_by, row.keys,
        )
        for row in rows
    ]  # fmt: skip


def _declared(limit: Limit | None) -> tuple[object, ...]:
    return (None,) * 4 + (False,) if limit is None else (limit.per, limit.running, *_rate(limit.rate), True)


async def _look_again(session: Session, names: Collection[str]) -> None:
    """Let the next claims look at all keys of these limits, whose rows this transaction has locked."""
    if names:
        await session.execute(_LOOK_AGAIN, {"names": list(names)})
        notify_after_commit(session)


def _rate(rate: str | None) -> tuple[int, timedelta] | tuple[None, None]:
    return parse_rate(rate) or (None, None)


def _not_found() -> list[str]:
    raise NotFound

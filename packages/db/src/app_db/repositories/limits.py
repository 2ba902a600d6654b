"""LIMITs whose number the planner cannot see: it expects a tenth of the rows to be read, in the order of an index.

A number that it sees is worse where statistics are old, or where one group has more than its share of the rows: if the
planner expects fewer rows than the limit, it reads and sorts the whole group, or the table.
"""

from sqlalchemy import BigInteger, ScalarSelect, literal, select


def up_to(parameter: str) -> str:
    """Return a LIMIT for SQL as text.

    Example:
        assert up_to("most") == "LIMIT (SELECT CAST(:most AS bigint))"
    """
    return f"LIMIT (SELECT CAST(:{parameter} AS bigint))"


def unseen(number: int) -> ScalarSelect[int]:
    """Return the number for `Select.limit` and `Select.offset`.

    Example:
        newest = select(Job.id).order_by(Job.id.desc()).limit(unseen(20))
        assert len((await session.scalars(newest)).all()) <= 20
    """
    return select(literal(number, BigInteger)).scalar_subquery()

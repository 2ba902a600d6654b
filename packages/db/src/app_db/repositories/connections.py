"""How much of what their roles may have the connections to this database take."""

from sqlalchemy import text

from app_db.session import Session

# Anyone sees who is connected; what others do stays hidden. A role without a limit has that of the server.
_SHARES = text("""
    SELECT rolname, count(*)::float / greatest(1, least(
               nullif(rolconnlimit, -1), current_setting('max_connections')::int
                   - current_setting('superuser_reserved_connections')::int)) AS share
    FROM pg_stat_activity JOIN pg_roles ON pg_roles.oid = usesysid
    WHERE usesysid IN (SELECT usesysid FROM pg_stat_activity WHERE datname = current_database())
    GROUP BY rolname, rolconnlimit
""")


async def shares_in_use(session: Session) -> dict[str, float]:
    """Return for each role with connections to this database which share of its limit is in use: 1 is all."""
    return {row.rolname: row.share for row in await session.execute(_SHARES)}

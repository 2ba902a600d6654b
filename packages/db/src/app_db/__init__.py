"""Models, repositories, engines and the job ledger."""

from app_db.engine import Database, open_database, script_session
from app_db.session import Session

__all__ = ["Database", "Session", "open_database", "script_session"]

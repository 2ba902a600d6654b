"""What is stored and how it is asked for."""

from app_db.engine import Database, open_database, script_session
from app_db.session import Session

__all__ = ["Database", "Session", "open_database", "script_session"]

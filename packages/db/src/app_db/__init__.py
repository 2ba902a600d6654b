"""What is stored and how it is asked for."""

from app_db.engine import Database, Session, open_database, script_session

__all__ = ["Database", "Session", "open_database", "script_session"]

"""The errors of exports."""

from app_db.errors import NotFound


class ExportNotFound(NotFound):
    """You have no finished export with this id. An export can be fetched for a day, and only the newest."""

    code = "export_not_found"

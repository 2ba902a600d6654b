"""The errors of exports."""

from app_db.errors import Conflict, NotFound


class ExportNotFound(NotFound):
    """You have no finished export with this id. An export can be fetched for a day, and only the newest."""

    code = "export_not_found"


class ExportUnderWay(Conflict):
    """An export of the audit that you have asked for is under way: wait for it, or cancel its job."""

    code = "export_under_way"

"""The errors of changes of address."""

from app_db.errors import Invalid


class EmailUnchanged(Invalid):
    """Your account has this address already."""

    code = "email_unchanged"

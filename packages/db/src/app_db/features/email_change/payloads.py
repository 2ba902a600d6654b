"""The jobs that mail links about a change of address."""

from uuid import UUID

from app_db.jobs.payload import JobPayload


class EmailChangeLink(JobPayload):
    """Mail the link that confirms a change to the new address, or tell its owner if it has an account."""

    kind = "email.change_link"
    change_id: UUID


class EmailChanged(JobPayload):
    """Tell the former address of an account that it has another one, with a link that brings it back."""

    kind = "email.changed"
    former_id: UUID

"""The jobs that make and mail a link to sign in with."""

from uuid import UUID

from app_db.jobs.payload import JobPayload


class SignInLinkRequest(JobPayload):
    """Make a link to sign in with and have it mailed, if the account may have one."""

    kind = "account.sign_in_link"
    user_id: UUID | None
    """None if the address has no account; the job is enqueued all the same, so that the client cannot tell."""
    binding_digest: str


class SignInLinkEmail(JobPayload):
    """Mail a link to sign in with."""

    kind = "email.sign_in_link"
    link_id: UUID

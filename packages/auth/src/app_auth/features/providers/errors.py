"""The errors of sign-in with others."""

from uuid import UUID

from app_auth.audit import Event, audit
from app_auth.client import Client
from app_db import Session
from app_db.errors import BadRequest, Conflict, Forbidden, NotFound
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.jobs.outbox import enqueue


class UnknownProvider(NotFound):
    """There is no provider of this name here."""

    code = "unknown_provider"


class InvalidState(BadRequest):
    """This was begun in another browser or session, or too long ago, or it was used already. Begin again."""

    code = "invalid_state"


class ProviderRefused(BadRequest):
    """The provider did not say who you are: you may have cancelled, or it has refused. Begin again."""

    code = "provider_refused"


class InvalidProviderAnswer(BadRequest):
    """What the provider says cannot be accepted: it is for somebody else, too old, or not signed as it has to be."""

    code = "invalid_provider_answer"


class ProviderAddressUnverified(Forbidden):
    """The provider does not say that your address is verified. Register here with a password instead."""

    code = "provider_address_unverified"


class ProviderNotLinked(Forbidden):
    """No account here is linked with this one. If yours is here, sign in another way, and link it there."""

    code = "provider_not_linked"

    def __init__(self, client: Client, *, user_id: UUID | None, provider: str, may_be_told: bool) -> None:
        super().__init__()
        self.client, self.user_id, self.provider, self.may_be_told = client, user_id, provider, may_be_told

    async def aftermath(self, session: Session) -> None:
        """Keep the attempt in the audit; tell the owner of the account that has the address, if there is one."""
        audit(
            session, Event.SIGN_IN_FAILED, client=self.client, user_id=self.user_id, because=self.code,
            provider=self.provider,
        )  # fmt: skip
        if self.user_id is not None and self.may_be_told:
            notice = SecurityNotice(user_id=self.user_id, what=Notice.PROVIDER_NOT_LINKED)
            await enqueue(session, notice, owner_id=self.user_id)


class ProviderLinkTaken(Conflict):
    """This account at the provider is linked with another account here, or yours with another account there."""

    code = "provider_link_taken"


class NotLinked(NotFound):
    """Your account is not linked with this provider."""

    code = "not_linked"

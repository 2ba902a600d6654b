"""The permissions of a user beyond their own account."""

from datetime import datetime
from uuid import UUID

from app_auth.addresses import canonical_email
from app_auth.audit import SHELL, Detail, Event, audit
from app_auth.auth import Auth
from app_auth.client import NOBODY, Client
from app_auth.errors import AccountNotFound, ReauthenticationRequired
from app_auth.principal import Caller, Principal
from app_db import Session
from app_db.clock import database_time
from app_db.errors import Forbidden
from app_db.models import Role
from app_db.repositories.users import UserRepository


class OperatorRequired(Forbidden):
    """This is for operators."""

    code = "operator_required"


def is_operator(principal: Caller) -> bool:
    """Whether the user operates the whole system."""
    return principal.role is Role.OPERATOR


def require_operator(principal: Caller) -> None:
    """Refuse users who are not operators.

    Raises:
        OperatorRequired: for everybody else.

    Example:
        require_operator(principal)  # beyond this line it is one
        assert principal.role is Role.OPERATOR
    """
    if not is_operator(principal):
        raise OperatorRequired  # guard: test_whoever_is_no_operator_is_stopped


async def require_fresh(auth: Auth, session: Session, principal: Principal, *, now: datetime | None = None) -> None:
    """Refuse what cannot be undone if the sign-in is older than `fresh_sign_in`.

    Raises:
        ReauthenticationRequired: with the greatest age.
    """
    time = await database_time(session, now or principal.seen_at)
    if time - principal.signed_in_at > auth.settings.fresh_sign_in:
        raise ReauthenticationRequired(
            max_age=auth.settings.fresh_sign_in
        )  # guard: test_deleting_an_account_needs_a_fresh_sign_in


async def set_role(
    session: Session, *, email: str, role: Role, client: Client = NOBODY, operator: Principal | None = None
) -> None:
    """Give the account this role, from its next request on. Idempotent. Without an operator, a shell did it.

    Raises:
        InvalidEmail: this is no address.
        AccountNotFound: no account has this address, in any spelling.
    """
    user_id = await UserRepository(session).set_role(canonical_email(email), role)
    if user_id is None:
        raise AccountNotFound
    audit_act(session, Event.ROLE_CHANGED, client=client, user_id=user_id, operator=operator, role=role.value)


def audit_act(
    session: Session,
    event: Event,
    *,
    client: Client,
    user_id: UUID,
    operator: Principal | None,
    **details: Detail | None,
) -> None:
    """Add a row to the audit about what an operator did to an account, or a shell on the server if it is None."""
    actor_id, session_id = (None, None) if operator is None else (operator.user_id, operator.session_id)
    by = SHELL if operator is None else None
    audit(session, event, client=client, user_id=user_id, actor_id=actor_id, session_id=session_id, by=by, **details)

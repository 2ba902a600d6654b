"""What operators do to accounts, over HTTP or in the console. A shell on the server may do more (`app_api.operator`).

No operator ends their own rights: whoever takes another's keeps theirs until the end of the transaction, so one
operator is always left.
"""

from uuid import UUID

from app_auth import accounts, sessions
from app_auth.audit import Event
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.errors import AccountDisabled, LinksSent, OwnAccount, UnknownAccount
from app_auth.permissions import (
    OperatorRequired,
    audit_act,
    require_fresh,
    require_operator,
    set_role,
)
from app_auth.principal import Principal
from app_db import Session
from app_db.errors import NotFound
from app_db.features.accounts.payloads import OneTimeLink
from app_db.jobs.outbox import enqueue
from app_db.models import Role, TokenPurpose, User
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository


async def disable(auth: Auth, session: Session, operator: Principal, user_id: UUID, *, client: Client) -> None:
    """Let nobody into the account, end its sessions and kill its links. A disabled one stays as it is.

    Raises:
        OperatorRequired, UnknownAccount.
        OwnAccount: operators do not lock themselves out.
        ReauthenticationRequired: the operator's sign-in is older than `fresh_sign_in`.
    """
    user = await _another(auth, session, operator, user_id)
    if user.disabled_at is None:
        await accounts.disable(session, email=user.email_canonical, client=client, operator=operator)


async def enable(session: Session, operator: Principal, user_id: UUID, *, client: Client) -> None:
    """Let the owner of a disabled account in again. An enabled one stays as it is.

    Raises:
        OperatorRequired, UnknownAccount.
    """
    user = await _locked(session, operator, user_id)
    if user.disabled_at is not None:
        await accounts.enable(session, email=user.email_canonical, client=client, operator=operator)


async def change_role(
    auth: Auth, session: Session, operator: Principal, user_id: UUID, *, role: Role, client: Client
) -> None:
    """Give the account a role, from its next request on. One that has it stays as it is.

    Raises:
        OperatorRequired, UnknownAccount, OwnAccount, ReauthenticationRequired: as for `disable`.
    """
    user = await _another(auth, session, operator, user_id)
    if user.role is not role:
        await set_role(session, email=user.email_canonical, role=role, client=client, operator=operator)


async def end_sessions(session: Session, operator: Principal, user_id: UUID, *, client: Client) -> int:
    """End all sessions of the account, from their next requests on; return how many there were.

    Raises:
        OperatorRequired, UnknownAccount.
    """
    user = await _locked(session, operator, user_id)
    return await sessions.sign_out_everywhere(session, email=user.email_canonical, client=client, operator=operator)


async def end_session(
    session: Session, operator: Principal, user_id: UUID, *, session_id: UUID, client: Client
) -> None:
    """End one session of the account, from its next request on.

    Raises:
        OperatorRequired, UnknownAccount.
        NotFound: the account has no session with this id.
    """
    await _locked(session, operator, user_id)
    if not await UserSessionRepository(session).end_owned(session_id, user_id=user_id):
        raise NotFound
    audit_act(session, Event.SESSION_REVOKED, client=client, user_id=user_id, operator=operator, ended=str(session_id))


async def send_reset_link(auth: Auth, session: Session, operator: Principal, user_id: UUID, *, client: Client) -> None:
    """Have a link mailed to the owner of the account that sets a new password; the job is theirs.

    Raises:
        OperatorRequired, UnknownAccount.
        AccountDisabled: a disabled account gets no link.
        LinksSent: the limit `mail_account` holds for operators too; unlike strangers, they are told.
    """
    user = await _locked(session, operator, user_id)
    if user.disabled_at is not None:
        raise AccountDisabled
    purpose = TokenPurpose.RESET_PASSWORD
    async with auth.throttle.mail(purpose.value, user.email_canonical) as may_be_sent:
        if not may_be_sent:
            raise LinksSent
        audit_act(session, Event.PASSWORD_RESET_REQUESTED, client=client, user_id=user_id, operator=operator)
        await enqueue(session, OneTimeLink(user_id=user_id, purpose=purpose), owner_id=user_id)


async def _another(auth: Auth, session: Session, operator: Principal, user_id: UUID) -> User:
    """Return the account of somebody else, locked, for what may lock its owner out."""
    require_operator(operator)
    if user_id == operator.user_id:
        raise OwnAccount  # guard: test_no_operator_locks_themself_out
    await require_fresh(auth, session, operator)  # guard: test_what_locks_out_needs_a_fresh_sign_in
    return await _locked(session, operator, user_id)


async def _locked(session: Session, operator: Principal, user_id: UUID) -> User:
    """Return the account, locked together with that of the operator, who has to be one still."""
    require_operator(operator)
    users = await UserRepository(session).locked_among({operator.user_id, user_id})
    acting = users.get(operator.user_id)
    if acting is None or acting.role is not Role.OPERATOR or acting.disabled_at is not None:
        raise OperatorRequired  # guard: test_of_two_operators_who_end_each_other_one_is_left
    if user_id not in users:
        raise UnknownAccount
    return users[user_id]

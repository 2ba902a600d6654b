"""Routes for a change of address."""

from fastapi import APIRouter

from app_api.dependencies import AuthDep, ClientDep, OptionalPrincipalDep, PrincipalDep, SessionDep
from app_api.features.accounts.schemas import MailAccepted
from app_api.features.email_change.schemas import EmailChangeConfirmation, EmailChangeCreate, EmailChangeUndoing
from app_api.problems import problem_responses
from app_auth.errors import (
    AddressNotCarried,
    EmailTaken,
    HashingBusy,
    InvalidCredentials,
    InvalidEmail,
    InvalidLink,
    InvalidToken,
    ReauthenticationRequired,
    Throttled,
)
from app_auth.features.email_change import service, undoing
from app_auth.features.email_change.errors import EmailUnchanged
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/auth/email/change", tags=["auth"], responses=problem_responses(DatabaseUnavailable, Throttled)
)


@router.post(
    "",
    status_code=202,
    responses=problem_responses(
        Unauthenticated, InvalidToken, ReauthenticationRequired, InvalidEmail, AddressNotCarried, EmailUnchanged
    ),
)
async def request_email_change(
    body: EmailChangeCreate, principal: PrincipalDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> MailAccepted:
    """Have a link mailed to another address, which makes it that of the account. Needs a fresh sign-in."""
    await service.request(auth, session, principal, email=body.email, client=client)
    return MailAccepted()


@router.post(
    "/confirm",
    status_code=204,
    responses=problem_responses(InvalidToken, InvalidLink, InvalidCredentials, EmailTaken, HashingBusy),
)
async def confirm_email_change(
    body: EmailChangeConfirmation, principal: OptionalPrincipalDep, auth: AuthDep, session: SessionDep,
    client: ClientDep,
) -> None:  # fmt: skip
    """Confirm the new address by its link, signed in or with the password; all other sessions and links end."""
    await service.confirm(
        auth, session, token=body.token, principal=principal, password=body.password.get_secret_value(), client=client
    )


@router.post("/undo", status_code=204, responses=problem_responses(InvalidLink, EmailTaken, HashingBusy))
async def undo_email_change(body: EmailChangeUndoing, auth: AuthDep, session: SessionDep, client: ClientDep) -> None:
    """Bring the address before back by the link that was mailed to it; a link for a new password follows."""
    await undoing.undo(auth, session, token=body.token, client=client)

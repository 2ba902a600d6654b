"""Routes for registration, mailed links and changes of the password."""

from fastapi import APIRouter, Response

from app_api.dependencies import AuthDep, ClientDep, PrincipalDep, SessionDep
from app_api.features.accounts.schemas import (
    EmailSubmit,
    EmailVerification,
    MailAccepted,
    PasswordChange,
    PasswordReset,
    PasswordUpdate,
    UserCreate,
    UserRead,
)
from app_api.idempotency import PROBLEMS as REPETITION
from app_api.idempotency import IdempotentDep
from app_api.problems import problem_responses
from app_auth import accounts, links
from app_auth.errors import (
    AddressNotCarried,
    EmailTaken,
    HashingBusy,
    InvalidCredentials,
    InvalidEmail,
    InvalidLink,
    InvalidToken,
    PasswordTooCommon,
    PasswordTooLong,
    PasswordTooShort,
    PasswordUnchanged,
    RegistrationClosed,
    Throttled,
)
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(prefix="/auth", tags=["auth"], responses=problem_responses(DatabaseUnavailable, Throttled))

NEW_PASSWORD_PROBLEMS = (PasswordTooShort, PasswordTooLong, PasswordTooCommon, HashingBusy)
CHANGE_PROBLEMS = (Unauthenticated, InvalidToken, InvalidCredentials, PasswordUnchanged, *NEW_PASSWORD_PROBLEMS)


@router.post(
    "/register",
    operation_id="auth_register",
    status_code=201,
    responses={
        202: {"model": MailAccepted, "description": "With verification, for every address: a mail is on its way"},
        **problem_responses(
            EmailTaken, RegistrationClosed, InvalidEmail, AddressNotCarried, *NEW_PASSWORD_PROBLEMS, *REPETITION
        ),
    },
)
async def register_new_user(
    body: UserCreate, *, auth: AuthDep, session: SessionDep, client: ClientDep, response: Response, _: IdempotentDep
) -> UserRead | MailAccepted:
    """Create an account; a job sends the mail. With verification the answer is the same for every address."""
    user = await accounts.register(
        auth, session, email=body.email, password=body.password.get_secret_value(), client=client
    )
    if user is None:
        response.status_code = 202
        return MailAccepted()
    return UserRead(user_id=user.id, email=user.email)


@router.post(
    "/email/verify",
    status_code=204,
    responses=problem_responses(InvalidLink, InvalidCredentials, *NEW_PASSWORD_PROBLEMS),
)
async def verify_email(body: EmailVerification, auth: AuthDep, session: SessionDep, client: ClientDep) -> None:
    """Confirm an address with the token of the link that was mailed to it, and the password that is to count.

    It may be the one of the registration; another one replaces it, because somebody else may have registered.
    """
    password = body.password.get_secret_value()
    await links.verify_email(auth, session, token=body.token, password=password, client=client)


@router.post("/email/verify/resend", status_code=202, responses=problem_responses(InvalidEmail))
async def resend_verification(body: EmailSubmit, auth: AuthDep, session: SessionDep, client: ClientDep) -> MailAccepted:
    """Have the link mailed again, if there is an account that needs it. The answer does not tell."""
    await links.request_verification(auth, session, email=body.email, client=client)
    return MailAccepted()


@router.post("/password/forgot", status_code=202, responses=problem_responses(InvalidEmail))
async def forgot_password(body: EmailSubmit, auth: AuthDep, session: SessionDep, client: ClientDep) -> MailAccepted:
    """Have a link mailed that sets a new password, if there is an account. The answer does not tell."""
    await links.forgot_password(auth, session, email=body.email, client=client)
    return MailAccepted()


@router.post("/password/reset", status_code=204, responses=problem_responses(InvalidLink, *NEW_PASSWORD_PROBLEMS))
async def reset_password(body: PasswordReset, auth: AuthDep, session: SessionDep, client: ClientDep) -> None:
    """Set a new password with the token of the link that was mailed, and end all login sessions."""
    new = body.new_password.get_secret_value()
    await links.reset_password(auth, session, token=body.token, new_password=new, client=client)


@router.post("/password/change", status_code=204, responses=problem_responses(*CHANGE_PROBLEMS))
async def change_password(
    body: PasswordChange, principal: PrincipalDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> None:
    """Change the bearer's password and end all their other login sessions."""
    current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
    await accounts.change_password(auth, session, principal, current_password=current, new_password=new, client=client)


@router.post("/reset-password", status_code=204, deprecated=True, responses=problem_responses(*CHANGE_PROBLEMS))
async def reset_current_user_password(
    body: PasswordUpdate, principal: PrincipalDep, auth: AuthDep, session: SessionDep, client: ClientDep
) -> None:
    """Do what /auth/password/change does, under its first name."""
    current, new = body.current_password.get_secret_value(), body.password.get_secret_value()
    await accounts.change_password(auth, session, principal, current_password=current, new_password=new, client=client)

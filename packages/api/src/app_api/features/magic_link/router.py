"""Routes for signing in by a mailed link."""

from fastapi import APIRouter

from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.accounts.schemas import AccessTokenRead
from app_api.features.magic_link.schemas import SignInLinkAccepted, SignInLinkCreate, SignInLinkUse
from app_api.problems import problem_responses
from app_auth import sessions
from app_auth.admission import SignInRefused
from app_auth.challenges import SecondFactorRequired
from app_auth.errors import EmailNotVerified, InvalidEmail, InvalidLink, Throttled
from app_auth.features.magic_link import service
from app_auth.features.magic_link.errors import AskedElsewhere, SignInByLinkOff
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/auth/sign-in-link",
    tags=["auth"],
    responses=problem_responses(DatabaseUnavailable, Throttled, SignInByLinkOff),
)


@router.post("", status_code=202, responses=problem_responses(InvalidEmail))
async def request_sign_in_link(
    body: SignInLinkCreate, auth: AuthDep, session: SessionDep, client: ClientDep
) -> SignInLinkAccepted:
    """Have a link mailed that signs in, if there is an account. The answer does not tell."""
    return SignInLinkAccepted(secret=await service.request(auth, session, email=body.email, client=client))


@router.post(
    "/use",
    responses=problem_responses(InvalidLink, AskedElsewhere, SignInRefused, EmailNotVerified, SecondFactorRequired),
)
async def sign_in_by_link(
    body: SignInLinkUse, auth: AuthDep, session: SessionDep, client: ClientDep
) -> AccessTokenRead:
    """Sign in with the token of the link, and the secret that the request for it was answered with."""
    begun = await service.redeem(auth, session, token=body.token, secret=body.secret.get_secret_value(), client=client)
    return AccessTokenRead.of(sessions.tokens_of(auth, begun))

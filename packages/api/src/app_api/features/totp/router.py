"""Routes that turn one-time codes on and off, and answer the challenge of a sign-in."""

from fastapi import APIRouter

from app_api.dependencies import AuthDep, ClientDep, PrincipalDep, SessionDep
from app_api.features.accounts.schemas import AccessTokenRead
from app_api.features.totp.dependencies import VaultDep
from app_api.features.totp.qr_code import svg_of
from app_api.features.totp.schemas import ChallengeAnswer, CodeSubmit, RecoveryCodes, TotpOffered, TotpRead
from app_api.problems import problem_responses
from app_auth import sessions
from app_auth.challenges import InvalidChallenge
from app_auth.errors import InvalidToken, ReauthenticationRequired, Throttled
from app_auth.features.totp import service
from app_auth.features.totp.errors import InvalidCode, TotpOff, TotpOn, TotpUnavailable
from app_db.errors import Unauthenticated
from app_db.outage import DatabaseUnavailable

router = APIRouter(prefix="/auth", tags=["auth"], responses=problem_responses(DatabaseUnavailable))

BEARER = (Unauthenticated, InvalidToken)


@router.post("/challenge", responses=problem_responses(InvalidChallenge, InvalidCode, Throttled, TotpUnavailable))
async def answer_challenge(
    body: ChallengeAnswer, auth: AuthDep, vault: VaultDep, session: SessionDep, client: ClientDep
) -> AccessTokenRead:
    """Finish a sign-in that asks for a second factor, by a code of the generator or a recovery code."""
    challenge, code = body.challenge, body.code.get_secret_value()
    begun = await service.answer(auth, vault, session, challenge=challenge, code=code, client=client)
    return AccessTokenRead.of(sessions.tokens_of(auth, begun))


@router.get("/totp", responses=problem_responses(*BEARER))
async def read_totp(principal: PrincipalDep, session: SessionDep) -> TotpRead:
    """Return whether each sign-in to the bearer's account asks for a one-time code."""
    return TotpRead.model_validate(await service.status(session, principal))


@router.post(
    "/totp", status_code=201, responses=problem_responses(*BEARER, ReauthenticationRequired, TotpOn, TotpUnavailable)
)
async def enrol_totp(principal: PrincipalDep, auth: AuthDep, vault: VaultDep, session: SessionDep) -> TotpOffered:
    """Make a secret for a generator; sign-ins ask for codes once the first one has been confirmed."""
    offer = await service.enrol(auth, vault, session, principal)
    return TotpOffered(secret=offer.secret, uri=offer.uri, qr_code=svg_of(offer.uri))


@router.post("/totp/confirm", responses=problem_responses(*BEARER, InvalidCode, TotpOff, Throttled, TotpUnavailable))
async def confirm_totp(
    body: CodeSubmit, principal: PrincipalDep, *, auth: AuthDep, vault: VaultDep, session: SessionDep, client: ClientDep
) -> RecoveryCodes:
    """Turn one-time codes on by the first one, and end all other sessions. The recovery codes are shown here only."""
    code = body.code.get_secret_value()
    shown = await service.confirm(auth, vault, session, principal, code=code, client=client)
    return RecoveryCodes(recovery_codes=shown)


@router.post(
    "/totp/recovery-codes",
    status_code=201,
    responses=problem_responses(*BEARER, ReauthenticationRequired, TotpOff, TotpUnavailable),
)
async def renew_recovery_codes(
    principal: PrincipalDep, auth: AuthDep, vault: VaultDep, session: SessionDep, client: ClientDep
) -> RecoveryCodes:
    """Make new recovery codes in place of all others. They are shown here only."""
    return RecoveryCodes(
        recovery_codes=await service.renew_recovery_codes(auth, vault, session, principal, client=client)
    )


@router.delete("/totp", status_code=204, responses=problem_responses(*BEARER, ReauthenticationRequired, TotpOff))
async def remove_totp(principal: PrincipalDep, auth: AuthDep, session: SessionDep, client: ClientDep) -> None:
    """Turn one-time codes off, and end all other sessions."""
    await service.remove(auth, session, principal, client=client)

"""Signing in by a passkey: no address is typed, and with user verification it is two factors by itself (ADR-0066)."""

from datetime import datetime
from typing import Any

import structlog

from app_auth.admission import Proof, SignInRefused, admit
from app_auth.auth import Auth
from app_auth.client import Client
from app_auth.features.passkeys.challenges import Challenges, Purpose
from app_auth.features.passkeys.errors import COUNTER, PasskeyRefused, ResponseRejected
from app_auth.features.passkeys.relying_party import RelyingParty
from app_auth.features.passkeys.responses import SignInResponse
from app_db import Session
from app_db.clock import database_time
from app_db.features.passkeys.repository import PasskeyRepository, UsedChallengeRepository
from app_db.models import UserSession

log = structlog.get_logger(__name__)


async def begin(
    auth: Auth, session: Session, party: RelyingParty, *, now: datetime | None = None
) -> dict[str, Any]:  # Any: JSON
    """Return the options with which a browser signs in. Asking for them writes nothing."""
    from app_auth.features.passkeys.ceremonies import request_options  # noqa: PLC0415  # see there

    time = await database_time(session, now)
    return request_options(party, challenge=Challenges(auth.settings).make(Purpose.SIGN_IN, now=time))


async def finish(
    auth: Auth, session: Session, party: RelyingParty, *, response: SignInResponse, client: Client
) -> UserSession:
    """Start a login session; `sessions.tokens_of` or `browser_sessions.hand_over` is the answer to the client.

    Raises:
        Throttled: before anything else.
        PasskeyRefused: an unknown passkey, a wrong signature, a used challenge, a counter that has not gone on, and a
            disabled account alike; its aftermath audits the attempt and uses up the challenge.
        EmailNotVerified: the address of the account is not verified, and the settings ask for that.
    """
    from app_auth.features.passkeys.ceremonies import challenge_in, verify_sign_in  # noqa: PLC0415  # see there

    await auth.throttle.sign_in(client)  # guard: test_sign_ins_by_passkeys_are_throttled
    passkeys, now = PasskeyRepository(session), await database_time(session)
    refused = PasskeyRefused(client)
    try:
        challenge = challenge_in(response.client_data)
        refused.challenge_id = challenge_id = Challenges(auth.settings).check(challenge, Purpose.SIGN_IN, now=now)
        passkey = await passkeys.of_credential(response.credential_id)
        if passkey is None:
            raise ResponseRejected("nobody has this passkey")
        passkey_id, refused.user_id = passkey.id, passkey.user_id
        use = verify_sign_in(party, response, challenge=challenge, passkey=passkey)
    except ResponseRejected as error:
        log.info("passkey_rejected", because=str(error))
        raise refused from error
    if not await UsedChallengeRepository(session).use(challenge_id):
        raise refused  # guard: test_a_challenge_of_a_sign_in_is_taken_once
    try:
        begun = await admit(auth, session, passkey.user_id, proof=Proof.PASSKEY, client=client)
    except SignInRefused as error:
        raise refused from error  # guard: test_a_disabled_account_is_refused_like_an_unknown_passkey
    if not await passkeys.note_use(passkey_id, sign_count=use.sign_count, backed_up=use.backed_up):
        if await passkeys.of_credential(response.credential_id) is not None:  # else it was removed meanwhile
            refused.because = COUNTER
        raise refused
    return begun

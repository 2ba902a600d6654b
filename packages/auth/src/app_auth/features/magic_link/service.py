"""Signing in by a mailed link: asked for by anybody, opened by who has the mailbox and the browser that asked."""

import hmac
import secrets
from datetime import datetime

from app_auth.addresses import new_address
from app_auth.admission import Proof, admit
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.challenges import SecondFactorRequired
from app_auth.client import Client
from app_auth.errors import InvalidLink
from app_auth.features.magic_link.errors import AskedElsewhere, SignInByLinkOff
from app_auth.features.magic_link.tokens import SIGN_IN, digest_of, signing_in
from app_db import Session
from app_db.features.magic_link.payloads import SignInLinkRequest
from app_db.features.magic_link.repository import SignInLinkRepository
from app_db.jobs.outbox import enqueue
from app_db.models import UserSession
from app_db.repositories.users import UserRepository


async def request(auth: Auth, session: Session, *, email: str, client: Client) -> str:
    """Have a link mailed that signs in, and return the secret that it will only work with. Same for every address.

    Raises:
        SignInByLinkOff: the settings do not allow it.
        Throttled, InvalidEmail: as for a link that sets a password.
    """
    if not auth.settings.magic_link:
        raise SignInByLinkOff  # guard: test_nobody_signs_in_by_a_link_where_it_is_off
    await auth.throttle.forgot(client)  # guard: test_requests_for_a_link_to_sign_in_are_throttled
    canonical, secret = new_address(email).canonical, secrets.token_urlsafe(32)
    async with auth.throttle.mail(SIGN_IN, canonical) as may_be_sent:
        user_id = await UserRepository(session).find_id(canonical)
        audit(session, Event.SIGN_IN_LINK_REQUESTED, client=client, user_id=user_id)
        if may_be_sent:  # guard: test_nobody_is_flooded_with_links_to_sign_in
            await enqueue(session, SignInLinkRequest(user_id=user_id, binding_digest=digest_of(secret)))
    return secret


async def redeem(
    auth: Auth, session: Session, *, token: str, secret: str, client: Client, now: datetime | None = None
) -> UserSession:
    """Start a login session by a link and the secret of who has asked for it; the link is used up.

    Raises:
        SignInByLinkOff: the settings do not allow it, any more.
        InvalidLink: forged, expired, used, or the account has changed since: its password, address or rights.
        AskedElsewhere: this is not the secret; the link can still be used.
        SecondFactorRequired: with a challenge, if the account has a second factor; the link is used up.
        SignInRefused, EmailNotVerified: as for `admission.admit`.
        Throttled: before anything else.
    """
    if not auth.settings.magic_link:
        raise SignInByLinkOff  # guard: test_a_link_of_before_signs_nobody_in_where_it_is_off
    await auth.throttle.one_time(client)  # guard: test_sign_ins_by_a_link_are_throttled
    links = SignInLinkRepository(session)
    link = await links.get(auth.one_time_tokens.parse(token))
    if link is None or not auth.one_time_tokens.equal(signing_in(auth.one_time_tokens, link), token):
        raise InvalidLink  # guard: test_a_forged_link_signs_nobody_in
    if not hmac.compare_digest(digest_of(secret), link.binding_digest):
        raise AskedElsewhere  # guard: test_a_link_signs_in_only_where_it_was_asked_for
    link_id, user_id = link.id, link.user_id
    await UserRepository(session).lock(user_id)  # in the order of whoever changes the account, which deletes its links
    if not await links.use(link_id, now=now):
        raise InvalidLink  # guard: test_of_parallel_sign_ins_by_one_link_one_is_done
    try:
        return await admit(auth, session, user_id, proof=Proof.MAILED_LINK, client=client, now=now)
    except SecondFactorRequired as required:
        required.keep(
            lambda kept: SignInLinkRepository(kept).use(link_id, now=now)
        )  # guard: test_a_link_is_used_up_by_the_challenge_too
        raise

"""What an account at a provider opens: it signs in to the account that it is linked with, and to no other.

Issuer and subject find the account. The address of the provider finds none: it only makes a new account, and tells the
owner of an old one. Links are made by owners who are signed in (ADR-0069).
"""

from collections.abc import Sequence
from uuid import UUID

from app_auth import accounts
from app_auth.addresses import new_address
from app_auth.admission import Proof, admit
from app_auth.audit import Event, audit
from app_auth.auth import Auth
from app_auth.challenges import SecondFactorRequired
from app_auth.client import Client
from app_auth.errors import InvalidEmail, RegistrationClosed, SessionEnded
from app_auth.features.providers.errors import (
    InvalidState,
    NotLinked,
    ProviderAddressUnverified,
    ProviderLinkTaken,
    ProviderNotLinked,
)
from app_auth.features.providers.identity import Identity
from app_auth.permissions import require_fresh
from app_auth.principal import Principal
from app_auth.ways_in import require_another_way_in
from app_db import Session
from app_db.features.accounts.payloads import Notice, SecurityNotice
from app_db.features.providers.models import ProviderLink
from app_db.features.providers.repository import ProviderRepository
from app_db.features.providers.settings import Provider
from app_db.jobs.outbox import enqueue
from app_db.models import UserSession
from app_db.repositories.user_sessions import UserSessionRepository
from app_db.repositories.users import UserRepository


async def take_answer(session: Session, answer_id: UUID) -> None:
    """Take the answer to a state, in a transaction that ends before the provider is asked.

    Raises:
        InvalidState: it was taken before.
    """
    if not await ProviderRepository(session).take(answer_id):
        raise InvalidState  # guard: test_an_answer_is_taken_once


async def sign_in(
    auth: Auth, session: Session, identity: Identity, *, provider: Provider, client: Client
) -> UserSession:
    """Start a login session of the account that this identity is linked with, or of a new account.

    Raises:
        ProviderAddressUnverified: it is linked with none, and the provider vouches for no address that gets mail.
        ProviderNotLinked: it is linked with none, and its address has an account, or nobody may register. The answer
            does not tell which.
        SignInRefused, EmailNotVerified, SecondFactorRequired: as for `admit`.
    """
    links = ProviderRepository(session)
    user_id = await links.owner_of(identity.issuer, identity.subject)
    if user_id is None:
        user_id = await _register(auth, session, identity, provider=provider, client=client)
    return await _admit(auth, session, user_id, identity, client=client)


async def confirm(
    auth: Auth, session: Session, principal: Principal, identity: Identity, *, client: Client
) -> UserSession:
    """Start another login session of who is signed in, if this identity is linked with their account.

    Raises:
        NotLinked: it is not.
        SignInRefused, EmailNotVerified, SecondFactorRequired: as for `admit`.
    """
    links = ProviderRepository(session)
    if await links.owner_of(identity.issuer, identity.subject) != principal.user_id:
        raise NotLinked  # guard: test_nobody_else_confirms_who_is_signed_in
    return await _admit(auth, session, principal.user_id, identity, client=client)


async def _admit(auth: Auth, session: Session, user_id: UUID, identity: Identity, *, client: Client) -> UserSession:
    async def note_use(session: Session) -> None:
        await ProviderRepository(session).note_use(identity.issuer, identity.subject)

    try:
        begun = await admit(auth, session, user_id, proof=Proof.PROVIDER, client=client)
    except SecondFactorRequired as required:
        required.keep(note_use)  # guard: test_a_second_factor_is_asked_for_in_a_browser_too
        raise
    await note_use(session)
    return begun


async def _register(auth: Auth, session: Session, identity: Identity, *, provider: Provider, client: Client) -> UUID:
    if identity.email is None:
        raise ProviderAddressUnverified  # guard: test_an_address_that_is_not_verified_makes_no_account
    try:
        address = new_address(identity.email).canonical
    except InvalidEmail:
        raise ProviderAddressUnverified from None
    try:
        user_id = await accounts.register_verified(auth, session, email=identity.email, client=client, by=provider.name)
    except RegistrationClosed:
        user_id = None
    links = ProviderRepository(session)
    if user_id is not None:
        if not await links.add(user_id, identity.issuer, subject=identity.subject, email=identity.email):
            raise ProviderLinkTaken  # it was linked a moment ago, and no account is made
        return user_id
    if (linked := await links.owner_of(identity.issuer, identity.subject)) is not None:
        return linked  # guard: test_a_new_person_who_comes_twice_at_once_gets_one_account
    # Whoever has this address at the provider may be somebody else here, so nobody is signed in, and nothing linked.
    owner_id = await UserRepository(session).find_id(address)
    async with auth.throttle.mail("provider", address) as may_be_told:
        pass
    raise ProviderNotLinked(
        client, user_id=owner_id, provider=provider.name, may_be_told=may_be_told
    )  # guard: test_an_address_that_has_an_account_signs_nobody_in


async def link(session: Session, principal: Principal, identity: Identity, *, client: Client) -> None:
    """Let this identity open the account of who is signed in. May be repeated.

    Raises:
        ProviderAddressUnverified: the provider says of no address that it is verified.
        ProviderLinkTaken: it opens another account, or another one of this provider opens this account.
        SessionEnded: the session of the principal has ended meanwhile.
    """
    if identity.email is None:
        raise ProviderAddressUnverified  # guard: test_an_address_that_is_not_verified_is_not_linked
    await _hold(session, principal)
    links, user_id = ProviderRepository(session), principal.user_id
    if not await links.add(user_id, identity.issuer, subject=identity.subject, email=identity.email):
        if await links.owner_of(identity.issuer, identity.subject) != user_id:
            raise ProviderLinkTaken  # guard: test_an_identity_opens_one_account
        return
    await _note(session, Event.PROVIDER_LINKED, principal, identity.issuer, client=client)


async def unlink(auth: Auth, session: Session, principal: Principal, link_id: UUID, *, client: Client) -> None:
    """Let an identity open the account no longer. Sessions that it has begun go on.

    Raises:
        ReauthenticationRequired: the sign-in is older than `fresh_sign_in`.
        NotLinked: the account has no such link; somebody else may.
        LastWayIn: nobody could sign in to the account any more.
        SessionEnded: the session of the principal has ended meanwhile.
    """
    await require_fresh(auth, session, principal)  # guard: test_unlinking_needs_a_fresh_sign_in
    await _hold(session, principal)
    links, user_id = ProviderRepository(session), principal.user_id
    issuer = next((each.issuer for each in await links.of_user(user_id) if each.id == link_id), None)
    if issuer is None:
        raise NotLinked  # guard: test_the_link_of_somebody_else_is_not_found
    await require_another_way_in(auth, session, user_id)  # guard: test_the_last_way_in_is_not_unlinked
    await links.remove(link_id)
    await _note(session, Event.PROVIDER_UNLINKED, principal, issuer, client=client)


async def links_of(session: Session, principal: Principal) -> Sequence[ProviderLink]:
    """Return the accounts at providers that open the account of who is signed in."""
    return await ProviderRepository(session).of_user(principal.user_id)


async def _hold(session: Session, principal: Principal) -> None:
    """Lock the account, so that its ways in change one after the other, and never under an ended session."""
    if not await UserSessionRepository(session).hold(principal.user_id, principal.session_id):
        raise SessionEnded  # guard: test_a_session_that_has_ended_links_nothing


async def _note(session: Session, event: Event, principal: Principal, issuer: str, *, client: Client) -> None:
    user_id = principal.user_id
    audit(
        session, event, client=client, user_id=user_id, session_id=principal.session_id, issuer=issuer
    )  # guard: test_links_are_audited
    notice = SecurityNotice(user_id=user_id, what=Notice(event.value))
    await enqueue(session, notice, owner_id=user_id)  # guard: test_the_owner_hears_of_links

"""Passkeys in the console: listed, added, named, removed, and signing in by one."""

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field, ValidationError

from app_api.console.cookie import read_secret
from app_api.console.dependencies import FreshViewerDep, OpenPageDep, PageDep, ViewerDep
from app_api.console.entering import enter, sign_in_fields
from app_api.console.paths import ROOT
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.passkeys.dependencies import PartyDep, PasskeySettingsDep
from app_api.features.passkeys.schemas import NewCredential, PasskeyRead, UsedCredential
from app_auth import browser_sessions
from app_auth.features.passkeys import keeping, sign_in
from app_auth.features.passkeys.errors import PasskeyNotAdded, PasskeyRefused
from app_auth.features.passkeys.relying_party import RelyingParty
from app_auth.principal import Principal
from app_db import Session
from app_db.types import utcnow

router = APIRouter()

PASSKEYS = f"{ROOT}/account/passkeys"
SLOTS = {
    "account": "passkeys_card.html",
    "sign_in": "passkey_sign_in.html",
    "confirm": "passkey_sign_in.html",
}
DONE = {
    "passkey-added": "The passkey is added. From now on it signs you in.",
    "passkey-renamed": "The passkey has another name.",
    "passkey-removed": "The passkey is removed: it opens nothing any more.",
}


class NewPasskeyForm(BaseModel, extra="forbid"):
    """What the page sends on which a passkey is made."""

    name: Annotated[str, Field(max_length=256)] = ""
    credential: Annotated[str, Field(max_length=65_536)] = ""


class SignInForm(BaseModel, extra="forbid"):
    """What a sign-in by a passkey sends."""

    credential: Annotated[str, Field(max_length=65_536)] = ""
    next: Annotated[str, Field(max_length=4096)] = ""


class NameForm(BaseModel, extra="forbid"):
    """Another name."""

    name: Annotated[str, Field(max_length=256)] = ""


@router.get("/account/passkeys")
async def passkeys_page(page: PageDep, viewer: ViewerDep, session: SessionDep, party: PartyDep) -> HTMLResponse:
    """Show the passkeys of who is signed in."""
    return page.render("passkeys.html", problem=None, **await _listed(session, viewer, party))


@router.get("/account/passkeys/new")
async def new_passkey_page(
    page: PageDep, viewer: FreshViewerDep, auth: AuthDep, *, session: SessionDep, party: PartyDep,
    settings: PasskeySettingsDep,
) -> HTMLResponse:  # fmt: skip
    """Let the browser make a passkey."""
    page.on_error("passkey_new.html", options=None)
    options = await keeping.begin(auth, session, viewer, party, limit=settings.per_account)
    name = f"Passkey of {utcnow():%d %B %Y}"
    return page.render("passkey_new.html", problem=None, options=json.dumps(options), name=name)


@router.post("/account/passkeys")
async def add_passkey(
    form: Annotated[NewPasskeyForm, Form()], page: PageDep, viewer: ViewerDep, *, auth: AuthDep, session: SessionDep,
    party: PartyDep, settings: PasskeySettingsDep, client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Add the passkey that the browser has made."""
    page.on_error("passkey_new.html", options=None)
    try:
        response = NewCredential.model_validate_json(form.credential).to_response()
    except ValidationError as error:
        raise PasskeyNotAdded from error
    await keeping.finish(
        auth, session, viewer, party, response=response, name=form.name, limit=settings.per_account, client=client
    )
    return see_other(f"{PASSKEYS}?done=passkey-added")


@router.post("/account/passkeys/{passkey_id}/rename")
async def rename_passkey(
    passkey_id: UUID, form: Annotated[NameForm, Form()], page: PageDep, *, viewer: ViewerDep, session: SessionDep,
    party: PartyDep,
) -> RedirectResponse:  # fmt: skip
    """Give a passkey another name."""
    page.on_error("passkeys.html", **await _listed(session, viewer, party))
    await keeping.rename(session, viewer, passkey_id, name=form.name)
    return see_other(f"{PASSKEYS}?done=passkey-renamed")


@router.post("/account/passkeys/{passkey_id}/remove")
async def remove_passkey(
    passkey_id: UUID, page: PageDep, viewer: FreshViewerDep, *, auth: AuthDep, session: SessionDep, party: PartyDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Remove a passkey."""
    page.on_error("passkeys.html", **await _listed(session, viewer, party))
    await keeping.remove(auth, session, viewer, passkey_id, client=client)
    return see_other(f"{PASSKEYS}?done=passkey-removed")


@router.post("/passkeys/sign-in")
async def enter_by_passkey(
    form: Annotated[SignInForm, Form()], page: OpenPageDep, *, auth: AuthDep, session: SessionDep, party: PartyDep,
    client: ClientDep,
) -> RedirectResponse:  # fmt: skip
    """Start a login session of this browser by a passkey; the one that it had ends."""
    page.on_error("sign_in.html", **sign_in_fields(page.request, next_page=form.next))
    try:
        response = UsedCredential.model_validate_json(form.credential).to_response()
    except ValidationError as error:
        raise PasskeyRefused(client) from error
    user_session = await sign_in.finish(auth, session, party, response=response, client=client)
    before = read_secret(page.request)
    begun = await browser_sessions.hand_over(auth, session, user_session, client=client, before=before)
    return enter(page.request, auth, begun, to=form.next)


async def _listed(session: Session, viewer: Principal, party: RelyingParty) -> dict[str, Any]:  # Any: the template's
    passkeys = await keeping.passkeys_of(session, viewer)
    known = keeping.accepted_by(party, user_id=viewer.user_id, email=viewer.email, passkeys=passkeys)
    # Schemas and not rows: the page is shown after a rollback too, when rows cannot be read any more.
    return {"passkeys": [PasskeyRead.model_validate(passkey) for passkey in passkeys], "known": json.dumps(known)}

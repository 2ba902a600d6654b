"""The keys of an account for its machines: listed on My account, made and shown once, revoked."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from app_api.console.dependencies import FreshViewerDep, PageDep, ViewerDep
from app_api.console.paths import ROOT
from app_api.console.responses import see_other
from app_api.dependencies import AuthDep, ClientDep, SessionDep
from app_api.features.api_keys.schemas import KeyRead
from app_auth.features.api_keys import service
from app_auth.principal import Principal
from app_db import Session

router = APIRouter()

KEYS = f"{ROOT}/account/keys"
SLOTS = {"account": "keys_card.html"}
DONE = {"key-revoked": "The key is revoked: it opens nothing any more."}


class KeyForm(BaseModel, extra="forbid"):
    """What the form for a new key sends."""

    name: Annotated[str, Field(max_length=1000)] = ""
    scopes: list[str] = []
    days: Annotated[int, Field(ge=0, le=10_000)] = service.LIFE.days


async def _context(request: Request, session: Session, viewer: Principal) -> dict[str, Any]:  # Any: the template's
    keys = [KeyRead.of(key) for key in await service.list_keys(session, viewer)]  # a rollback takes the rows away
    expired = {key.id for key in keys if viewer.seen_at is not None and viewer.seen_at >= key.expires_at}
    days = {"least": service.SHORTEST_LIFE.days, "most": service.LONGEST_LIFE.days, "usual": service.LIFE.days}
    return {"keys": keys, "expired": expired, "scopes": request.app.state.scopes, "days": days}


@router.get("/account/keys")
async def keys_page(page: PageDep, viewer: ViewerDep, session: SessionDep, request: Request) -> HTMLResponse:
    """List the keys, and offer to make one."""
    return page.render("keys.html", problem=None, form=KeyForm(), **await _context(request, session, viewer))


@router.post("/account/keys")
async def create_key(
    form: Annotated[KeyForm, Form()], page: PageDep, *, viewer: FreshViewerDep, auth: AuthDep, session: SessionDep,
    client: ClientDep, request: Request,
) -> HTMLResponse:  # fmt: skip
    """Make a key, and show it on this one page. To load the page again makes no second one: its name is taken."""
    context = await _context(request, session, viewer)
    page.on_error("keys.html", form=form, **context)
    new = await service.create_key(
        auth, session, viewer, name=form.name.strip(), scopes=form.scopes, known=context["scopes"],
        life=timedelta(days=form.days), client=client,
    )  # fmt: skip
    return page.render("key_made.html", new=new)


@router.post("/account/keys/{key_id}/revoke")
async def revoke_key(key_id: UUID, viewer: ViewerDep, session: SessionDep, client: ClientDep) -> RedirectResponse:
    """Revoke a key."""
    await service.revoke_key(session, viewer, key_id, client=client)
    return see_other(f"{KEYS}?done=key-revoked")

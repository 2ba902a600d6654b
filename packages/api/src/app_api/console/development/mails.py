"""The mails that `make dev` has caught, and each template with sample data. Visitors see them too, for the links."""

import email
import re
from asyncio import to_thread
from collections.abc import Collection
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import default
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from fastapi.responses import HTMLResponse

from app_api.console.cookie import read_secret
from app_api.console.dependencies import get_viewer
from app_api.console.error_pages import CSP, POLICY
from app_api.console.found import Link
from app_api.console.fragments import Contexts, Fragment, Watched
from app_api.console.paths import ROOT
from app_api.console.rendering import Page
from app_db import Session
from app_db.errors import NotFound, Unauthenticated

router = APIRouter()

MAILS: Final = f"{ROOT}/mails"
LINK = Link("Mails", MAILS, order=90)
MOST: Final = 100
"""How many of the newest mails are listed."""
SAMPLES: Final = "samples"
"""The folder in the mailbox with the templates; `make dev` writes it anew when a template changes."""
FRAMING: Final = f"{CSP}; frame-src 'self'"
FRAMED: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""What a mail may do in its frame: have styles, and open a link in a new tab."""
_NAME: Final = re.compile(r"[a-z0-9_-]+\.eml")
_LINK: Final = re.compile(r"https?://[^\s<>\"')]+")
_HEAD: Final = re.compile(r"(?:(?:<!doctype[^>]*>)?\s*<html[^>]*>)?(?:\s*<head(?:\s[^>]*)?>)?", re.IGNORECASE)
"""The beginning of a mail, behind which its links get the tab that they open in."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail in a file."""

    name: str
    message: EmailMessage

    @property
    def text(self) -> str | None:
        """The part for people without HTML."""
        return self._part("plain")

    @property
    def html(self) -> str | None:
        """The part that mail programs show."""
        return self._part("html")

    @property
    def links(self) -> list[str]:
        """The addresses in it, each once."""
        return list(dict.fromkeys(_LINK.findall(self.text or self.html or "")))

    def _part(self, kind: str) -> str | None:
        part = self.message.get_body((kind,))
        if part is None:
            return None
        try:
            return str(part.get_content())
        except LookupError:  # a character set that Python does not know
            return bytes(part.get_payload(decode=True)).decode(errors="replace")


@lru_cache(maxsize=3 * MOST)
def _parsed(path: Path, _: int) -> Mail:
    return Mail(path.name, email.message_from_bytes(path.read_bytes(), policy=default))


def _read(path: Path) -> Mail:
    """Return the mail of a file, which is read once for each time of its change."""
    return _parsed(path, path.stat().st_mtime_ns)


def _listed(folder: Path) -> list[Mail]:
    names = sorted((path.name for path in folder.glob("*.eml")), reverse=True)
    return [_read(folder / name) for name in names[:MOST]]


async def get_any_page(request: Request, after_answer: BackgroundTasks) -> Page:
    """Return the page for whoever is signed in, or for a visitor."""
    try:
        viewer = None if read_secret(request) is None else await get_viewer(request, after_answer)
    except Unauthenticated:
        viewer = None
    return Page(request, viewer)


def _mail_named(name: str, request: Request) -> Mail:
    """Return a mail by the name of its file.

    Raises:
        NotFound: there is none of this name.
    """
    mailbox: Path = request.app.state.console_mailbox
    if not _NAME.fullmatch(name):
        raise NotFound  # guard: test_no_file_but_a_mail_is_shown
    for path in (mailbox / name, mailbox / SAMPLES / name):
        if path.is_file():
            return _read(path)
    raise NotFound


AnyPageDep = Annotated[Page, Depends(get_any_page)]


@router.get("/mails")
def mails_page(page: AnyPageDep, request: Request) -> HTMLResponse:
    """List the newest mails, and the templates."""
    return page.render("mails.html", **_shown(request.app.state.console_mailbox))


def _shown(mailbox: Path) -> dict[str, Any]:  # Any: the template's
    samples = sorted(_listed(mailbox / SAMPLES), key=lambda mail: mail.name)
    return {"mails": _listed(mailbox), "samples": samples, "most": MOST}


async def read_mails(session: Session, watched: Collection[Watched]) -> Contexts:
    """Return what the mailbox has by now."""
    return dict.fromkeys(watched, await to_thread(_shown, session.info["process"]["mailbox"]))


LIVE = {"mails": Fragment("mails_live.html", read_mails)}


@router.get("/mails/{name}")
def mail_page(name: str, page: AnyPageDep, request: Request) -> HTMLResponse:
    """Show a mail: its HTML in a frame, its text, its links."""
    setattr(request.state, POLICY, FRAMING)
    return page.render("mail.html", mail=_mail_named(name, request))


@router.get("/mails/{name}/html")
def mail_frame(name: str, request: Request) -> HTMLResponse:
    """Return the HTML of a mail for its frame, where it runs nothing and loads nothing."""
    html = _mail_named(name, request).html
    if html is None:
        raise NotFound
    setattr(request.state, POLICY, FRAMED)  # guard: test_a_mail_runs_nothing_and_loads_nothing_in_its_frame
    return HTMLResponse(_HEAD.sub(r'\g<0><base target="_blank">', html, count=1))

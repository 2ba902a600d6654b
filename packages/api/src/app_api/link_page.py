"""The page that mailed links lead to. It reads the token from the fragment and posts it: no GET ever uses a token."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse

STATIC = Path(__file__).parent / "static"
PATH = "/links"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("")
async def link_page() -> FileResponse:
    """Return the page."""
    return FileResponse(STATIC / "links.html", headers={"Content-Security-Policy": CSP})


@router.get("/links.js")
async def link_script() -> FileResponse:
    """Return its script."""
    return FileResponse(STATIC / "links.js")


@router.get("/links.css")
async def link_style() -> FileResponse:
    """Return its style sheet."""
    return FileResponse(STATIC / "links.css")


def add_link_page(app: FastAPI, *, at_root: bool) -> None:
    """Serve the page at `/links`; `at_root` at `/` as well, where links lead, unless Swagger UI is there.

    Swagger UI's own start sends those who come with a link to the page.
    """
    app.include_router(router)
    if at_root:
        app.add_api_route("/", link_page, methods=["GET"], include_in_schema=False)

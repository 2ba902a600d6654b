"""The page that mailed links lead to. It reads the token from the fragment and posts it: no GET ever uses a token."""

from pathlib import Path
from string import Template

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse

STATIC = Path(__file__).parent / "static"
PATH = "/links"
SIGN_IN = '<p><a href="/console">Sign in</a></p>\n'
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

router = APIRouter(prefix=PATH, include_in_schema=False)


@router.get("/links.js")
async def link_script() -> FileResponse:
    """Return its script."""
    return FileResponse(STATIC / "links.js")


@router.get("/links.css")
async def link_style() -> FileResponse:
    """Return its style sheet."""
    return FileResponse(STATIC / "links.css")


def add_link_page(app: FastAPI, *, at_root: bool, min_length: int, has_console: bool) -> None:
    """Serve the page at `/links`, and with `at_root` also at `/`, where mailed links lead.

    If Swagger UI is at `/`, its script redirects mailed links to the page. `min_length` is that of a new password.
    With a console, the page leads to it: there people sign in.
    """
    page = Template((STATIC / "links.html").read_text()).substitute(
        min_length=min_length, sign_in=SIGN_IN if has_console else ""
    )

    async def link_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": CSP})

    app.include_router(router)
    for path in [PATH, "/"] if at_root else [PATH]:
        app.add_api_route(path, link_page, methods=["GET"], include_in_schema=False)

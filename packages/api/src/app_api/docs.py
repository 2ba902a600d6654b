"""Swagger UI and ReDoc from assets that we serve: no request leaves the host, and no script is inline."""

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = "/docs-assets"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'"
)

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="{icon}">{head}</head>
<body>{body}</body>
</html>
"""


def add_docs(app: FastAPI) -> None:
    """Serve `/` (Swagger UI), `/redoc` and their assets."""
    vendor = Path(fastapi_offline.__file__).parent / "static"
    app.mount(f"{ASSETS}/vendor", StaticFiles(directory=vendor), name="docs-vendor")
    app.mount(ASSETS, StaticFiles(directory=Path(__file__).parent / "static"), name="docs-assets")

    @app.get("/", include_in_schema=False)
    async def swagger_ui() -> HTMLResponse:
        head = f'<link rel="stylesheet" href="{ASSETS}/vendor/swagger-ui.css">'
        library = f'<script src="{ASSETS}/vendor/swagger-ui-bundle.js"></script>'
        start = f'<script src="{ASSETS}/swagger.js"></script>'
        return _page(app.title, head, f'<div id="swagger-ui"></div>{library}{start}')

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> HTMLResponse:
        scripts = f'<script src="{ASSETS}/vendor/redoc.standalone.js"></script>'
        return _page(app.title, "", f'<redoc spec-url="{app.openapi_url}"></redoc>{scripts}')


def _page(title: str, head: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        _PAGE.format(title=title, icon=f"{ASSETS}/vendor/favicon.png", head=head, body=body),
        headers={"Content-Security-Policy": CSP},
    )

"""Where the API starts. The one module of this package that reads the environment."""

import uvicorn
from fastapi import FastAPI

from app_api.app import create_app
from app_api.observability import configure_logging
from app_api.settings import ApiSettings


def build() -> FastAPI:
    """Return the application that the environment describes (`uvicorn --factory app_api.main:build`)."""
    settings = ApiSettings()
    configure_logging(settings.log)
    return create_app(settings)


def serve() -> None:
    """Serve until SIGTERM, then let running requests finish for up to `APP_HTTP__DRAIN`."""
    settings = ApiSettings()
    configure_logging(settings.log)
    uvicorn.run(
        create_app(settings),
        host=settings.http.host,
        port=settings.http.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(settings.http.drain.total_seconds()),
    )

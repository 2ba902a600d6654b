"""The application, put together."""

from importlib.metadata import version
from threading import Event

from fastapi import APIRouter, FastAPI

from app_api import health
from app_api.admission import Admission
from app_api.docs import add_docs
from app_api.features.auth.accounts_router import router as accounts_router
from app_api.features.auth.router import router as auth_router
from app_api.features.jobs.operator_router import router as job_operator_router
from app_api.features.jobs.router import router as jobs_router
from app_api.features.sessions.router import router as sessions_router
from app_api.input_guard import InputGuard
from app_api.lifespan import lifespan_of
from app_api.link_page import add_link_page
from app_api.middleware import AllowedHosts, Cors, HeadAsGet, RequestContext
from app_api.problems import add_problem_handlers, any_problem
from app_api.reading import BodyLimits
from app_api.settings import ApiSettings, HttpSettings

ROUTERS: tuple[APIRouter, ...] = (
    auth_router,
    accounts_router,
    sessions_router,
    job_operator_router,  # its fixed paths before /jobs/{job_id}; guard: test_the_paths_of_operators_are_no_job_ids
    jobs_router,
    health.router,
)

CORS_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
CORS_EXPOSED = ("Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")
CORS_HEADERS = ("Authorization", "Content-Type", "X-Request-ID")


def create_app(settings: ApiSettings, *, stopping: Event | None = None) -> FastAPI:
    """Build the application; it opens nothing before its lifespan starts.

    Once `stopping` is set it asks to be sent no more requests.
    """
    stopping = stopping or Event()
    app = FastAPI(
        title="Groundwork",
        version=version("app-api"),
        lifespan=lifespan_of(settings, stopping),
        openapi_url="/openapi.json" if settings.docs_enabled else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=any_problem(),
    )
    for router in ROUTERS:
        app.include_router(router)
    if settings.docs_enabled:
        add_docs(app)
    add_link_page(app, at_root=not settings.docs_enabled)
    add_problem_handlers(app)
    add_middleware(app, settings.http, stopping)
    return app


def add_middleware(app: FastAPI, http: HttpSettings, stopping: Event) -> None:
    """Put around the application what every request passes; the last one added is the outermost."""
    app.add_middleware(HeadAsGet)  # guard: test_head_has_the_status_and_headers_of_get
    app.add_middleware(Admission, max_requests=http.max_requests, request_timeout=http.request_timeout)
    limits = BodyLimits(http.max_body, http.max_auth_body, http.body_timeout.total_seconds())
    app.add_middleware(InputGuard, limits=limits)  # guard: test_what_is_not_strict_json_is_refused
    if http.cors_origins:
        app.add_middleware(
            Cors,
            allow_origins=[str(origin).rstrip("/") for origin in http.cors_origins],
            allow_credentials=True,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_HEADERS,
            expose_headers=CORS_EXPOSED,
        )
    app.add_middleware(AllowedHosts, hosts=http.allowed_hosts)  # guard: test_another_host_is_refused
    app.add_middleware(RequestContext, https=http.https, stopping=stopping)

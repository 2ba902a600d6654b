"""The application, put together."""

from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from app_api import health
from app_api.docs import add_docs
from app_api.features.auth.router import router as auth_router
from app_api.features.jobs.operator_router import router as job_operator_router
from app_api.features.jobs.router import router as jobs_router
from app_api.input_guard import InputGuard
from app_api.lifespan import lifespan_of
from app_api.middleware import AllowedHosts, Cors, HeadAsGet, RequestContext
from app_api.problems import add_problem_handlers, any_problem
from app_api.settings import ApiSettings

ROUTERS: tuple[APIRouter, ...] = (
    auth_router,
    job_operator_router,  # its fixed paths before /jobs/{job_id}; guard: test_the_paths_of_operators_are_no_job_ids
    jobs_router,
    health.router,
)

CORS_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
CORS_HEADERS = ("Authorization", "Content-Type", "X-Request-ID")


def create_app(settings: ApiSettings) -> FastAPI:
    """Build the application; it opens nothing before its lifespan starts."""
    app = FastAPI(
        title="Groundwork",
        version=version("app-api"),
        lifespan=lifespan_of(settings),
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
    add_problem_handlers(app)
    # The last one added is the outermost.
    app.add_middleware(HeadAsGet)  # guard: test_head_has_the_status_and_headers_of_get
    app.add_middleware(InputGuard, max_body=settings.http.max_body)  # guard: test_what_is_not_strict_json_is_refused
    if settings.http.cors_origins:
        app.add_middleware(
            Cors,
            allow_origins=[str(origin).rstrip("/") for origin in settings.http.cors_origins],
            allow_credentials=True,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_HEADERS,
        )
    app.add_middleware(AllowedHosts, hosts=settings.http.allowed_hosts)  # guard: test_another_host_is_refused
    app.add_middleware(RequestContext)
    return app

"""Routers are found in the folders of features, and put in an order that hides no path."""

import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import APIRouter

from app_api.routers import found_routers, in_order
from app_runtime.discovery import FeatureError
from app_runtime.testing.plugin import MakeFeatures


def router_of(*paths: str, prefix: str = "") -> APIRouter:
    router = APIRouter(prefix=prefix)
    for path in paths:
        method, _, place = path.partition(" ")
        router.add_api_route(place, lambda: None, methods=[method])
    return router


def ordered(**routers: APIRouter) -> list[str]:
    """Return the names of the routers in the order that they are given."""
    names = {id(router): name for name, router in routers.items()}
    return [names[id(router)] for router in in_order(routers.items())]


def test_a_fixed_path_comes_before_a_parameter_that_would_take_it() -> None:
    assert ordered(
        slugs=router_of("GET /{slug}"),
        jobs=router_of("GET /{job_id}", "POST /{job_id}/cancel", prefix="/jobs"),
        queues=router_of("GET /jobs/queues", "POST /jobs/queues/{name}/pause"),
        pets=router_of("GET /pets"),
    ) == ["queues", "jobs", "pets", "slugs"]


def test_what_takes_whole_paths_comes_after_what_takes_a_part() -> None:
    """fastapi/fastapi PR #14318: routes that one router has in the right order do not clash."""
    assert ordered(
        files=router_of("GET /files/{path:path}"), file=router_of("GET /files/{file_id}", "DELETE /files/{file_id}")
    ) == ["file", "files"]
    both = router_of("GET /{slug}", "GET /{slug}/{part}", "GET /{slug}/raw/{path:path}", "GET /{path:path}")
    assert ordered(both=both) == ["both"]


def test_what_hides_nothing_keeps_its_order() -> None:
    assert ordered(
        numbers=router_of("GET /pets/{number:int}"),
        names=router_of("POST /pets/rex", "GET /pets/rex"),
        nested=router_of("DELETE /pets/{name}"),
    ) == ["numbers", "names", "nested"]


def test_a_router_within_a_router_counts() -> None:
    outer = APIRouter(prefix="/v1")
    outer.include_router(router_of("GET /{pet_id}", prefix="/pets"))
    outer.add_api_websocket_route("/pets/live", lambda: None)  # which has no methods

    assert ordered(outer=outer, fixed=router_of("GET /v1/pets/search")) == ["fixed", "outer"]


@pytest.mark.parametrize(
    ("routers", "complaint"),
    [
        (
            {"dogs": router_of("GET /pets/{dog}"), "pets": router_of("GET /pets/{pet_id}")},
            "GET /pets/{dog} in dogs and GET /pets/{pet_id} in pets are the same",
        ),
        (
            {"pets": router_of("GET /pets/{pet_id}", "GET /pets/search")},
            "GET /pets/{pet_id} in pets hides GET /pets/search in pets: write the second one first",
        ),
        (
            {"dogs": router_of("GET /a/{x}", "GET /b/1"), "pets": router_of("GET /b/{x}", "GET /a/1")},
            "these routers hide paths of each other in any order: GET /a/{x} in dogs, GET /b/{x} in pets",
        ),
    ],
)
def test_paths_that_nobody_could_ask_for_are_refused(routers: dict[str, APIRouter], complaint: str) -> None:
    with pytest.raises(FeatureError) as refused:
        in_order(routers.items())

    assert complaint in str(refused.value)


ROUTER = "from fastapi import APIRouter\nrouter = APIRouter()"


def test_a_feature_may_have_several_routers(make_features: MakeFeatures) -> None:
    package = make_features({"pets/__init__.py": "", "pets/router.py": ROUTER, "pets/admin_router.py": ROUTER})

    assert [path.rpartition("/")[2] for path, _ in found_routers(package)] == ["router.py", "admin_router.py"]


def test_a_feature_may_be_pages_of_the_console_alone(make_features: MakeFeatures) -> None:
    package = make_features({"pets/__init__.py": "", "pets/operator_pages.py": ROUTER})

    assert list(found_routers(package)) == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"pets/schemas.py": ""}, "pets: add a `router.py`"),
        ({"pets/router.py": "routes = 1"}, "pets/router.py: it has no `router`"),
    ],
)
def test_a_feature_without_a_router_is_refused(
    make_features: MakeFeatures, files: dict[str, str], complaint: str
) -> None:
    package = make_features({"pets/__init__.py": "", **files})

    with pytest.raises(FeatureError, match=complaint):
        list(found_routers(package))


@pytest.mark.measured
def test_a_process_says_in_one_line_which_feature_does_not_fit(make_features: MakeFeatures, tmp_path: Path) -> None:
    broken = tmp_path / make_features({"pets/__init__.py": "", "pets/router.py": "import nothing_like_it"})
    start = f"""
import runpy, app_api.features
app_api.features.__path__ = [{str(broken)!r}]
runpy.run_module("app_api", run_name="__main__")
"""

    process = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)

    assert process.returncode == 1
    assert process.stderr.startswith(f"error: {broken}/pets/")
    assert process.stderr.count("\n") == 1

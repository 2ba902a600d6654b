"""Resources that routes ask for by type are opened once per process, and closed at its end."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends
from starlette.routing import Route

from app_api.resources import RESOURCES, require_resources, resource
from app_api.settings import ApiSettings
from app_api.testing import client_of, run_lifespan
from app_runtime.discovery import FeatureError
from app_runtime.resources import Resource
from packages.api.tests.conftest import app_of


class Vet:
    """A client of another service."""

    name = "Dr. Dolittle"


VetDep = Annotated[Vet, Depends(resource(Vet))]

router = APIRouter(prefix="/vet")


async def get_name(vet: VetDep) -> str:
    return vet.name


@router.get("")
async def read_vet(name: Annotated[str, Depends(get_name)]) -> str:
    return name


async def test_a_route_is_given_what_it_asks_for(api_settings: ApiSettings) -> None:
    events = []

    async def resources() -> AsyncIterator[Vet]:
        events.append("opened")
        yield Vet()
        events.append("closed")

    own: dict[type, Resource] = {Vet: Resource(Vet, resources, None, "pets", "pets/resources.py")}
    app = app_of(api_settings, resources={**RESOURCES, **own})
    app.include_router(router)
    async with run_lifespan(app) as state, client_of(app, state) as client:
        answers = [(await client.get("/vet")).json() for _ in range(2)]

    assert answers == [Vet.name] * 2
    assert events == ["opened", "closed"]


def test_a_route_that_asks_for_what_nobody_gives_is_refused() -> None:
    plain = APIRouter(routes=[Route("/plain", lambda request: None)])
    require_resources([router, plain], {Vet})

    with pytest.raises(FeatureError, match=r"^/vet asks for Vet: let `resources.py` of a feature yield it"):
        require_resources([router], ())

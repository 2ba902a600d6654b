"""Resources of routes: features open them in `resources.py`, and routes get them by their type."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from app_runtime.discovery import FeatureError
from app_runtime.resources import Opened, found_resources

RESOURCES = found_resources("app_api.features")


@dataclass(frozen=True, slots=True)
class Provided[T]:
    """A dependency on a resource that a feature has opened."""

    provides: type[T]

    async def __call__(self, request: Request) -> T:
        """Return the resource."""
        opened: Opened = request.state.resources
        found: T = opened[self.provides]
        return found


def resource[T](provides: type[T]) -> Provided[T]:
    """Return the dependency on a resource of a feature: `VetDep = Annotated[Vet, Depends(resource(Vet))]`.

    Example:
        VetDep = Annotated[Vet, Depends(resource(Vet))]

        @router.post("/visits", status_code=204)
        async def book_visit(principal: PrincipalDep, vet: VetDep) -> None:
            await vet.call(principal.user_id)
    """
    return Provided(provides)


def require_resources(routers: Iterable[APIRouter], provided: Collection[type]) -> None:
    """Refuse routes with a dependency that no feature opens.

    Raises:
        FeatureError: with the path, and the type that it asks for.
    """
    for router in routers:
        for context in iter_route_contexts(router.routes):
            for asked in _asked_by(getattr(context, "dependant", None)):
                if asked not in provided:
                    raise FeatureError(
                        f"{context.path} asks for {asked.__name__}: let `resources.py` of a feature yield it"
                    )  # guard: test_a_route_that_asks_for_what_nobody_gives_is_refused


def _asked_by(dependant: Dependant | None) -> Iterator[type]:
    if dependant is None:  # a route of Starlette's
        return
    if isinstance(dependant.call, Provided):
        yield dependant.call.provides
    for dependency in dependant.dependencies:
        yield from _asked_by(dependency)

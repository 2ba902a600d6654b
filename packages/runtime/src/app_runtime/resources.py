"""Resources of features, such as clients of other services: opened once per process, and passed by their type."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from app_runtime.discovery import FeatureError, Found, find
from app_runtime.fragments import fragment_of

type Opened = Mapping[type, Any]  # Any: an instance of its key


@dataclass(frozen=True, slots=True)
class Resource:
    """A function that yields something once: `async def resources(settings: PetSettings) -> AsyncIterator[Vet]`."""

    provides: type
    function: Callable[..., AsyncIterator[Any]]  # Any: an instance of `provides`
    settings: type[BaseModel] | None
    """The settings class of its feature, if the function takes settings; else None."""
    feature: str
    path: str


def found_resources(package: str) -> dict[type, Resource]:
    """Return the resources of features by type: the async generators in their `resources.py`.

    Raises:
        FeatureError: a file has no resource, a function has no return type, or two yield the same type.
    """
    resources: dict[type, Resource] = {}
    fragments = {found.feature: fragment_of(found) for found in find(package, "settings")}
    for found in find(package, "resources"):
        functions = [value for name, value in vars(found.module).items() if _is_resource(name, value, found)]
        if not functions:
            raise FeatureError(
                f"{found.path}: add `async def resources(settings: …) -> AsyncIterator[…]` with a `yield`"
            )
        for function in functions:
            resource = _resource(function, found, fragment=fragments.get(found.feature))
            if other := resources.get(resource.provides):
                raise FeatureError(
                    f"{found.path}: there is a {resource.provides.__name__} of {other.path}: let one of them yield a "
                    "class of its own"
                )
            resources[resource.provides] = resource
    return resources


@asynccontextmanager
async def open_resources(resources: Mapping[type, Resource], settings: BaseModel) -> AsyncIterator[Opened]:
    """Open all resources in their order, and close them in the opposite order."""
    async with AsyncExitStack() as stack:
        opened: dict[type, Any] = {}  # Any: see Opened
        for provides, resource in resources.items():
            arguments = []
            if resource.settings is not None:
                arguments = [getattr(settings, resource.feature, None) or resource.settings()]
            opened[provides] = await stack.enter_async_context(asynccontextmanager(resource.function)(*arguments))
        yield opened


def _is_resource(name: str, value: object, found: Found) -> bool:
    is_public = not name.startswith("_") and getattr(value, "__module__", None) == found.module.__name__
    return is_public and inspect.isasyncgenfunction(value)


def _resource(
    function: Callable[..., AsyncIterator[Any]], found: Found, *, fragment: type[BaseModel] | None
) -> Resource:  # Any: see Resource
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise FeatureError(f"{found.path}: {function.__name__}: {error}: import it at run time too") from None
    yields = hints.pop("return", None)
    provided = get_args(yields)[0] if get_origin(yields) in {AsyncIterator, AsyncGenerator} else None
    if not inspect.isclass(provided):
        raise FeatureError(f"{found.path}: {function.__name__} has to say `-> AsyncIterator[…]` with a class")
    settings = [hints.get(name) for name in inspect.signature(function).parameters]
    # No code would read another class from the environment, so it would always have its defaults.
    if settings and (fragment is None or settings != [fragment]):
        raise FeatureError(
            f"{found.path}: {function.__name__} takes nothing, or `settings` of the class in `settings.py`"
        )
    return Resource(provided, function, settings[0] if settings else None, found.feature, found.path)

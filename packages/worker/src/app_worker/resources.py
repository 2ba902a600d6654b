"""Resources of handlers: features open them in `resources.py`, and handlers get them by their type."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from app_runtime.discovery import FeatureError
from app_runtime.resources import Opened, found_resources
from app_worker.registry import Handler

FEATURES = "app_worker.features"
RESOURCES = found_resources(FEATURES)


def needs_of(handler: Handler) -> Mapping[str, type]:
    """Return the parameters of a handler after its job and payload, each with the type that it asks for.

    Raises:
        FeatureError: a parameter has no type.
    """
    asked = list(inspect.signature(handler.function).parameters.values())[2:]
    asked = [parameter for parameter in asked if parameter.default is parameter.empty]
    if not asked:
        return {}
    try:
        typed = inspect.signature(handler.function, eval_str=True).parameters
    except NameError as error:
        raise FeatureError(f"{_name_of(handler)}: {error}: import it at run time too") from None
    for parameter in asked:
        if not inspect.isclass(typed[parameter.name].annotation) or parameter.annotation is parameter.empty:
            raise FeatureError(f"{_name_of(handler)}: give `{parameter.name}` the type of what it is to be given")
    return {parameter.name: typed[parameter.name].annotation for parameter in asked}


def require_resources(handlers: Iterable[Handler], provided: Collection[type]) -> None:
    """Refuse handlers with a parameter that no feature provides.

    Raises:
        FeatureError: with the handler, and the type that it asks for.
    """
    for handler in handlers:
        if missing := [asked.__name__ for asked in needs_of(handler).values() if asked not in provided]:
            raise FeatureError(
                f"{_name_of(handler)} asks for {', '.join(missing)}: let `resources.py` of a feature yield it"
            )  # guard: test_a_handler_that_asks_for_what_nobody_gives_is_refused


def supplied(handlers: Iterable[Handler], opened: Opened) -> Iterator[Handler]:
    """Yield the handlers with their resources bound; a handler that lacks one raises an error when called."""
    for handler in handlers:
        needs = needs_of(handler)
        if missing := [asked.__name__ for asked in needs.values() if asked not in opened]:
            why = f"{handler.payload_class.kind}: give {', '.join(missing)} by the fixture `job_resources`"
            yield replace(handler, function=_failing(why))
        elif needs:
            given = {name: opened[asked] for name, asked in needs.items()}
            yield replace(handler, function=functools.partial(handler.function, **given))
        else:
            yield handler


def _failing(why: str) -> Callable[..., Awaitable[None]]:
    async def fail(*_: object) -> None:
        raise LookupError(why)

    return fail


def _name_of(handler: Handler) -> str:
    function = handler.function
    while isinstance(function, functools.partial):
        function = function.func
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__name__', function)}"

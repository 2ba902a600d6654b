"""Settings of features: those in `settings.py` of the folder `pets` are read from `APP_PETS__…`."""

import inspect
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from app_runtime.configuration import PREFIX, variables
from app_runtime.discovery import FeatureError, Found, find


def with_fragments[S: BaseModel](model: type[S], package: str) -> type[S]:
    """Return the settings class of an application, with a field for each feature that has settings.

    Raises:
        FeatureError: a `settings.py` has no settings class, or one of its settings has the name of another.
    """
    fields: dict[str, Any] = {}  # Any: of pydantic
    taken = {variable.name for variable in variables(model)}
    for found in find(package, "settings"):
        if found.feature in model.model_fields:
            raise FeatureError(f"{found.path}: {PREFIX}{found.feature.upper()}__… is taken: rename the folder")
        fragment = fragment_of(found)
        taken |= _not_taken(found, fragment, taken)
        fields[found.feature] = (fragment, _default_of(fragment))
    return create_model(model.__name__, __base__=model, **fields) if fields else model


def names_elsewhere(model: type[BaseModel], package: str) -> Iterator[str]:
    """Yield the names of settings of features in this package that the application does not read itself.

    Another application reads them, and both may get the same variables.
    """
    for found in find(package, "settings"):
        if found.feature not in model.model_fields:
            yield from (variable.name for variable in variables(fragment_of(found), keys=(found.feature,)))


def _not_taken(found: Found, fragment: type[BaseModel], taken: Collection[str]) -> set[str]:
    """Return the names of the settings of a feature.

    Raises:
        FeatureError: another setting has one of them, or would be read from the file that one of them names.
    """
    names = {variable.name for variable in variables(fragment, keys=(found.feature,))}
    for name in sorted(names):
        if name in taken:
            raise FeatureError(f"{found.path}: {name} is a setting already: give its field another name")
        if f"{name}_FILE" in names:
            raise FeatureError(
                f"{found.path}: {name}_FILE names the file that has the value of {name}: give its field another name"
            )
    return names


def fragment_of(found: Found) -> type[BaseModel]:
    """Return the class of settings in the `settings.py` of a feature.

    Raises:
        FeatureError: the file has no such class, or several.
    """
    classes: list[type[BaseModel]] = [value for name, value in vars(found.module).items() if _is_fragment(name, value)]
    own = [value for value in classes if value.__module__ == found.module.__name__]
    if len(own or classes) != 1:
        raise FeatureError(f"{found.path}: it needs one class of settings: `class PetSettings(BaseModel, frozen=True)`")
    (fragment,) = own or classes
    return fragment


def _is_fragment(name: str, value: object) -> bool:
    return name.endswith("Settings") and inspect.isclass(value) and issubclass(value, BaseModel)


def _default_of(fragment: type[BaseModel]) -> Any:  # Any: of pydantic
    try:
        return fragment()
    except ValidationError:  # a field has no default
        return ...

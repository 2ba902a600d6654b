"""The ids of operations in the API's description: `feature_verb`, as clients name their functions (ADR-0056)."""

import re

from fastapi.routing import APIRoute


def operation_id(route: APIRoute) -> str:
    """Return `sessions_list` for a function `list_sessions` whose tag is `sessions`.

    Only the part of a tag before a colon counts: routes with `jobs: operators` belong to `jobs`.
    """
    tag = str(route.tags[0]) if route.tags else ""
    feature = re.sub(r"\W+", "_", tag.partition(":")[0].strip().lower())
    if not feature:
        return route.name
    one = re.sub(r"ies$", "y", feature).removesuffix("s")
    verb = re.sub(rf"(?<![a-z])({feature}|{one})(?![a-z])", "", route.name)
    return "_".join([feature, *filter(None, verb.split("_"))])

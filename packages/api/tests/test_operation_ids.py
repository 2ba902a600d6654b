"""Operations are called `feature_verb`, each once: a client that is generated has a function of that name."""

import re
from collections import Counter

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from app_api.operation_ids import operation_id


@pytest.mark.parametrize(
    ("tags", "name", "expected"),
    [
        (["sessions"], "list_sessions", "sessions_list"),
        (["sessions"], "revoke_session", "sessions_revoke"),
        (["sessions"], "revoke_other_sessions", "sessions_revoke_other"),
        (["jobs: operators"], "pause_queue", "jobs_pause_queue"),
        (["stories"], "read_story", "stories_read"),
        (["api-keys"], "create_api_key", "api_keys_create"),
        (["cat"], "concatenate", "cat_concatenate"),
        ([], "read_it", "read_it"),
    ],
)
def test_an_operation_is_called_by_its_feature_and_what_it_does(tags: list[str], name: str, expected: str) -> None:
    async def endpoint() -> None: ...

    assert operation_id(APIRoute("/", endpoint, name=name, tags=[*tags])) == expected


def test_every_operation_has_a_name_of_its_own_that_begins_with_its_feature(app: FastAPI) -> None:
    operations = [operation for path in app.openapi()["paths"].values() for operation in path.values()]
    names = Counter(operation["operationId"] for operation in operations)

    assert [name for name, count in names.items() if count > 1] == []
    for operation in operations:
        feature = operation["tags"][0].partition(":")[0]
        assert re.fullmatch(rf"{feature}(_[a-z]+)+", operation["operationId"]), operation["operationId"]
    assert {"auth_register", "auth_login", "auth_read_me", "sessions_list", "jobs_list", "jobs_cancel"} <= names.keys()


def test_two_operations_of_one_name_are_not_described(app: FastAPI) -> None:
    router = APIRouter(tags=["jobs"])
    router.add_api_route("/twin", lambda: None, name="list_jobs")
    app.include_router(router)

    with pytest.warns(UserWarning, match="Duplicate Operation ID jobs_list"):
        app.openapi()


def test_every_model_of_the_description_has_a_name_of_its_own(app: FastAPI) -> None:
    """Of two with one name the description has the paths of their modules, and a client cannot be generated."""
    assert [name for name in app.openapi()["components"]["schemas"] if "__" in name] == []

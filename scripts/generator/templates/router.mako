"""The caller's ${words.many}."""

from uuid import UUID

from fastapi import APIRouter

from app_api.dependencies import CursorDep, LimitDep, PrincipalDep, SessionDep
from app_api.features.${words.plural} import service
from app_api.features.${words.plural}.errors import ${f"{words.model}NotFound, {taken}" if unique else f"{words.model}NotFound"}
from app_api.features.${words.plural}.schemas import ${words.model}Create, ${words.model}Page, ${words.model}Read, ${words.model}Update
from app_api.problems import problem_responses
from app_auth.errors import InvalidToken
from app_db.errors import Unauthenticated
from app_db.features.${words.plural}.repository import ${words.model}Repository
from app_db.outage import DatabaseUnavailable

router = APIRouter(
    prefix="/${words.path}",
    tags=["${words.many}"],
    responses=problem_responses(Unauthenticated, InvalidToken, DatabaseUnavailable),
)


@router.post("", status_code=201${f", responses=problem_responses({taken})" if unique else ""})
async def create_${words.singular}(body: ${words.model}Create, principal: PrincipalDep, session: SessionDep) -> ${words.model}Read:
    """Add ${words.a_one}."""
    ${words.singular} = await service.add_${words.singular}(session, principal, ${", ".join(f"{field.name}=body.{field.name}" for field in fields)})
    return ${words.model}Read.model_validate(${words.singular})


@router.get("")
async def list_${words.plural}(
    principal: PrincipalDep, session: SessionDep, after: CursorDep, limit: LimitDep = 20
) -> ${words.model}Page:
    """List the caller's ${words.many}, newest first."""
    page = await ${words.model}Repository(session).owned_by(principal.user_id, after=after, limit=limit)
    return ${words.model}Page.model_validate(page)


@router.get("/{${words.singular}_id}", responses=problem_responses(${words.model}NotFound))
async def read_${words.singular}(${words.singular}_id: UUID, principal: PrincipalDep, session: SessionDep) -> ${words.model}Read:
    """Show one of the caller's ${words.many}."""
    return ${words.model}Read.model_validate(await service.show_${words.singular}(session, principal, ${words.singular}_id))


@router.patch("/{${words.singular}_id}", responses=problem_responses(${words.model}NotFound${f", {taken}" if unique else ""}))
async def update_${words.singular}(
    ${words.singular}_id: UUID, body: ${words.model}Update, principal: PrincipalDep, session: SessionDep
) -> ${words.model}Read:
    """Change one of the caller's ${words.many}; absent fields stay as they are."""
    ${words.singular} = await service.change_${words.singular}(session, principal, ${words.singular}_id, changes=body)
    return ${words.model}Read.model_validate(${words.singular})


@router.delete("/{${words.singular}_id}", status_code=204, responses=problem_responses(${words.model}NotFound))
async def delete_${words.singular}(${words.singular}_id: UUID, principal: PrincipalDep, session: SessionDep) -> None:
    """Delete one of the caller's ${words.many}."""
    await service.remove_${words.singular}(session, principal, ${words.singular}_id)

"""The first page."""

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from app_api.console.dependencies import PageDep
from app_api.console.responses import see_other

router = APIRouter()


@router.get("")
@router.get("/")
async def home(page: PageDep) -> RedirectResponse:
    """Lead to the first page of the navigation."""
    return see_other(page.console.links_for(page.viewer)[0].path)

"""Lists on the wire."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from app_db.paging import Cursor


def _text_of(cursor: Cursor | None) -> str | None:
    return None if cursor is None else str(cursor)


class Page[T](BaseModel):
    """One page of a list, newest first; `next` is the cursor of the following one, null on the last.

    Derive from it to give it a name in the API's description: `class JobPage(Page[JobRead])`. It is made of a Slice.

    Example:
        class UserRead(BaseModel):
            model_config = ConfigDict(from_attributes=True)
            email: str

        class UserPage(Page[UserRead]):
            pass

        page = UserPage.model_validate(await UserRepository(session).page(after=None, limit=20))
    """

    model_config = ConfigDict(from_attributes=True)

    items: list[T]
    next: Annotated[str | None, BeforeValidator(_text_of)]

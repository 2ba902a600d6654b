"""${words.many.capitalize()}."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Index, Numeric, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app_db.base import Base, Timestamps
from app_db.growth import Growth
from app_db.types import KEY_TEXT, new_id

SCHEMA_REVISION = ""
"""The newest revision that this feature needs."""


class ${words.model}(Timestamps, Base):
    """${words.a_one.capitalize()} and whose it is."""

    __tablename__ = "${words.plural}"
    __growth__ = Growth("${words.a_one}", until="it is deleted, or its account is")
% if unique:
    __table_args__ = (UniqueConstraint("owner_id", "${unique.name}"), Index(None, "owner_id", "id"))
% else:
    __table_args__ = (Index(None, "owner_id", "id"),)
% endif

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
% for field in fields:
    ${field.name}: Mapped[${field.python}]${f" = mapped_column({field.column})" if field.column else ""}
% endfor

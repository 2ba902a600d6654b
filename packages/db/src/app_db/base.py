"""The declarative base of every table."""

from datetime import datetime
from typing import ClassVar, Final

from sqlalchemy import DateTime, MetaData, event, func
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, mapped_column

from app_db.growth import Growth

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


MOVES_WITH_CLOCK: Final = {"info": {"moves_with_clock": True}}
"""For `__table_args__`: rows live from `created_at` to `expires_at`. If Postgres's clock is set back,
`app_db.jobs.clock_steps` sets both back too."""


class Base(DeclarativeBase):
    """The base of every model; it names every constraint, so that `violation_as` can match the name."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True)}
    __growth__: ClassVar[Growth | None] = None
    """What makes the table grow, and what bounds it."""


# A listener, because a model with its own `__mapper_args__` would replace those of Base.
@event.listens_for(Base, "instrument_class", propagate=True)
def _return_what_the_server_makes(mapper: Mapper[Base], _: type[Base]) -> None:
    """Let an UPDATE return values that the server computes, as an INSERT does: reading them later cannot load them."""
    mapper.eager_defaults = True  # guard: test_what_the_server_makes_in_an_update_is_there


class Timestamps:
    """`created_at` and `updated_at`, both by Postgres's clock; a flush renews `updated_at`."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now(), sort_order=91)

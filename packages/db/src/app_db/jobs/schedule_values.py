"""What operators say of a cron that they add: checked before it is stored, by the API and the command line alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app_db.errors import Invalid
from app_db.jobs.bounds import SMALLINT, require_name
from app_db.jobs.payload import JobPayload, checked_json
from app_db.jobs.timetables import CatchUp, NoTicks, Timetable, UnknownZone

LARGEST_PAYLOAD = 10_000
"""Characters of JSON: lists of crons show their payloads."""


@dataclass(frozen=True, slots=True)
class ScheduleFault:
    """What is wrong with one value; it never repeats the value."""

    path: tuple[str | int, ...]
    """As in `("payload", "user_id")`."""
    code: str
    detail: str

    @property
    def pointer(self) -> str:
        """The path as RFC 6901 writes it, from the root of a body."""
        return "/".join(["#", *(str(step).replace("~", "~0").replace("/", "~1") for step in self.path)])


class InvalidSchedule(Invalid):
    """The cron cannot be stored as it is."""

    code = "invalid_cron"

    def __init__(self, faults: list[ScheduleFault]) -> None:
        self.faults = faults

    @property
    def members(self) -> dict[str, Any]:  # Any: JSON
        """What is wrong with each value."""
        return {"errors": [{"pointer": each.pointer, "code": each.code, "detail": each.detail} for each in self.faults]}

    def reason(self) -> str:
        """Return all that is wrong as one line."""
        return "; ".join(f"{'.'.join(map(str, each.path))}: {each.detail}" for each in self.faults)


@dataclass(frozen=True, slots=True)
class ScheduleValues:
    """A cron as somebody has typed it."""

    kind: str
    expression: str
    payload: str = "{}"
    """JSON."""
    timezone: str = "UTC"
    queue: str = "default"
    priority: int = 2
    catch_up: CatchUp = CatchUp.ONE
    overlap: bool = True


def checked_payload(
    name: str, values: ScheduleValues, payload_classes: Mapping[str, type[JobPayload]]
) -> tuple[JobPayload, str]:
    """Return the payload, and its JSON, once everything about the cron is right.

    Raises:
        InvalidSchedule: with all that is wrong.
    """
    faults = [*_name_faults(name, ("name",)), *_faults_of(values)]
    payload_class = payload_classes.get(values.kind)
    if payload_class is None:
        faults.append(ScheduleFault(("kind",), "unknown_kind", "There is no such kind of job."))
        raise InvalidSchedule(faults)
    if payload_class.is_encrypted:
        detail = "Its payloads are encrypted, and a cron in the table would keep one in plain text: write it in code."
        raise InvalidSchedule(
            [*faults, ScheduleFault(("kind",), "encrypted_kind", detail)]
        )  # guard: test_a_cron_of_an_encrypted_kind_is_not_added
    if len(values.payload) > LARGEST_PAYLOAD:
        detail = f"It has more than {LARGEST_PAYLOAD} characters."
        raise InvalidSchedule([*faults, ScheduleFault(("payload",), "too_long", detail)])
    try:
        payload = payload_class.model_validate_json(values.payload)
        stored = checked_json(payload)
    except ValueError as error:
        raise InvalidSchedule([*faults, *_payload_faults(error)]) from None
    if faults:
        raise InvalidSchedule(faults)
    return payload, stored


def _faults_of(values: ScheduleValues) -> Iterator[ScheduleFault]:
    try:
        Timetable(values.expression).check()
    except NoTicks as error:
        yield ScheduleFault(("expression",), "no_ticks", f"It never ticks: {error}")
    try:
        Timetable("* * * * *", values.timezone).check()
    except UnknownZone:
        yield ScheduleFault(("timezone",), "unknown_timezone", "There is no such time zone.")
    yield from _name_faults(values.queue, ("queue",))
    if not -SMALLINT <= values.priority < SMALLINT:
        detail = f"It is not between {-SMALLINT} and {SMALLINT - 1}."
        yield ScheduleFault(("priority",), "out_of_range", detail)
    if values.catch_up is CatchUp.ALL and not values.overlap:
        detail = "It cannot catch up with all ticks when its jobs must not overlap."
        yield ScheduleFault(("overlap",), "catches_up_with_all", detail)


def _name_faults(name: str, path: tuple[str]) -> Iterator[ScheduleFault]:
    try:
        require_name(name, "it")
    except ValueError:
        yield ScheduleFault(path, "not_storable", "A name has 1 to 200 characters, and none is U+0000.")


def _payload_faults(error: ValueError) -> list[ScheduleFault]:
    if not isinstance(error, ValidationError):
        return [ScheduleFault(("payload",), "not_storable", str(error))]
    return [
        ScheduleFault(("payload", *each["loc"]), each["type"], _sentence(each["type"], each["msg"]))
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _sentence(code: str, message: str) -> str:
    """Return Pydantic's sentence without the remark of a parser at its end, which may quote what was typed."""
    return message.split(", ", maxsplit=1)[0] if code.endswith("_parsing") else message

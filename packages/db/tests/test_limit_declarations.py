"""What a payload class may declare as its limit, and the key that its jobs share."""

from datetime import timedelta

import pytest

from app_db.jobs.limits import Limit, key_of, parse_rate
from app_db.jobs.payload import JobPayload
from app_db.types import new_id


class Call(JobPayload, limit=Limit(running=2, per="clinic")):
    """A call to a clinic that takes two at once."""

    kind = "test"
    clinic: str = "ann"


class Mail(JobPayload, limit=Limit(rate="3/m", per="owner_id")):
    """A mail of an owner who may send three a minute."""

    kind = "test.mail"


@pytest.mark.parametrize(
    "terms", [{}, {"running": 0}, {"running": 2**31}, {"rate": "0/m"}, {"rate": "1001/m"}, {"rate": "1/w"}]
)
def test_a_limit_that_is_none_is_refused(terms: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"limit|rate"):
        Limit(**terms)  # type: ignore[arg-type]  # wrong on purpose


def test_a_limit_per_a_field_that_the_payload_has_not_is_refused() -> None:
    with pytest.raises(TypeError, match="has no field shop"):

        class Sale(JobPayload, limit=Limit(running=1, per="shop")):
            kind = "test.sale"


def test_a_rate_is_a_number_and_a_time() -> None:
    assert parse_rate("100/m") == (100, timedelta(minutes=1))


def test_the_key_is_the_kind_and_the_value() -> None:
    ada = new_id()
    limits = {"owner": (Mail.limited, Mail()), "value": (Call.limited, Call(clinic="ann"))}

    keys = {name: key_of("k", limit, payload, ada) for name, (limit, payload) in limits.items() if limit}

    assert keys == {"owner": f"k:{ada}", "value": "k:ann"}
    assert key_of("k", Limit(running=1), Mail(), ada) == "k"
    assert key_of("k", Limit(running=1, per="owner_id"), Mail(), None) == "k:null"
    assert len(key_of("k", Limit(running=1, per="clinic"), Call(clinic="a b" * 99), None)) == 34


def test_a_subclass_has_a_limit_of_its_own_or_none() -> None:
    class Video(Call):
        kind = "test.video"

    assert Video.limited is None

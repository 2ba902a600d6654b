"""Who asks: a person or a machine."""

from app_auth.machines import Machine, traces_of
from app_auth.principal import Caller, Principal
from app_db.models import Role
from app_db.types import new_id, utcnow


def test_the_audit_tells_a_key_from_a_person() -> None:
    user_id, session_id, key_id = new_id(), new_id(), new_id()
    person = Principal(user_id, "ada@example.test", Role.USER, session_id, utcnow())
    machine = Machine(user_id, "ada@example.test", Role.USER, key_id, "ci", frozenset(), utcnow())

    assert traces_of(person) == {"session_id": session_id}
    assert traces_of(machine) == {"key": str(key_id)}
    assert traces_of(Caller(user_id, "ada@example.test", Role.USER)) == {}

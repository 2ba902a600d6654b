"""Login sessions begin in one module, so that no way into an account can forget the second factor."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))
DOOR = "auth/src/app_auth/admission.py"


def beginnings(source: str) -> Iterator[str]:
    """Yield what makes a login session: a call of its class, an INSERT of it, or of its table."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="UserSession") | ast.Attribute(attr="UserSession")):
                yield ast.unparse(node)
            case ast.Call(func=ast.Name(id="insert") | ast.Attribute(attr="insert"), args=[table, *_]) if (
                "UserSession" in ast.unparse(table)
            ):
                yield ast.unparse(node)
            case ast.Constant(value=str(text)) if "insert into user_sessions" in " ".join(text.lower().split()):
                yield text
            case _:
                continue


def test_login_sessions_begin_in_one_place() -> None:
    found = {path.relative_to(ROOT / "packages").as_posix() for path in SOURCES if any(beginnings(path.read_text()))}

    assert found == {DOOR}


@pytest.mark.parametrize(
    "line",
    [
        "UserSession(id=new_id())",
        "models.UserSession()",
        "insert(UserSession).values(id=1)",
        "sa.insert(UserSession.__table__)",
        "text('INSERT  INTO user_sessions (id) VALUES (:id)')",
    ],
)
def test_another_place_would_be_found(line: str) -> None:
    assert [*beginnings(line)]

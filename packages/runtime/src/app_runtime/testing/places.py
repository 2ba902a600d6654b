"""The place of data outside its folder: if root starts Postgres, it runs as a user who cannot reach the checkout.

A folder and its place share a token. If the folder has no token, such as after `rm -rf .data`, the data in the place
is of no use: the peppers of its accounts are gone.
"""

import secrets
from contextlib import suppress
from pathlib import Path

from app_runtime.testing.binaries import private_folder

TOKEN = "place"  # noqa: S105  # the name of a file
HOME = "home"


def is_of_another_state(home: Path, place: Path) -> bool:
    """Whether the place holds data of no folder, or of an earlier folder of the same path."""
    there = _read(place / TOKEN)
    return bool(there) and there != _read(home / TOKEN)


def follow(home: Path, place: Path) -> None:
    """Move the data of a folder that was moved; a copy of a folder begins without data."""
    token = _read(home / TOKEN)
    if not token or place.exists():
        return
    for other in place.parent.glob(f"{place.name.partition('-')[0]}-*/{TOKEN}"):
        owner = Path(_read(other.with_name(HOME)))
        if _read(other) == token and _read(owner / TOKEN) != token:
            other.parent.rename(place)
            return
    (home / TOKEN).unlink()


def join(home: Path, place: Path, *, mode: int) -> None:
    """Write the common token into both, and the folder's path into the place."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    private_folder(place, mode=mode)
    token = _read(home / TOKEN) or secrets.token_hex(8)
    for path, text in ((home / TOKEN, token), (place / TOKEN, token), (place / HOME, str(home))):
        path.touch(mode=0o600)
        path.write_text(text)


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""

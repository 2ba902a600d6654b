"""The files that pages load: each under the digest of its bytes, so that browsers may keep it for ever."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from app_api.console.paths import ROOT

MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_EVER: Final = "public, max-age=31536000, immutable"

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of `static/`."""

    name: str
    digest: str
    content: bytes
    media_type: str

    @property
    def path(self) -> str:
        """Its address, which is another one when its bytes change."""
        return f"{ROOT}/assets/{self.digest}/{self.name}"


def read_assets(folder: Path) -> Mapping[str, Asset]:
    """Return the files of a folder by name."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in MEDIA_TYPES]
    contents = {path.name: path.read_bytes() for path in files}
    return {
        path.name: Asset(
            path.name,
            sha256(contents[path.name]).hexdigest()[:16],
            contents[path.name],
            MEDIA_TYPES[path.suffix],
        )
        for path in files
    }


@router.get("/assets/{digest}/{name}")
async def read_asset(digest: str, name: str, request: Request) -> Response:
    """Return a file. During a deployment a page of another release may ask for other bytes: it gets none of ours."""
    assets: Mapping[str, Asset] = request.app.state.console.assets
    asset = assets.get(name)
    if asset is None or asset.digest != digest:
        raise HTTPException(404)
    return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": FOR_EVER})

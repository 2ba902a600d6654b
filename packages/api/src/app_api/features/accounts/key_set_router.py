"""The public keys of access tokens, so that other services verify them without a secret of ours (RFC 7517)."""

import json
from hashlib import sha256

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app_api.dependencies import AuthDep
from app_auth.keys import KEPT_FOR

router = APIRouter(prefix="/.well-known", tags=["auth"])


class PublicKey(BaseModel):
    """A key that verifies (RFC 7517, 4; RFC 8037)."""

    kty: str
    crv: str
    x: str
    y: str | None = None
    kid: str
    alg: str
    use: str = "sig"


class KeySet(BaseModel):
    """All keys that verify, also those that do not sign yet."""

    keys: list[PublicKey]


@router.get("/jwks.json", response_model=KeySet, responses={304: {"description": "The keys are the same"}})
async def read_key_set(auth: AuthDep, request: Request) -> Response:
    """Return the public keys of access tokens; empty if all are secrets. May be kept for five minutes."""
    body = json.dumps({"keys": auth.access_tokens.public_keys}).encode()
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": f"public, max-age={KEPT_FOR}"}
    known = request.headers.get("if-none-match", "")  # a validator of caches, no parameter of ours
    if known.strip() == "*" or tag in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)

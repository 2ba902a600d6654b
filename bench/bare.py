"""The baselines, served exactly as the API is: a FastAPI app that does nothing, and our authentication on asyncpg.

python -m bench.bare PORT       with the API's environment
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.security import OAuth2PasswordBearer

from app_api.features.accounts.schemas import UserRead
from app_api.settings import ELSEWHERE, ApiSettings
from app_auth.tokens import AccessTokens
from app_runtime.configuration import load

QUERY = """
    SELECT users.id, users.email, users.role, user_sessions.id, user_sessions.created_at, user_sessions.idle_expires_at
    FROM users LEFT JOIN user_sessions ON user_sessions.user_id = users.id AND user_sessions.id = $1
    WHERE users.id = $2
"""

settings = load(ApiSettings, os.environ, elsewhere=ELSEWHERE)
tokens = AccessTokens(settings.auth)
bearer = OAuth2PasswordBearer(tokenUrl="/auth/access-token")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:  # Any: asyncpg has no types
    """Open a pool of the size of the API's."""
    size = settings.database.read_pool_size
    async with asyncpg.create_pool(settings.database.direct_dsn, min_size=size, max_size=size) as pool:
        yield {"pool": pool}


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.get("/bare")
async def bare() -> str:
    """Return a string."""
    return "ok"


async def find_user(request: Request, token: Annotated[str, Depends(bearer)]) -> Any:
    """Verify the token as the API does, and run the same query."""
    claims = tokens.verify(token)
    return await request.state.pool.fetchrow(QUERY, claims.session_id, claims.user_id)


@app.get("/raw")
async def raw(user: Annotated[Any, Depends(find_user)]) -> UserRead:
    """Return what GET /auth/me returns."""
    return UserRead(user_id=user[0], email=user[1])


uvicorn.run(
    app, port=int(sys.argv[1]), loop="uvloop", http="httptools", log_config=None, access_log=False, server_header=False
)

"""The yardstick: what FastAPI costs when it does nothing. Served exactly as the API is."""

import sys

import uvicorn
from fastapi import FastAPI

app = FastAPI(openapi_url=None)


@app.get("/bare")
async def bare() -> str:
    """Return a string."""
    return "ok"


uvicorn.run(
    app, port=int(sys.argv[1]), loop="uvloop", http="httptools", log_config=None, access_log=False, server_header=False
)

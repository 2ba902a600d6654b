#!/bin/sh
# FastAPI 0.165.0: one router with the prefix /pets is included under /v1 and under /v2. A middleware, a metric or a log takes the
# route of a request from scope["route"].path, as it is done everywhere.
# Expected: /v1/pets/{id} and /v2/pets/{id}, the paths that the document of OpenAPI has.
# Seen: /pets/{id} for both, the path as its own router declares it, so that the two routes are one. The span that FastAPI itself
# makes has http.route /v1/pets/{id}.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fastapi==0.165.0 starlette==1.10.0 opentelemetry-sdk==1.45.2
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio

from fastapi import APIRouter, FastAPI, Request
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
router = APIRouter(prefix="/pets")
paths = []


@router.get("/{id}")
async def pet(id: int, request: Request) -> int:
    paths.append(request.scope["route"].path)
    return id


app = FastAPI()
for prefix in ("/v1", "/v2"):
    app.include_router(router, prefix=prefix)


async def ask(path: str) -> None:
    async def receive():
        return {"type": "http.request"}

    async def send(message):
        assert message.get("status", 200) == 200

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path, "headers": []}
    await app({**scope, "raw_path": path.encode(), "query_string": b"", "server": ("a", 80)}, receive, send)


for path in ("/v1/pets/1", "/v2/pets/2"):
    asyncio.run(ask(path))
spans = [span.attributes["http.route"] for span in exporter.get_finished_spans() if "http.route" in span.attributes]
documented = list(app.openapi()["paths"])
print("scope:", paths, "| FastAPI's spans:", spans, "| document:", documented)
if paths != ["/pets/{id}"] * 2 or spans != documented or documented != ["/v1/pets/{id}", "/v2/pets/{id}"]:
    raise SystemExit("CHANGED: the path of the route in the scope has its prefixes, or those of spans and document differ")
print("as seen")
PYTHON

# An image of one package: `docker build --build-arg PACKAGE=api .`, or worker; `--target migrate` brings the schema up to date.
# Built by the classic builder as well as by BuildKit: no mounts, no heredocs. tests/packaging/test_image.py says what holds.
ARG PYTHON_VERSION=3.13
ARG PACKAGE=api

FROM python:${PYTHON_VERSION}-slim AS builder
WORKDIR /src
# The uv of scripts/uv.sh, from where all packages come: one source less to trust and to reach.
COPY deploy/requirements.lock ./
RUN pip install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements.lock
# Compiled here, for nobody can write there; by the hash of the source, so that the same source gives the same layer.
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 PYC_INVALIDATION_MODE=UNCHECKED_HASH
RUN uv venv --quiet /app
# The kernel keeps from the first process of a container each signal that it has no handler for, and imports take a second:
# Python runs this before all else.
RUN mkdir /first && printf '%s\n' 'import os' 'import signal' 'if os.getpid() == 1:' \
    '    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))' > /first/sitecustomize.py

# What the package needs from elsewhere: as long as its lock file stays, so does this layer. Our code is found by a file for
# Python itself (.pth), not by PYTHONPATH: who sets that for a container, as operators of tracing do, would hide it.
FROM builder AS dependencies
ARG PACKAGE
COPY packages/${PACKAGE}/requirements.lock ./
RUN uv pip install --quiet --python /app --require-hashes --no-deps -r requirements.lock && rm /app/.lock
RUN echo /code > "$(echo /app/lib/python*/site-packages)/code.pth"

# Wheels of ours, as a release builds them: each without the workspace, and by uv's own backend, so nothing is fetched.
FROM builder AS code
ARG PACKAGE
COPY packages/runtime packages/runtime
COPY packages/db packages/db
COPY packages/auth packages/auth
COPY packages/${PACKAGE} packages/${PACKAGE}
RUN for package in runtime db auth ${PACKAGE}; do uv build --quiet --offline --wheel --no-sources --out-dir /wheels packages/$package || exit 1; done \
 && uv pip install --quiet --python /app --target /code --no-deps /wheels/*.whl && rm /code/.lock \
 && cp /first/sitecustomize.py /code && chmod -R a+rX /code

FROM builder AS migrate-dependencies
COPY migrations/requirements.lock ./
RUN uv pip install --quiet --python /app --require-hashes --no-deps -r requirements.lock && rm /app/.lock
RUN echo /code > "$(echo /app/lib/python*/site-packages)/code.pth"

FROM builder AS migrate-code
COPY packages/runtime packages/runtime
COPY packages/db packages/db
RUN for package in runtime db; do uv build --quiet --offline --wheel --no-sources --out-dir /wheels packages/$package || exit 1; done \
 && uv pip install --quiet --python /app --target /code --no-deps /wheels/*.whl && rm /code/.lock \
 && cp /first/sitecustomize.py /code && chmod -R a+rX /code

# What is copied as it is has the modes of the clone, which another user could not read after `umask 077`.
FROM builder AS migrate-files
COPY migrations /srv/migrations
COPY pyproject.toml /srv/
RUN chmod -R a+rX /srv

FROM builder AS files
COPY deploy/health.py /srv/
RUN chmod -R a+rX /srv

# Nothing is installed from here on: no uv, no compiler, no root, and nothing that has to be written but /tmp.
FROM python:${PYTHON_VERSION}-slim AS base
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv
USER 10001:10001
STOPSIGNAL SIGTERM

# Alembic and the revisions; the one image that is given the role that owns the tables.
FROM base AS migrate
COPY --from=migrate-dependencies /app /app
COPY --from=migrate-files /srv /srv
COPY --from=migrate-code /code /code
CMD ["alembic", "upgrade", "head"]
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="app-migrate" \
      org.opencontainers.image.description="Brings the database schema up to date" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM base AS package
ARG PACKAGE
COPY --from=dependencies /app /app
COPY --from=files /srv /srv
COPY --from=code /code /code
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="app-${PACKAGE}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM package AS api
ENV APP_HTTP__HOST=0.0.0.0 APP_HTTP__PORT=8000
EXPOSE 8000 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-I", "health.py", "APP_HTTP__PORT", "/probe/live"]
CMD ["python", "-m", "app_api", "serve"]

FROM package AS worker
ENV APP_METRICS__ENABLED=true APP_METRICS__HOST=0.0.0.0 APP_METRICS__PORT=9090
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-I", "health.py", "APP_METRICS__PORT", "/health"]
CMD ["python", "-m", "app_worker", "run"]

FROM ${PACKAGE}

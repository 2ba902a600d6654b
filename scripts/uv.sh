#!/bin/sh
# Runs uv. Where no working one is installed, the pinned one is fetched into .uv/ first, by whatever Python is there.
set -eu

version=0.13.9
folder=$(cd "$(dirname "$0")/.." && pwd)/.uv

# The checkout says itself where its environment is, what is in it, and what is resolved; a variable of a shell or of an
# image, meant for another project, does not. Where indexes, caches and Pythons are is for the machine to say.
for name in UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIR UV_WORKING_DIRECTORY UV_NO_PROJECT UV_ISOLATED UV_PACKAGE \
    UV_DEV UV_NO_DEV UV_NO_GROUP UV_NO_DEFAULT_GROUPS UV_NO_EDITABLE UV_NO_SYNC UV_FROZEN UV_LOCKED UV_ENV_FILE \
    UV_NO_SOURCES UV_NO_SOURCES_PACKAGE UV_NO_INSTALL_PROJECT UV_NO_INSTALL_WORKSPACE UV_NO_INSTALL_LOCAL \
    UV_ONLY_INSTALL_PROJECT UV_ONLY_INSTALL_WORKSPACE UV_ONLY_INSTALL_LOCAL UV_PYTHON_PLATFORM UV_TORCH_BACKEND \
    UV_EXCLUDE_NEWER UV_EXCLUDE_NEWER_PACKAGE UV_RESOLUTION UV_PRERELEASE UV_FORK_STRATEGY UV_CONSTRAINT UV_OVERRIDE \
    UV_EXCLUDE UV_BUILD_CONSTRAINT UV_REQUIRE_HASHES UV_NO_VERIFY_HASHES; do
    eval "value=\${$name-}"
    [ -n "$value" ] || continue
    echo "$name is set in the environment and does not count here: the checkout decides it by itself." >&2
    unset "$name"
done

# Tests do not see the proxy of this machine; uv has to (app_runtime.testing.environment).
for name in HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY; do
    eval "value=\${UV_SH_$name-}"
    [ -z "$value" ] || export "$name=$value"
done

# Asked, not looked up: a version manager's shim may be on the path and have no uv behind it.
if uv --version >/dev/null 2>&1; then
    exec uv "$@"
fi

if ! "$folder/bin/uv" --version >/dev/null 2>&1; then
    for python in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            break
        fi
        python=
    done
    if [ -z "$python" ]; then
        echo "Found no Python 3.11 or later with venv: install one (Debian: apt install python3 python3-venv)." >&2
        exit 1
    fi
    echo "No working uv on this machine: fetching uv $version into .uv/ with $("$python" --version)." >&2
    rm -rf "$folder"
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --disable-pip-version-check "uv==$version" >&2
fi
exec "$folder/bin/uv" "$@"

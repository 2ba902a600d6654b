#!/bin/sh
# Runs uv. Where no working one is installed, the pinned one is fetched into .uv/ first, by whatever Python is there.
set -eu

version=0.13.9
folder=$(cd "$(dirname "$0")/.." && pwd)/.uv

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

#!/bin/sh
# Brings .venv/ to what the checkout needs, by uv.
set -eu

checkout=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$checkout"

# What is installed names the folder that it was installed in: a copy of it would run the code of the original.
if [ -e .venv ] && [ "$(cat .venv/checkout 2>/dev/null)" != "$checkout" ]; then
    # A mount, as development containers have here, can only be emptied.
    rm -rf .venv 2>/dev/null || find .venv -mindepth 1 -delete
fi
# Compiled now rather than at the first start, which it would make three times as long.
UV_COMPILE_BYTECODE=${UV_COMPILE_BYTECODE:-1} sh scripts/uv.sh sync
printf '%s\n' "$checkout" >.venv/checkout

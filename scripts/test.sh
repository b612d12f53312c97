#!/usr/bin/env bash
# Makes a virtual environment, installs the project with what the tests need, and runs every check.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment=${GMVQZIP_TEST_ENV:-.venv-test}
[ -x "$environment/bin/python" ] || "${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,bench]'
"$environment/bin/ruff" check .
"$environment/bin/ruff" format --check .
"$environment/bin/mypy" & # beside the tests
types=$!
tests=0
"$environment/bin/python" -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal "$@" || tests=$?
wait "$types"
exit "$tests"

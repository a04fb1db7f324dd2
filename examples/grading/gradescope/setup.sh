#!/usr/bin/env bash
# Gradescope runs this once, while it builds the autograder's image: the only time that a network is needed.
set -euo pipefail

# chainrule is installed from its wheel, which `make wheel` makes and which is in the zip: no index of packages has it.
for wheel in "$(dirname "$0")"/chainrule-*.whl; do :; done
if [ ! -f "$wheel" ]; then
    echo "there is no chainrule-….whl beside setup.sh: make it with \`make wheel\`, and put it into the zip" >&2
    exit 1
fi

apt-get update
apt-get install -y python3-venv python3.11-venv || apt-get install -y python3-venv

for python in python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        "$python" -m venv "${AUTOGRADER:-/autograder}/venv"
        "${AUTOGRADER:-/autograder}/venv/bin/python" -m pip install "$wheel[local]"
        exit 0
    fi
done
echo "chainrule needs Python 3.11 or newer: choose a newer Ubuntu for the base image" >&2
exit 1

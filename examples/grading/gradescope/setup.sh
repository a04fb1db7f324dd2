#!/usr/bin/env bash
# Gradescope runs this once, while it builds the autograder's image: the only time that a network is needed.
set -euo pipefail

apt-get update
apt-get install -y python3-venv python3.11-venv || apt-get install -y python3-venv

for python in python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        "$python" -m venv "${AUTOGRADER:-/autograder}/venv"
        "${AUTOGRADER:-/autograder}/venv/bin/python" -m pip install 'chainrule[local]==0.1.*'
        exit 0
    fi
done
echo "chainrule needs Python 3.11 or newer: choose a newer Ubuntu for the base image" >&2
exit 1

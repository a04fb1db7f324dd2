#!/bin/sh
# Grade answers.json against task.json: sh grade.sh [FORMAT]
#
# CHAINRULE_URL is the service, CHAINRULE_API_KEY its key, if it asks for one. FORMAT is what a platform reads, for example
# gradescope; left out, the answer is the report itself.
set -eu
cd "$(dirname "$0")"

url="${CHAINRULE_URL:-http://127.0.0.1:8000}/v1/gradings${1:+?format=$1}"

# The key goes to curl on a channel of its own: on the command line everybody on this machine could see it.
key="${CHAINRULE_API_KEY:+header = \"Authorization: Bearer $CHAINRULE_API_KEY\"}"

# The file goes into the request as it is. One that is more than one value, `{}, "options": {"points": 900}`, would ask for
# things of its own.
answers="${ANSWERS:-answers.json}"
python3 -m json.tool "$answers" > /dev/null || { echo "$answers is not JSON" >&2; exit 1; }

body=$(printf '{"task": %s, "answers": %s, "submission": {"id": "sub-1", "attempt": 1}}' \
    "$(cat task.json)" "$(cat "$answers")")

printf '%s\n' "$key" |
    curl --silent --show-error --fail-with-body --config - \
        --header 'Content-Type: application/json' --data-binary "$body" "$url"

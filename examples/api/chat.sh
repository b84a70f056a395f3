#!/usr/bin/env bash
# Register, send, read and acknowledge with curl alone.
#
#     examples/api/chat.sh http://127.0.0.1:8080
set -euo pipefail
base="${1:-http://127.0.0.1:8080}/v1"
json='Content-Type: application/json'

call() { curl --silent --show-error --fail-with-body --retry 10 "$@"; }

call -H "$json" -d '{"name": "sh-alice"}' "$base/clients"
call -H "$json" -d '{"name": "sh-bob"}' "$base/clients"

# The key makes it safe to send this again when no answer came.
for _ in 1 2; do
    call -H "$json" -H 'Idempotency-Key: greeting-1' -d '{"from": "sh-alice", "to": "sh-bob", "text": "hello"}' "$base/messages"
done
# A file, as it is.
call -H 'Content-Type: text/x-shellscript' --data-binary "@$0" "$base/messages?from=sh-alice&to=sh-bob"

inbox=$(call "$base/clients/sh-bob/inbox?wait=10")
echo "$inbox"
call "$base/clients/sh-bob/messages/2" | cmp - "$0"
# What the look says is to be acknowledged is posted back.
token=$(sed -E 's/.*"acknowledge":(\{[^}]*\}).*/\1/' <<<"$inbox")
call -H "$json" -d "$token" "$base/clients/sh-bob/inbox/acknowledgements"

# A channel reaches all who have joined it; what is for later comes by itself; what was acknowledged can be kept.
call -H "$json" -d '{"name": "sh.news"}' "$base/channels"
call -X PUT "$base/channels/sh.news/members/sh-bob"
call -X PUT -H "$json" -d '{"keep_messages": 100}' "$base/clients/sh-bob/inbox/settings"
call -H "$json" -d '{"from": "sh-alice", "to": {"channel": "sh.news"}, "text": "soon", "deliver_after_ms": 200}' "$base/messages"
inbox=$(call "$base/clients/sh-bob/inbox?after=2&wait=10")
token=$(sed -E 's/.*"acknowledge":(\{[^}]*\}).*/\1/' <<<"$inbox")
call -H "$json" -d "$token" "$base/clients/sh-bob/inbox/acknowledgements"
call "$base/clients/sh-bob/inbox/history"
# Messages as they come (until it is interrupted): curl --no-buffer "$base/clients/sh-bob/inbox/events"

#!/usr/bin/env python3
"""Send messages exactly once and read them, with nothing but `requests`.

    python3 examples/api/chat.py http://127.0.0.1:8080 http://127.0.0.1:8081

It registers two clients, sends ten messages on a numbered stream, each of them twice (the second time as a program does that
got no answer), reads them at another server, acknowledges them, and says what it has seen.
"""

import sys
import time
import uuid

import requests

SERVERS = sys.argv[1:] or ["http://127.0.0.1:8080", "http://127.0.0.1:8081", "http://127.0.0.1:8082"]


def ask(method, path, first=0, **arguments):
    """Asks one server after the other until one answers. All that is asked here may be asked again."""
    for attempt in range(60):
        base = SERVERS[(first + attempt) % len(SERVERS)]
        try:
            answer = requests.request(method, f"{base}/v1{path}", timeout=30, **arguments)
        except requests.ConnectionError:
            time.sleep(0.2)
            continue
        # 503: nothing was done. 504: nobody knows, and asking again is safe.
        if answer.status_code in (503, 504):
            time.sleep(float(answer.headers.get("Retry-After", "0.2")))
            continue
        if answer.status_code >= 400:
            raise SystemExit(f"{method} {path}: {answer.json()['code']}: {answer.json()['detail']}")
        return answer.json() if answer.content else None
    raise SystemExit("no server answers")


ask("POST", "/clients", json={"name": "py-alice"})
ask("POST", "/clients", json={"name": "py-bob"})

# A numbered stream: the same number again is the same message, at whatever server and however late.
stream = ask("POST", "/streams", json={"client": "py-alice", "nonce": uuid.uuid4().hex})["stream"]
for number in range(1, 11):
    message = {"to": "py-bob", "text": f"message {number}"}
    once = ask("PUT", f"/streams/{stream}/{number}", json=message)
    again = ask("PUT", f"/streams/{stream}/{number}", json=message, first=1)
    assert once == again, (once, again)

# Without a stream, a key makes repeating safe for an hour.
key = {"Idempotency-Key": uuid.uuid4().hex}
for _ in range(2):
    ask("POST", "/messages", json={"from": "py-alice", "to": "py-bob", "text": "by key"}, headers=key)

# Any bytes, as they are.
raw = {"from": "py-alice", "to": "py-bob"}
ask("POST", "/messages", params=raw, data=b"\x00\xff", headers={"Content-Type": "application/octet-stream"})

inbox = ask("GET", "/clients/py-bob/inbox?wait=10", first=1)
for message in inbox["messages"]:
    print(f"{message['position']:4} {message['from']}: {message.get('text', message.get('base64'))}")
done = ask("POST", "/clients/py-bob/inbox/acknowledgements", json=inbox["acknowledge"])
print(f"{len(inbox['messages'])} messages, acknowledged up to {done['acknowledged']}")

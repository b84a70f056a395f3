#!/usr/bin/env python3
"""How long a cluster with a large state takes to come back, and a server to catch up.

    cargo build --release
    benches/restart.py [MESSAGES] [BYTES]        1,000,000 messages of 1,024 bytes if nothing is said

Three servers on this machine, and one inbox that is filled. Then, each with its time:

    all killed      SIGKILL to all, started again at once: until one leads, and until a send has its receipt
    one killed      SIGKILL to one, started again: until it has applied everything
    one lost        the same with an empty disk: until it votes again and has applied everything
    drained         until the inbox is empty

Needs Python 3 and nothing else. Prints an object of JSON for each.
"""

import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = str(ROOT / "target/release/restante")
NAMES = "abc"
PATIENCE = 600


class Cluster:
    def __init__(self, directory):
        self.directory = directory
        self.ports = free_ports(len(NAMES))
        self.servers = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip(NAMES, self.ports))
        self.processes = {}

    def start(self, *names):
        for name in names:
            arguments = [BINARY, "serve", "--name", name, "--cluster", self.servers, "--data", str(self.data(name))]
            log = open(self.directory / f"{name}.log", "a")
            self.processes[name] = subprocess.Popen(arguments, stdout=log, stderr=log)

    def data(self, name):
        return self.directory / name

    def kill(self, *names):
        for name in names:
            self.processes[name].send_signal(signal.SIGKILL)
        for name in names:
            self.processes.pop(name).wait()

    def run(self, *arguments, **more):
        command = [BINARY, *arguments, "--servers", ",".join(f"127.0.0.1:{port}" for port in self.ports)]
        return subprocess.run(command, capture_output=True, text=True, **more)

    def status(self):
        try:
            return json.loads(self.run("status", "--json").stdout)
        except json.JSONDecodeError:
            return {}

    def until(self, what, is_so):
        """Seconds until the status is so."""
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            if is_so(self.status()):
                return time.monotonic() - begun
            time.sleep(0.02)
        raise SystemExit(f"waited in vain for {what}")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def leads(status):
    return bool(status.get("leader"))


def is_even(name):
    """Whether a server votes and has applied what the others have."""
    def so(status):
        rows = {row["name"]: row for row in status.get("servers", [])}
        row = rows.get(name, {})
        most = max((other.get("applied_index") or 0 for other in rows.values()), default=0)
        return row.get("answers") is True and row.get("role") == "follower" and most > 0 and row.get("applied_index") == most
    return so


def tell(what, **values):
    print(json.dumps({"what": what, **{key: round(value, 3) for key, value in values.items()}}), flush=True)


def main():
    if any(argument.startswith("-") for argument in sys.argv[1:]):
        print(__doc__, file=sys.stderr)
        return 2
    messages, size = [int(argument) for argument in sys.argv[1:] + ["1000000", "1024"][len(sys.argv) - 1:]]
    directory = pathlib.Path(tempfile.mkdtemp(prefix="restante-restart-"))
    cluster = Cluster(directory)
    try:
        cluster.start(*NAMES)
        cluster.until("a leader", leads)
        for name in ("sender", "recipient"):
            cluster.run("register", name, check=True)
        lines = directory / "lines"
        with open(lines, "w") as file:
            for number in range(messages):
                file.write(f"{number:0{size}}\n")
        begun = time.monotonic()
        cluster.run("send", "--from", "sender", "--to", "recipient", "--lines", "--file", str(lines), check=True)
        tell("filled", seconds=time.monotonic() - begun, per_s=messages / (time.monotonic() - begun))
        lines.unlink()

        cluster.kill(*NAMES)
        begun = time.monotonic()
        cluster.start(*NAMES)
        led = cluster.until("a leader", leads)
        while cluster.run("send", "--from", "sender", "--to", "sender", "still here").returncode:
            pass
        tell("all killed", leader_s=led, receipt_s=time.monotonic() - begun)

        follower = next(row["name"] for row in cluster.status()["servers"] if row["role"] == "follower")
        cluster.kill(follower)
        cluster.start(follower)
        tell("one killed", caught_up_s=cluster.until("it to catch up", is_even(follower)))
        cluster.kill(follower)
        shutil.rmtree(cluster.data(follower))
        cluster.start(follower)
        tell("one lost", caught_up_s=cluster.until("it to catch up", is_even(follower)))

        begun = time.monotonic()
        cluster.run("listen", "recipient", "--count", str(messages), check=True)
        tell("drained", seconds=time.monotonic() - begun, per_s=messages / (time.monotonic() - begun))
    finally:
        cluster.kill(*cluster.processes)
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""How Restante's cost grows: measures it, and draws the curves of docs/performance.md.

    cargo build --release
    benches/growth.py measure                 all curves, about half an hour
    benches/growth.py measure body servers    some
    benches/growth.py draw                    docs/performance/*.svg out of docs/performance/growth.json

Needs Python 3 and nothing else. Every point is a cluster of its own: `restante bench --local N … --json`. Points of a
curve are measured in an order that mixes small and large ones, so that a machine that grows busier bends no curve.
"""

import json
import math
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/restante"
RESULTS = ROOT / "docs/performance/growth.json"
RUNS = 3

KIB, MIB = 1024, 1024 * 1024


def curve(title, x_label, points, panels, runs=RUNS):
    """`points`: (x, arguments of the bench); `panels`: (workload, member, label, factor)."""
    return {"title": title, "x": x_label, "points": points, "panels": panels, "runs": runs}


def size(count):
    return f"{count // MIB} MiB" if count >= MIB else f"{count // KIB} KiB" if count >= KIB else f"{count} B"


THROUGHPUT = [("w1", "acked_per_s", "receipted a second", 1), ("w1", "broker_cpu_s_per_M", "server CPU, µs a message", 1)]
LONE = [("w2", "confirm.p50_us", "receipt p50, µs, one at a time", 1), ("w2", "confirm.p99_us", "receipt p99, µs", 1)]

CURVES = {
    "body": curve(
        "Size of a body", "bytes of a body",
        [(n, ["w1,w2", "--body", str(n), "--seconds", "4", "--singles", "1000",
              "--window", str(max(1, min(64, 8 * MIB // 64 // n)))])
         for n in (16, 256, 4 * KIB, 64 * KIB, MIB)],
        THROUGHPUT + LONE),
    "recipients": curve(
        "Recipients, each with a connection", "recipients",
        [(n, ["w1", "--recipients", str(n), "--seconds", "5"]) for n in (1, 10, 100, 1000, 5000)],
        THROUGHPUT + [("w1", "peak_rss_mb", "peak memory of three servers, MiB", 1)]),
    "senders": curve(
        "Senders, each with a connection", "senders",
        [(n, ["w1", "--senders", str(n), "--seconds", "4"]) for n in (1, 4, 16, 64, 256, 1024)],
        THROUGHPUT),
    "servers": curve(
        "Servers, all on two cores", "servers",
        [(n, ["w1,w2", "--local", str(n), "--seconds", "4", "--singles", "1000"]) for n in (1, 3, 5, 7)],
        THROUGHPUT + LONE),
    "backlog": curve(
        "Messages that wait (16-byte bodies)", "messages",
        [(n, ["w4", "--backlog", str(n), "--body", "16"]) for n in (10_000, 100_000, 1_000_000, 3_000_000)],
        [("w4", "fill_per_s", "filled, a second", 1), ("w4", "drain_per_s", "drained, a second", 1),
         ("w4", "peak_rss_mb", "peak memory of three servers, MiB", 1)], runs=1),
    "names": curve(
        "Registered names", "names",
        [(n, ["names", "--names", str(n)]) for n in (1000, 10_000, 100_000, 1_000_000)],
        [("names", "registered_per_s", "registered a second", 1), ("names", "bytes_per_name", "memory of a server for each, bytes", 1),
         ("names", "first_receipt_after_start_ms", "first receipt after all were killed, ms", 1),
         ("names", "longest_wait_ms", "longest wait for a receipt meanwhile, ms", 1)], runs=1),
}


def measure(names):
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names:
        the = CURVES[name]
        of_it = results[name] = {}
        for run in range(the["runs"]):
            points = the["points"][run % 2::2] + the["points"][1 - run % 2::2]
            for x, arguments in points:
                print(f"{name}: {x}, run {run + 1} of {the['runs']}", file=sys.stderr, flush=True)
                local = [] if "--local" in arguments else ["--local", "3"]
                ran = subprocess.run([BINARY, "bench", "--json", *local, *arguments], capture_output=True, text=True)
                if ran.returncode:
                    print(f"  ended with {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                    continue
                for line in ran.stdout.splitlines():
                    result = json.loads(line)
                    if result["w"] != "start":
                        of_it.setdefault(str(x), []).append(slim(result, the))
                RESULTS.parent.mkdir(exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def slim(result, the):
    """What is drawn, and whether anything was lost."""
    kept = {"w": result["w"]}
    for count in ("confirmed", "delivered", "lost", "dups", "disordered", "altered", "errors"):
        kept[count] = result.get(count)
    usage = result.get("usage", {})
    kept["others"] = round(usage.get("other_cpu_frac", 0) + usage.get("steal_frac", 0), 3)
    for workload, path, _, _ in the["panels"]:
        if workload == result["w"]:
            kept[path] = member(result, path)
    return kept


def member(result, path):
    for part in path.split("."):
        result = (result or {}).get(part)
    return result


# Drawing.

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 230, 62, 14, 34, 44
STYLE = """<style>
text { font: 11px system-ui, sans-serif; fill: #444 } .title { font-weight: 600; fill: #222 }
.grid { stroke: #ddd } .line { fill: none; stroke: #0b6e99; stroke-width: 2 } .spread { stroke: #0b6e99; opacity: .45 }
.dot { fill: #0b6e99 } .back { fill: #fff }
@media (prefers-color-scheme: dark) { text { fill: #bbb } .title { fill: #eee } .grid { stroke: #3a3a3a }
 .line, .spread { stroke: #5cc2ec } .dot { fill: #5cc2ec } .back { fill: #161616 } }
</style>"""


def draw(names):
    results = json.loads(RESULTS.read_text())
    for name in names:
        if not results.get(name):
            continue
        the, panels = CURVES[name], CURVES[name]["panels"]
        across = min(2, len(panels))
        down = math.ceil(len(panels) / across)
        parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * across} {HEIGHT * down}" '
                 f'role="img" aria-label="{the["title"]}">', STYLE,
                 f'<rect class="back" width="{WIDTH * across}" height="{HEIGHT * down}"/>']
        for at, (workload, path, label, factor) in enumerate(panels):
            points = []
            for x, runs in results[name].items():
                values = [run[path] * factor for run in runs if run["w"] == workload and run.get(path) is not None]
                if values:
                    points.append((int(x), statistics.median(values), min(values), max(values)))
            parts.append(f'<g transform="translate({at % across * WIDTH},{at // across * HEIGHT})">'
                         + panel(label, the["x"], sorted(points)) + "</g>")
        parts.append("</svg>\n")
        (RESULTS.parent / f"{name}.svg").write_text("\n".join(parts))


def panel(label, x_label, points):
    if not points:
        return f'<text class="title" x="{LEFT}" y="20">{label}: not measured</text>'
    xs, most = [point[0] for point in points], max(point[3] for point in points) or 1
    few = max(xs) <= 10
    low, high = (min(xs), max(xs)) if few else (math.log10(min(xs)), math.log10(max(xs)))
    top = nice(most)

    def at(x, y):
        along = ((x if few else math.log10(x)) - low) / ((high - low) or 1)
        return LEFT + along * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    out = [f'<text class="title" x="{LEFT}" y="20">{label}</text>',
           f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>']
    for step in range(5):
        value = top * step / 4
        _, y = at(xs[0], value)
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
                   f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for x in xs:
        where, _ = at(x, 0)
        text = size(x) if x_label.startswith("bytes") else short(x)
        out.append(f'<text x="{where:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
    out.append('<path class="line" d="M' + "L".join(f"{at(x, y)[0]:.1f} {at(x, y)[1]:.1f}" for x, y, _, _ in points) + '"/>')
    for x, middle, least, greatest in points:
        (here, y), (_, y1), (_, y2) = at(x, middle), at(x, least), at(x, greatest)
        out.append(f'<path class="spread" d="M{here:.1f} {y1:.1f}V{y2:.1f}"/><circle class="dot" cx="{here:.1f}" cy="{y:.1f}" r="3"/>')
    return "".join(out)


def nice(value):
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value)


def short(value):
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def main():
    what, *names = sys.argv[1:] or ["--help"]
    unknown = [name for name in names if name not in CURVES]
    if what not in ("measure", "draw") or unknown:
        print(__doc__, "Curves:", ", ".join(CURVES), file=sys.stderr)
        return 2
    if what == "measure":
        measure(names or list(CURVES))
    draw(names or list(CURVES))
    return 0


if __name__ == "__main__":
    sys.exit(main())

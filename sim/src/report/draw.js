// Drawing. What is too much to be drawn singly is drawn as how much there is.

/** So many are drawn singly at most, and only as long as they are not one beside the other. */
const SINGLY = 3500;
const singly = () => Math.min(SINGLY, Math.max(view.width * 0.75, 250));
const plot = document.getElementById("plot");
const paint = plot.getContext("2d");
const overview = document.getElementById("overview");
const strip = overview.getContext("2d");
const FONT = "12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
let color = {};
let hatch = null;
// Words are written last, so that no line goes through them.
let labels = [];

/** Reads the style's colours: again when they change. */
function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "raised", "ink", "soft", "line", "track", "fault", "danger", "focus", "client"]) {
    color[name] = style.getPropertyValue(`--${name}`).trim();
  }
  color.lanes = run.lanes.map(([, isServer], n) =>
    isServer ? style.getPropertyValue(`--server${n % 7}`).trim() : color.client,
  );
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.strokeStyle = color.fault;
  pen.lineWidth = 1;
  pen.globalAlpha = 0.55;
  for (const shift of [-8, 0, 8]) {
    pen.beginPath();
    pen.moveTo(shift, 8);
    pen.lineTo(shift + 8, 0);
    pen.stroke();
  }
  hatch = paint.createPattern(tile, "repeat");
}

function drawAll() {
  // What is drawn is kept for finding what is under the pointer.
  view.drawn = { messages: [], moments: [] };
  paint.font = FONT;
  paint.textBaseline = "middle";
  paint.clearRect(0, 0, view.width, view.height);
  labels = [];
  drawFaults();
  drawTracks();
  drawMessages();
  drawMoments();
  drawLabels();
  drawFocus();
  drawPicked();
  drawAxis();
  drawOverview();
  placeLanes();
}

function drawLabels() {
  paint.textAlign = "left";
  paint.lineJoin = "round";
  for (const [text, px, py, own] of labels) {
    paint.lineWidth = 4;
    paint.strokeStyle = color.paper;
    paint.strokeText(text, px, py);
    paint.fillStyle = own;
    paint.fillText(text, px, py);
  }
  if (view.dense) {
    const text = `${view.visible.toLocaleString("en")} messages here: zoom in to see each`;
    paint.textAlign = "right";
    paint.strokeStyle = color.paper;
    paint.strokeText(text, view.width - 12, view.height - 14);
    paint.fillStyle = color.soft;
    paint.fillText(text, view.width - 12, view.height - 14);
  }
}

/** As much of a text as there is room for. */
function shortened(text, room) {
  if (paint.measureText(text).width <= room) return text;
  let length = text.length;
  while (length > 1 && paint.measureText(`${text.slice(0, length)}…`).width > room) length--;
  return `${text.slice(0, length).trimEnd()}…`;
}

/** Steps of a legible time axis. */
function ticks(length, width) {
  const most = Math.max(2, width / 90);
  for (let unit = 1000; ; unit *= 10) {
    for (const step of [unit, unit * 2, unit * 5]) if (length / step <= most) return step;
  }
}

function drawAxis() {
  paint.fillStyle = color.paper;
  paint.fillRect(0, 0, view.width, view.axis);
  paint.fillStyle = color.line;
  paint.fillRect(0, view.axis - 1, view.width, 1);
  const step = ticks(view.span, view.width);
  paint.textAlign = "center";
  for (let at = Math.ceil(view.from / step) * step; at < view.from + view.span; at += step) {
    if (at < 0) continue;
    paint.fillStyle = color.line;
    paint.fillRect(x(at), view.axis - 6, 1, 6);
    paint.fillStyle = color.soft;
    const digits = step >= 1e6 ? 0 : step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3;
    const label = `${seconds(at, digits)} s`;
    const half = paint.measureText(label).width / 2 + 4;
    if (x(at) + half <= view.width) paint.fillText(label, Math.max(x(at), half), view.axis / 2);
  }
  if (view.focus >= 0) {
    const at = x(run.focuses[view.focus].at);
    paint.font = `600 ${FONT}`;
    const label = run.focuses[view.focus].promise;
    const half = paint.measureText(label).width / 2 + 9;
    const middle = Math.min(Math.max(at, half + 2), view.width - half - 2);
    if (at > -2 && at < view.width + 2) {
      paint.fillStyle = color.danger;
      paint.beginPath();
      paint.roundRect(middle - half, 4, half * 2, view.axis - 9, 5);
      paint.fill();
      paint.fillStyle = color.paper;
      paint.fillText(label, middle, view.axis / 2);
    }
    paint.font = FONT;
  }
}

function drawFaults() {
  const shown = run.faults.filter(([from, to]) => to >= view.from && from <= view.from + view.span);
  const rows = run.lanes.map(() => 0);
  for (const [from, to, , text, lanes, isLink] of shown) {
    const left = Math.max(x(from), -4),
      right = Math.min(x(to), view.width + 4);
    for (const [nth, lane] of lanes.entries()) {
      const top = laneY(lane) - view.lane / 2;
      paint.globalAlpha = isLink ? 0.4 : 0.13;
      paint.fillStyle = isLink ? hatch : color.fault;
      paint.fillRect(left, top + 2, Math.max(right - left, 1.5), view.lane - 4);
      paint.globalAlpha = 0.5;
      paint.fillStyle = color.fault;
      if (x(from) >= 0) paint.fillRect(left, top + 2, 1, view.lane - 4);
      if (nth > 0 && isLink) continue;
      paint.globalAlpha = 1;
      const room = right - Math.max(left, 0) - 8;
      if (room > 34) {
        const at = [Math.max(left, 0) + 5, top + 11 + 12 * (rows[lane]++ % 2)];
        labels.push([shortened(text, room), ...at, color.fault]);
      }
    }
  }
  paint.globalAlpha = 1;
}

function drawTracks() {
  const clip = (from, to) => [Math.max(x(from), -2), Math.min(x(to), view.width + 2)];
  paint.lineCap = "butt";
  for (const [lane, [, isServer]] of run.lanes.entries()) {
    paint.fillStyle = color.track;
    paint.globalAlpha = isServer ? 0.8 : 1;
    const [left, right] = clip(0, run.end);
    if (right > left) paint.fillRect(left, laneY(lane) - 0.5, right - left, 1);
  }
  paint.globalAlpha = 1;
  for (const [lane, from, to, term, leader] of run.rules) {
    const [left, right] = clip(from, to);
    if (right < 0 || left > view.width || right - left < 0.2) continue;
    const y = laneY(lane);
    const leads = leader === lane;
    const high = leader === null ? 3 : leads ? 9 : 4;
    paint.fillStyle = leader === null ? color.track : color.lanes[leader];
    paint.globalAlpha = leads ? 1 : 0.55;
    paint.fillRect(left, y - high / 2, right - left, high);
    paint.globalAlpha = 1;
    const label = leads ? `leads term ${term}` : "";
    if (leads && right - Math.max(left, 0) > 90) {
      labels.push([label, Math.max(left, 0) + 8, y + high / 2 + 10, color.lanes[leader]]);
    }
  }
  for (const [lane, from, to, kind] of run.spans) {
    const [left, right] = clip(from, to);
    if (right < 0 || left > view.width) continue;
    const y = laneY(lane);
    paint.fillStyle = color.paper;
    paint.fillRect(left, y - 6, Math.max(right - left, 1), 12);
    paint.strokeStyle = color.soft;
    paint.setLineDash(kind === "down" ? [1, 4] : [5, 4]);
    paint.beginPath();
    paint.moveTo(left, y);
    paint.lineTo(right, y);
    paint.stroke();
    paint.setLineDash([]);
    if (right - Math.max(left, 0) > 60 && view.lane > 44) {
      const at = (Math.max(left, 0) + Math.min(right, view.width)) / 2;
      paint.textAlign = "center";
      const width = paint.measureText(kind).width + 10;
      paint.fillStyle = color.paper;
      paint.fillRect(at - width / 2, y - 8, width, 16);
      paint.fillStyle = color.soft;
      paint.fillText(kind, at, y);
    }
  }
}

function drawMessages() {
  const [from, to] = part(view.shown);
  view.visible = to - from;
  // How many there are is known before they are looked at.
  const all = view.visible > 3 * SINGLY ? [] : visible(view.shown);
  view.dense = view.visible > 3 * SINGLY || all.length > singly();
  if (!view.dense) view.visible = all.length;
  const lost = visible(view.lost);
  if (view.dense) {
    drawLoads();
    drawStubs(lost);
  } else {
    const heads = all.length < 900;
    for (const n of all) {
      const alpha = view.followed ? 0.1 : weight(n);
      drawMessage(n, alpha, 1, heads || messages.took[n] === -1);
    }
  }
  if (view.followed) {
    const followed = visible(view.followed);
    for (const n of followed.slice(0, SINGLY)) drawMessage(n, 1, followed.length > singly() ? 1 : 1.8, true);
  }
  paint.globalAlpha = 1;
}

/** Of what was lost among very much: from where, and towards which side. */
function drawStubs(lost) {
  const last = new Map();
  for (const n of lost) {
    const px = x(messages.sent[n]),
      y = laneY(messages.from[n]);
    const side = messages.to[n] > messages.from[n] ? 1 : -1;
    const key = side * (messages.from[n] + 1);
    if (px - (last.get(key) ?? -99) < 6) continue;
    last.set(key, px);
    cross(px, y + side * 14, 2.6, color.fault);
    view.drawn.messages.push(n);
  }
}

function weight(n) {
  switch (messages.sort[n]) {
    case SORT.heartbeats:
    case SORT.hellos:
      return 0.28;
    case SORT.appends:
    case SORT.batches:
      return 0.55;
    default:
      return 0.75;
  }
}

/** Where a message's line begins and ends. */
function line(n) {
  const [x0, y0, y1] = [x(messages.sent[n]), laneY(messages.from[n]), laneY(messages.to[n])];
  if (messages.took[n] >= 0) return [x0, y0, x(messages.sent[n] + messages.took[n]), y1];
  // One that is lost breaks off on its way.
  const part = messages.took[n] === -2 ? 0.9 : 0.55;
  return [x0, y0, x(messages.sent[n] + 8000 * part), y0 + (y1 - y0) * part];
}

function drawMessage(n, alpha, width, head, own = color.lanes[messages.from[n]]) {
  const [x0, y0, x1, y1] = line(n);
  paint.globalAlpha = alpha;
  paint.strokeStyle = paint.fillStyle = own;
  paint.lineWidth = width;
  paint.beginPath();
  paint.moveTo(x0, y0);
  paint.lineTo(x1, y1);
  paint.stroke();
  if (messages.took[n] === -1) {
    paint.globalAlpha = Math.max(alpha, 0.6);
    paint.strokeStyle = color.fault;
    paint.lineWidth = 1.6;
    paint.beginPath();
    for (const [dx, dy] of [
      [-3.5, -3.5],
      [-3.5, 3.5],
    ]) {
      paint.moveTo(x1 + dx, y1 + dy);
      paint.lineTo(x1 - dx, y1 - dy);
    }
    paint.stroke();
  } else if (head && messages.took[n] >= 0) {
    const angle = Math.atan2(y1 - y0, x1 - x0),
      size = 5 + width;
    paint.beginPath();
    paint.moveTo(x1, y1);
    for (const turn of [2.75, -2.75]) {
      paint.lineTo(x1 + size * Math.cos(angle + turn), y1 + size * Math.sin(angle + turn));
    }
    paint.fill();
  }
  view.drawn.messages.push(n);
}

/** How much is sent and read on each lane, as a profile on both sides of its track. */
function drawLoads() {
  const bar = 3;
  const counts = view.loads.map((times) => {
    const lane = [];
    let before = lowerBound(times, view.from);
    for (let px = 0; px < view.width; px += bar) {
      const after = lowerBound(times, timeAt(px + bar), before);
      lane.push(after - before);
      before = after;
    }
    return lane;
  });
  let most = 1;
  for (const lane of counts) for (const count of lane) most = Math.max(most, count);
  for (const [lane, of] of counts.entries()) {
    const y = laneY(lane);
    paint.fillStyle = color.lanes[lane];
    paint.globalAlpha = 0.32;
    for (const [n, count] of of.entries()) {
      if (count === 0) continue;
      const high = 2 + Math.sqrt(count / most) * (view.lane / 2 - 6);
      paint.fillRect(n * bar, y - high, bar - 0.6, high * 2);
    }
  }
  paint.globalAlpha = 1;
}

function drawOverview() {
  const { width, height } = overview.getBoundingClientRect();
  const px = (at) => (at / run.end) * width;
  strip.clearRect(0, 0, width, height);
  const floor = height - 10,
    bar = 2;
  const counts = new Uint32Array(Math.ceil(width / bar));
  for (const times of view.loads) {
    for (let n = 0, before = 0; n < counts.length; n++) {
      const after = lowerBound(times, (((n + 1) * bar) / width) * run.end, before);
      counts[n] += after - before;
      before = after;
    }
  }
  const most = counts.reduce((one, other) => Math.max(one, other), 1);
  strip.fillStyle = color.track;
  counts.forEach((count, n) => {
    const high = Math.sqrt(count / most) * (floor - 10);
    strip.fillRect(n * bar, floor - high, bar, high);
  });
  strip.fillStyle = color.fault;
  for (const [from, to, , , , isLink] of run.faults) {
    strip.globalAlpha = 0.2;
    strip.fillRect(px(from), 0, Math.max(px(to) - px(from), 1), floor);
    strip.globalAlpha = 0.9;
    strip.fillRect(px(from), isLink ? 3 : 0, Math.max(px(to) - px(from), 1.5), 2);
  }
  strip.globalAlpha = 1;
  for (const [lane, from, to, , leader] of run.rules) {
    if (leader !== lane) continue;
    strip.fillStyle = color.lanes[lane];
    strip.fillRect(px(from), floor + 2, Math.max(px(to) - px(from), 1), 5);
  }
  strip.fillStyle = color.danger;
  for (const focus of run.focuses) strip.fillRect(px(focus.at) - 1, 0, 2, height);
  const left = Math.max(px(view.from), 0),
    right = Math.min(px(view.from + view.span), width);
  strip.fillStyle = color.paper;
  strip.globalAlpha = 0.6;
  strip.fillRect(0, 0, left, height);
  strip.fillRect(right, 0, width - right, height);
  strip.globalAlpha = 1;
  strip.strokeStyle = color.focus;
  strip.lineWidth = 1.5;
  strip.strokeRect(left + 0.75, 0.75, Math.max(right - left - 1.5, 3), height - 2);
  const middle = view.from + view.span / 2;
  overview.setAttribute("aria-valuemax", String(Math.round(run.end / 1000)));
  overview.setAttribute("aria-valuenow", String(Math.round(Math.min(Math.max(middle, 0), run.end) / 1000)));
  overview.setAttribute(
    "aria-valuetext",
    `from ${seconds(Math.max(view.from, 0))} to ${seconds(view.from + view.span)} seconds`,
  );
}

/** The names beside the plot follow its lanes. */
function placeLanes() {
  for (const [lane, button] of [...document.getElementById("lanes").children].entries()) {
    button.style.top = `${laneY(lane) - view.lane / 2}px`;
    button.style.height = `${view.lane}px`;
  }
}

// What part of the run is looked at, and what of it is shown.

const SHORTEST = 4000;
const view = {
  from: 0,
  span: run.end * 1.02,
  // The plot's size and where its lanes are, in CSS pixels.
  width: 0,
  height: 0,
  lane: 44,
  scroll: 0,
  axis: 30,
  sorts: run.sorts.map((name) => !["heartbeats", "hellos"].includes(name)),
  hosts: new Set(),
  // Sends that are followed, or texts that are searched for: everything else steps back.
  sends: null,
  texts: null,
  focus: -1,
  picked: null,
  hover: null,
  // What passes the filters, and of that what was lost and what is followed.
  loads: null,
  shown: null,
  lost: null,
  followed: null,
};

const x = (at) => ((at - view.from) / view.span) * view.width;
const timeAt = (px) => view.from + (px / view.width) * view.span;
const laneY = (lane) =>
  view.axis + (lane + 0.5) * view.lane + (run.lanes[lane] && run.lanes[lane][1] ? 0 : view.gap) - view.scroll;
const lanesHeight = () => view.axis + run.lanes.length * view.lane + view.gap + 10;
const servers = run.lanes.filter((lane) => lane[1]).length;
view.gap = servers && servers < run.lanes.length ? 14 : 0;

function isShown(n) {
  if (!view.sorts[messages.sort[n]]) return false;
  return view.hosts.size === 0 || view.hosts.has(messages.from[n]) || view.hosts.has(messages.to[n]);
}

/** Whether a message is one of those that are searched for; `true` if nothing is. */
function isFollowed(n) {
  if (view.sends) return messages.sends[n].some((send) => view.sends.has(send));
  return !view.texts || view.texts.has(messages.text[n]);
}

/** Places in the columns, with their times, so that a part can be found without looking at the rest. */
function select(isWanted, among) {
  const places = [];
  if (among) for (const n of among) isWanted(n) && places.push(n);
  else for (let n = 0; n < messages.count; n++) if (isWanted(n)) places.push(n);
  return { places, times: Float64Array.from(places, (n) => messages.sent[n]) };
}

/** Which of a selection touch the part that is looked at: from where to where; some may just miss it. */
function part({ times }) {
  return [lowerBound(times, view.from - USUAL), lowerBound(times, view.from + view.span)];
}

const touches = (n) => endOf(n) >= view.from && messages.sent[n] <= view.from + view.span;

/** Those of a selection that touch the part that is looked at. */
function visible(selection) {
  const [from, to] = part(selection);
  const usual = selection.places.slice(from, to).filter(touches);
  const early = from < selection.places.length ? selection.places[from] : Infinity;
  // Those that were long under way may have been sent long before.
  return messages.slow.filter((n) => n < early && isShown(n) && touches(n)).concat(usual);
}

function refilter() {
  view.loads = loads(isShown);
  view.shown = select(isShown);
  view.lost = select((n) => messages.took[n] === -1, view.shown.places);
  view.followed = view.sends || view.texts ? select(isFollowed, view.shown.places) : null;
  redraw();
}

function look(from, length) {
  view.span = Math.min(Math.max(length, SHORTEST), run.end * 1.02);
  view.from = Math.min(Math.max(from, -run.end * 0.01 - view.span * 0.02), run.end * 1.02 - view.span * 0.98);
  redraw();
}

/** Zooms by a factor around a place of the plot. */
function zoom(factor, px = view.width / 2) {
  const at = timeAt(px);
  const length = Math.min(Math.max(view.span * factor, SHORTEST), run.end * 1.02);
  look(at - (px / view.width) * length, length);
}

function scrollBy(px) {
  view.scroll = Math.min(Math.max(view.scroll + px, 0), Math.max(0, lanesHeight() - view.height));
  redraw();
}

/** Brings a moment of time, and a lane, into sight without zooming more than needed. */
function bring(at, lane, length = view.span) {
  const margin = length * 0.15;
  const inSight = length === view.span && at > view.from + margin && at < view.from + view.span - margin;
  if (!inSight) look(at - length / 2, length);
  if (lane >= 0) {
    const y = laneY(lane);
    if (y < view.axis + view.lane / 2) scrollBy(y - view.axis - view.lane);
    if (y > view.height - view.lane / 2) scrollBy(y - view.height + view.lane);
  }
}

/** The moment at which a violation is seen. */
function focusMoment() {
  const { at, moments: all } = run.focuses[view.focus];
  return all.findLast((n) => moments.at[n] <= at) ?? all.at(-1);
}

/** Shows a violation: its last moments, as many as fit into a legible length. */
function showFocus(which) {
  if (run.focuses.length === 0) return;
  view.focus = (which + run.focuses.length) % run.focuses.length;
  const focus = run.focuses[view.focus];
  const first = focus.moments.length ? moments.at[focus.moments[0]] : focus.at;
  const whole = Math.max(focus.at - first, 40000) * 1.5;
  const length = Math.min(whole, 1500000, run.end);
  look(focus.at - length * 0.72, length);
  const last = focusMoment();
  if (last !== undefined) bring(moments.at[last], moments.lane[last]);
  told("focus");
}

function resize() {
  const plot = document.getElementById("plot");
  const box = plot.getBoundingClientRect();
  view.width = Math.max(box.width, 50);
  view.height = Math.max(box.height, 50);
  const room = view.height - view.axis - view.gap - 14;
  view.lane = Math.min(Math.max(room / run.lanes.length, 36), 78);
  view.scroll = Math.min(view.scroll, Math.max(0, lanesHeight() - view.height));
  for (const canvas of [plot, document.getElementById("overview")]) {
    const { width, height } = canvas.getBoundingClientRect();
    const dense = Math.min(devicePixelRatio || 1, 2.5);
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    canvas.getContext("2d").setTransform(dense, 0, 0, dense, 0, 0);
  }
  redraw();
}

let drawing = false;
/** Draws soon, and once, whatever has changed until then. */
function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawAll();
  });
}

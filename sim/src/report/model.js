"use strict";
// The run as it was recorded: typed columns, and indexes by lane, send and time.

const problems = [];
addEventListener("error", (event) => problems.push(String(event.message)));
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));

const run = JSON.parse(document.getElementById("run").textContent);

/** Sums differences up again. */
function sums(differences) {
  const all = new Float64Array(differences.length);
  let sum = 0;
  for (let i = 0; i < all.length; i++) all[i] = sum += differences[i];
  return all;
}

const messages = run.messages;
messages.count = messages.sent.length;
messages.sent = sums(messages.sent);
messages.written = sums(messages.written);
messages.took = Float64Array.from(messages.took);
for (const column of ["from", "to", "sort"]) messages[column] = Uint16Array.from(messages[column]);
for (const column of ["text", "wire"]) messages[column] = Uint32Array.from(messages[column]);

const moments = run.moments;
moments.count = moments.at.length;
moments.at = sums(moments.at);
moments.ordinal = sums(moments.ordinal);

const KIND = Object.fromEntries(run.kinds.map((name, n) => [name, n]));
const SORT = Object.fromEntries(run.sorts.map((name, n) => [name, n]));
const TRAFFIC = new Set(["send", "receipt", "delivery", "acknowledgement", "confirmation"].map((name) => KIND[name]));
// What the page lists as the run's chapters.
const CHAPTERS = new Set(
  [
    "phase",
    "fault begins",
    "fault ends",
    "start",
    "down",
    "panic",
    "leader",
    "members",
    "snapshot",
    "damage",
    "warning",
  ].map((name) => KIND[name]),
);

/** When a message is over: read, or as long after as one that is lost is drawn. */
function endOf(n) {
  const took = messages.took[n];
  return messages.sent[n] + (took >= 0 ? took : 12000);
}

// Messages are in the order of their sending; the longest time under way bounds where to begin to look.
messages.longest = 0;
for (let n = 0; n < messages.count; n++) messages.longest = Math.max(messages.longest, endOf(n) - messages.sent[n]);
// Few take very long (they were held): those are kept apart, so that the bound is useful.
const USUAL = 200000;
messages.slow = [];
for (let n = 0; n < messages.count; n++) if (endOf(n) - messages.sent[n] > USUAL) messages.slow.push(n);

messages.bySend = run.sends.map(() => []);
for (let n = 0; n < messages.count; n++) for (const send of messages.sends[n]) messages.bySend[send].push(n);
moments.bySend = run.sends.map(() => []);
for (let n = 0; n < moments.count; n++) if (moments.send[n] >= 0) moments.bySend[moments.send[n]].push(n);
moments.byLane = run.lanes.map(() => []);
for (let n = 0; n < moments.count; n++) if (moments.lane[n] >= 0) moments.byLane[moments.lane[n]].push(n);

/** The first place in ascending `column` whose value is not below `value`. */
function lowerBound(column, value, from = 0, to = column.length) {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (column[middle] < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** How often something was sent or read on each lane, as sorted times: for drawing what is too much to draw singly. */
function loads(isShown) {
  const times = run.lanes.map(() => []);
  for (let n = 0; n < messages.count; n++) {
    if (!isShown(n)) continue;
    times[messages.from[n]].push(messages.sent[n]);
    if (messages.took[n] >= 0) times[messages.to[n]].push(messages.sent[n] + messages.took[n]);
  }
  return times.map((lane) => Float64Array.from(lane).sort());
}

function seconds(micros, digits = 3) {
  return (micros / 1e6).toFixed(digits);
}

/** A duration in words. */
function span(micros) {
  if (micros < 1000) return `${Math.round(micros)} µs`;
  return micros < 1e6 ? `${+(micros / 1000).toFixed(1)} ms` : `${+(micros / 1e6).toFixed(2)} s`;
}

const laneName = (lane) => (lane < 0 ? "run" : run.lanes[lane][0]);

// Trace lines are packed in pieces, and unpacked when somebody looks.
const unpacked = new Map();

async function unpack(chunk) {
  const bytes = Uint8Array.from(atob(run.trace.chunks[chunk]), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return (await new Response(stream).text()).split("\n");
}

/** The trace's lines from one ordinal to another, both included; lines that are not there are left out. */
async function traceLines(from, to) {
  const { first, per_chunk: per, chunks } = run.trace;
  const lines = [];
  for (let ordinal = Math.max(from, first); ordinal <= to; ordinal++) {
    const chunk = Math.floor((ordinal - first) / per);
    if (chunk >= chunks.length) break;
    if (!unpacked.has(chunk)) unpacked.set(chunk, unpack(chunk));
    const line = (await unpacked.get(chunk))[(ordinal - first) % per];
    if (line) lines.push([ordinal, line]);
  }
  return lines;
}

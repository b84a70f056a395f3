// What the servers tell, for the views to draw; and how they are asked. Nothing is made of HTML that somebody sent: all text
// goes in as text.

/** A server that said nothing for so long does not answer, in milliseconds. */
const SILENCE = 3000;
/** How long an answer may take. The server itself gives up after four seconds. */
const PATIENCE = 6000;

export const state = {
  /** By name: { name, address, status, at, feed, rates, history }. */
  servers: new Map(),
  /** What happened, the newest first: { at, text, serious, server }. */
  log: [],
  /** Messages that passed, the newest first. */
  passing: [],
  /** The server that served the page, and the one that is asked now. */
  home: null,
  current: null,
};

const listeners = new Set();

/** Calls `listener` about once a second, and whenever something is new. */
export function onNews(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

let drawing = false;
export function news() {
  if (drawing) return;
  drawing = true;
  const draw = () => { drawing = false; for (const listener of [...listeners]) listener(); };
  // A window that is not seen draws nothing, and no frame comes for it.
  if (document.hidden) setTimeout(draw, 250); else requestAnimationFrame(draw);
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) made.setAttribute(key, value);
  made.append(...children.filter((child) => child != null));
  return made;
}

export const number = (value) => (value == null ? "–" : Math.round(value).toLocaleString("en-US"));
export function size(bytes) {
  if (bytes == null) return "–";
  let unit = 0;
  while (bytes >= 1000 && unit < 4) { bytes /= 1024; unit += 1; }
  return `${unit && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
export const rate = (value) => (value == null ? "–" : value < 10 ? String(Math.round(value * 10) / 10) : number(value));

/* ---- feeds: one from each server, so that the page knows what each says of itself ---- */

function origin(address) {
  // The page may have come by another name of the same server.
  const me = state.home && state.servers.get(state.home);
  return me && me.address === address ? location.origin : `${location.protocol}//${address}`;
}

class Feed {
  constructor(url) {
    this.url = url;
    this.seen = 0;
    this.boot = null;
    this.closed = false;
    this.open();
  }
  open() {
    if (this.closed) return;
    const source = new EventSource(`${this.url}/v1/events?after=${this.seen}`);
    this.source = source;
    source.addEventListener("status", (event) => told(this, JSON.parse(event.data)));
    source.addEventListener("happening", (event) => happened(this, JSON.parse(event.data)));
    source.addEventListener("passing", (event) => passed(this, JSON.parse(event.data)));
    source.addEventListener("end", () => this.again());
    source.onerror = () => this.again();
  }
  again() {
    this.source.close();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), 1000);
    news();
  }
  close() { this.closed = true; clearTimeout(this.timer); this.source.close(); }
}

const first = new Feed(location.origin);

/* ---- which servers there were, for a page that is loaded again while its own is down ---- */

const KNOWN = "servers";

function remember() {
  const servers = [...state.servers.values()].map(({ name, address }) => ({ name, address }));
  const text = JSON.stringify({ home: state.home, servers });
  try { if (localStorage.getItem(KNOWN) !== text) localStorage.setItem(KNOWN, text); } catch { /* Then it forgets. */ }
}

function recall() {
  try {
    const known = JSON.parse(localStorage.getItem(KNOWN) ?? "null");
    if (!known) return;
    state.home = known.home;
    for (const { name, address } of known.servers) {
      const server = { name, address, history: [] };
      state.servers.set(name, server);
      server.feed = name === known.home ? first : new Feed(origin(address));
    }
  } catch { /* What is not understood is not known. */ }
}

recall();

function told(feed, status) {
  const name = status.server;
  if (feed === first) state.home = name;
  for (const row of status.servers) {
    let known = state.servers.get(row.name);
    if (!known) {
      known = { name: row.name, address: row.address, history: [] };
      state.servers.set(row.name, known);
    }
    if (known.address !== row.address) { known.address = row.address; known.feed?.close(); known.feed = null; }
  }
  for (const [known, server] of state.servers) {
    if (!status.servers.some((row) => row.name === known) && known !== name) { server.feed?.close(); state.servers.delete(known); }
    else if (known === state.home) server.feed = first;
    else if (!server.feed && state.home) server.feed = new Feed(origin(server.address));
  }
  const server = state.servers.get(name);
  if (server && server.feed === feed) {
    server.rates = rates(server.status, status);
    // A disk is looked at now and then.
    if (!status.disk && server.status) status.disk = server.status.disk;
    if (server.status && status.counts.uptime_ms < server.status.counts.uptime_ms) feed.seen = 0;
    server.status = status;
    server.at = performance.now();
    server.history.push(server.rates.accepted);
    if (server.history.length > 60) server.history.shift();
  }
  choose();
  remember();
  news();
}

/** What was done each second since the status before. */
function rates(before, now) {
  const spent = before ? (now.counts.uptime_ms - before.counts.uptime_ms) / 1000 : 0;
  if (spent <= 0) return { accepted: 0, delivered: 0, received: 0, sent: 0, links: {} };
  const each = (of) => Math.max(0, (of(now) - of(before)) / spent);
  const links = {};
  for (const row of now.servers) {
    const was = before.servers.find((known) => known.name === row.name);
    links[row.name] = was ? Math.max(0, (row.sent_bytes + row.received_bytes - was.sent_bytes - was.received_bytes) / spent) : 0;
  }
  return {
    accepted: each((status) => status.counts.accepted),
    delivered: each((status) => status.counts.delivered),
    received: each((status) => status.counts.received_bytes),
    sent: each((status) => status.counts.sent_bytes),
    links,
  };
}

function nameOf(feed) {
  for (const server of state.servers.values()) if (server.feed === feed) return server.name;
  return state.home ?? "";
}

function happened(feed, happening) {
  feed.seen = Math.max(feed.seen, happening.number);
  const entry = { at: happening.unix_ms, text: happening.text, serious: happening.serious, kind: happening.kind, server: nameOf(feed) };
  // An election is told by all who see it: once is enough.
  const same = state.log.find((known) => known.text === entry.text && Math.abs(known.at - entry.at) < 5000);
  if (same) return;
  state.log.push(entry);
  state.log.sort((one, other) => other.at - one.at);
  state.log.length = Math.min(state.log.length, 200);
  news();
}

function passed(feed, list) {
  const server = nameOf(feed);
  for (const message of list) state.passing.unshift({ ...message, server, at: performance.now() });
  state.passing.length = Math.min(state.passing.length, 40);
  news();
}

/** Whether a server said something lately. */
export const isLive = (server) => server.at != null && performance.now() - server.at < SILENCE;

/** Stays with a server as long as it lives and serves; then goes on at another one. */
export function choose() {
  const serves = (server) => server && isLive(server) && server.status.serves;
  if (serves(state.servers.get(state.current))) return;
  const order = [state.servers.get(state.home), ...state.servers.values()];
  const next = order.find(serves);
  state.current = next ? next.name : null;
}

/* ---- asking ---- */

export class Refused extends Error {
  constructor(problem) { super(problem.detail); this.problem = problem; }
}

/**
 * Asks the current server, and others in its place while it cannot answer. `safe` says that the same may be asked again
 * although nobody knows what became of it.
 */
export async function ask(method, path, body, safe = method === "GET") {
  const tried = new Set();
  for (;;) {
    choose();
    const server = [state.servers.get(state.current), ...state.servers.values()].find((known) => known && isLive(known) && !tried.has(known.name));
    if (!server && tried.size) throw new Error("no server can answer now");
    const base = server ? origin(server.address) : location.origin;
    tried.add(server ? server.name : "");
    try {
      const response = await fetch(`${base}/v1${path}`, {
        method,
        headers: body === undefined ? {} : { "Content-Type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(PATIENCE),
      });
      if (response.ok) return response.status === 204 ? null : await response.json();
      const problem = await response.json();
      if (problem.status === 503 || (problem.status === 504 && safe)) throw new Error(problem.detail);
      throw new Refused(problem);
    } catch (error) {
      if (error instanceof Refused || !safe) throw error;
      if (server) server.at = null;
    }
  }
}

/** Follows an inbox, at another server when the one that tells dies. */
export class Inbox {
  constructor(client, handlers) {
    this.client = client;
    this.handlers = handlers;
    this.after = 0;
    this.open();
    this.watch = setInterval(() => { if (this.server !== state.current) this.open(); }, 500);
  }
  open() {
    this.source?.close();
    clearTimeout(this.timer);
    choose();
    this.server = state.current;
    const server = state.servers.get(this.server);
    if (!server) { this.timer = setTimeout(() => this.open(), 500); return; }
    const source = new EventSource(`${origin(server.address)}/v1/clients/${encodeURIComponent(this.client)}/inbox/events?after=${this.after}`);
    this.source = source;
    source.addEventListener("inbox", (event) => this.handlers.inbox(JSON.parse(event.data)));
    source.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      if (message.position === undefined || message.position <= this.after) return;
      this.after = message.position;
      this.handlers.message(message);
    });
    const again = () => { source.close(); clearTimeout(this.timer); this.timer = setTimeout(() => this.open(), 700); };
    source.addEventListener("end", (event) => {
      const problem = JSON.parse(event.data);
      if (problem.code === "registration_ended") { this.after = 0; this.handlers.ended?.(problem); }
      again();
    });
    source.onerror = again;
  }
  close() { clearInterval(this.watch); clearTimeout(this.timer); this.source?.close(); }
}

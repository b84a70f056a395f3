// The cluster at a glance.
import { element, isLive, number, onNews, rate, size, state } from "./store.js";
import { picture } from "./picture.js";

/** The status that knows best: the leader's, or else the newest. */
export function best() {
  const live = [...state.servers.values()].filter((server) => isLive(server));
  live.sort((one, other) => other.status.term - one.status.term || (other.status.role === "leader") - (one.status.role === "leader") || other.status.applied_index - one.status.applied_index);
  return live[0]?.status;
}

/** What a server is, in one word, and whether that is good. */
export function standing(server, status) {
  const row = status?.servers.find((known) => known.name === server.name);
  if (isLive(server)) {
    const role = server.status.role;
    if (row?.drained) return { word: role === "leader" ? "leads, drained" : "drained", kind: "drained" };
    return { word: role === "leader" ? "leads" : role === "follower" ? "follows" : role, kind: role === "leader" && server.status.leader ? "leader" : "follower" };
  }
  // The page may not reach what the servers do.
  if (server.at == null && row?.reachable && server.status === undefined) return { word: row.name === status.leader ? "leads" : "not seen from here", kind: row.name === status.leader ? "leader" : "follower" };
  return { word: "no answer", kind: "down" };
}

const sum = (of) => [...state.servers.values()].filter(isLive).reduce((total, server) => total + of(server), 0);

function spark(history) {
  const width = 120, height = 36;
  const most = Math.max(1, ...history);
  const at = (value, place) => `${((place + 60 - history.length) / 59 * width).toFixed(1)},${(height - 2 - value / most * (height - 4)).toFixed(1)}`;
  return { line: history.map(at).join(" "), width, height };
}

function numberBox(what, id, withSpark) {
  const box = element("div", { class: "number", id }, element("span", { class: "what" }, what), element("span", { class: "value" }, "–"));
  if (withSpark) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 120 36");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const [name, kind] of [["polygon", "spark-fill"], ["polyline", "spark"]]) {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
      shape.setAttribute("class", kind);
      svg.append(shape);
    }
    box.append(svg);
  }
  return box;
}

const sparks = { accepted: [], delivered: [], traffic: [] };
let sampled = 0;

function sample() {
  if (performance.now() - sampled < 900) return;
  sampled = performance.now();
  const now = { accepted: sum((s) => s.rates.accepted), delivered: sum((s) => s.rates.delivered), traffic: sum((s) => s.rates.received + s.rates.sent) };
  for (const key of Object.keys(sparks)) { sparks[key].push(now[key]); if (sparks[key].length > 60) sparks[key].shift(); }
}
onNews(sample);

function setText(node, text) { if (node.textContent !== text) node.textContent = text; }

function setNumber(id, value, unit, history) {
  const box = document.getElementById(id);
  const place = box.querySelector(".value");
  if (place.dataset.text !== value + unit) {
    place.dataset.text = value + unit;
    place.replaceChildren(value, element("small", {}, unit));
  }
  if (history) {
    const { line, width, height } = spark(history);
    box.querySelector(".spark").setAttribute("points", line);
    box.querySelector(".spark-fill").setAttribute("points", line ? `${line.split(" ")[0].split(",")[0]},${height} ${line} ${width},${height}` : "");
  }
}

function numbers(status) {
  const place = document.getElementById("numbers");
  if (!place.childElementCount) {
    place.append(numberBox("accepted", "n-accepted", true), numberBox("delivered", "n-delivered", true), numberBox("waiting", "n-waiting"), numberBox("clients", "n-clients"), numberBox("traffic", "n-traffic", true));
  }
  setNumber("n-accepted", rate(sparks.accepted.at(-1)), "/s", sparks.accepted);
  setNumber("n-delivered", rate(sparks.delivered.at(-1)), "/s", sparks.delivered);
  setNumber("n-traffic", size(sparks.traffic.at(-1)), "/s", sparks.traffic);
  setNumber("n-waiting", number(status?.waiting), "");
  setNumber("n-clients", number(status?.clients), "");
  setText(document.querySelector("#n-waiting .what"), status ? `waiting, ${size(status.waiting_bytes)}` : "waiting");
  setText(document.querySelector("#n-clients .what"), status ? `clients, ${number(sum((s) => s.status.sessions))} connected` : "clients");
}

function headline(status) {
  if (!status) return state.home ? "No server answers" : "Connecting";
  if (!status.leader) return "No leader: nothing is accepted until there is one";
  return `${status.leader} leads, in term ${status.term}`;
}

const COLUMNS = ["Server", "Role", "Sessions", "Applied", "Lag", "Accepted", "Delivered", "Traffic", "Log", "Checkpoint", "Free", "Disk"];

function serverRows(status) {
  const body = document.getElementById("servers");
  const servers = [...state.servers.values()].sort((one, other) => one.name.localeCompare(other.name));
  for (const row of [...body.children]) if (!servers.some((server) => server.name === row.dataset.name)) row.remove();
  servers.forEach((server, place) => {
    let row = [...body.children].find((known) => known.dataset.name === server.name);
    if (!row) {
      row = element("tr", { "data-name": server.name });
      COLUMNS.forEach((what, column) => row.append(element("td", { "data-what": what, class: column >= 2 && column <= 10 ? "n" : column === 1 ? "role" : null })));
      row.children[0].append(server.name, element("span", { class: "address" }, server.address));
      body.insertBefore(row, body.children[place] ?? null);
    }
    const live = isLive(server), it = server.status;
    const known = status?.servers.find((other) => other.name === server.name);
    const { word, kind } = standing(server, status);
    const cells = [null, word, live ? number(it.sessions) : "–", live ? number(it.applied_index) : "–", known?.lag == null ? "–" : number(known.lag),
      live ? `${rate(server.rates.accepted)}/s` : "–", live ? `${rate(server.rates.delivered)}/s` : "–", live ? `${size(server.rates.received + server.rates.sent)}/s` : "–",
      live ? size(it.log_bytes) : "–", live ? size(it.disk?.checkpoint_bytes) : "–", live ? size(it.disk?.free_bytes) : "–", live ? (it.disk?.condition ?? "–") : "–"];
    cells.forEach((text, column) => { if (text != null) setText(row.children[column], text); });
    row.children[1].className = `role ${kind === "down" ? "bad" : kind === "leader" ? "lead" : ""}`;
    row.children[11].className = live && it.disk && it.disk.condition !== "good" ? "bad" : "";
  });
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
let shownLog = "";

function log() {
  const key = state.log.length ? `${state.log.length} ${state.log[0].at} ${state.log[0].text}` : "none";
  if (key === shownLog) return;
  shownLog = key;
  document.getElementById("log").replaceChildren(...state.log.slice(0, 100).map((entry) =>
    element("li", { class: entry.serious ? "serious" : null }, element("time", { datetime: new Date(entry.at).toISOString() }, clock.format(entry.at)), element("span", {}, entry.text))));
}

let shownPassing = null;
function passing() {
  const key = state.passing[0];
  if (shownPassing !== null && key === shownPassing) return;
  shownPassing = key;
  const rows = state.passing.slice(0, 6).map((message) =>
    element("li", {}, element("span", { class: "who" }, `${message.from} → ${message.to}`), element("span", { class: "aside" }, `${message.server} → ${message.home}, ${size(message.bytes)}`)));
  document.getElementById("passing").replaceChildren(...(rows.length ? rows : [element("li", { class: "none" }, "Nothing yet. A few of the messages show here as they pass.")]));
}

function problems(status) {
  const place = document.getElementById("problems");
  const list = [...new Set([...state.servers.values()].filter(isLive).flatMap((server) => server.status.problems.map((problem) => `${server.name} says: ${problem}`)))];
  const key = list.join("\n");
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  place.hidden = list.length === 0;
  place.querySelector("ul").replaceChildren(...list.map((problem) => element("li", {}, problem)));
}

export function drawCluster() {
  const draw = () => {
    const status = best();
    setText(document.getElementById("headline"), headline(status));
    numbers(status);
    picture(status);
    serverRows(status);
    log();
    passing();
    problems(status);
  };
  draw();
  return onNews(draw);
}

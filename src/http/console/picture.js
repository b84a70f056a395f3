// The servers, drawn as what they are: the leader full, followers open, one that does not answer broken; between them links
// as wide as their traffic, and dots for some of the messages.
import { isLive, size, state } from "./store.js";
import { standing } from "./cluster.js";

const SVG = "http://www.w3.org/2000/svg";
const CENTER = { x: 320, y: 210 };
const RADIUS = 34;
/** Dots that move at a time. */
const DOTS = 24;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

function make(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Where each server is: by its name, so that nothing moves when the leader changes. */
function places(names) {
  const at = new Map();
  const [wide, high] = names.length > 2 ? [205, names.length > 3 ? 125 : 145] : [150, 0];
  names.forEach((name, place) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * place) / names.length + (names.length === 2 ? Math.PI / 2 : 0);
    at.set(name, names.length === 1 ? { ...CENTER } : { x: CENTER.x + wide * Math.cos(angle), y: CENTER.y + high * Math.sin(angle) });
  });
  // As much room above as below, with the words there.
  const heights = [...at.values()].map(({ y }) => y);
  const shift = CENTER.y - (Math.min(...heights) + Math.max(...heights)) / 2;
  for (const place of at.values()) place.y += shift;
  return at;
}

let known = "", at = new Map(), nodes = new Map(), links = new Map(), dots = null;

function build(names) {
  const picture = document.getElementById("picture");
  known = names.join(" ");
  at = places(names);
  nodes = new Map();
  links = new Map();
  const lines = make("g", {});
  dots = make("g", {});
  const circles = make("g", {});
  names.forEach((one, place) => names.slice(place + 1).forEach((other) => {
    const [a, b] = [at.get(one), at.get(other)];
    const line = make("line", { class: "link", x1: a.x, y1: a.y, x2: b.x, y2: b.y, "stroke-width": 1.5 });
    const title = make("title", {});
    line.append(title);
    lines.append(line);
    links.set(`${one} ${other}`, { line, title });
  }));
  for (const name of names) {
    const { x, y } = at.get(name);
    const node = make("g", { class: "node" });
    const above = y < CENTER.y - 60;
    const text = (kind, dy) => { const made = make("text", { class: kind, x, y: y + dy }); node.append(made); return made; };
    node.append(make("circle", { class: "body", cx: x, cy: y, r: RADIUS }));
    text("name", 1).textContent = name.length > 7 ? `${name.slice(0, 6)}…` : name;
    // Two lines below the circle, or above it: their distance is that of the letters, which are larger in a small window.
    const words = text("say", above ? -RADIUS - 11 : RADIUS + 8);
    const role = make("tspan", { class: "strong", x, dy: above ? "-1.2em" : "0.85em" });
    const about = make("tspan", { x, dy: "1.2em" });
    words.append(role, about);
    circles.append(node);
    nodes.set(name, { node, role, about });
  }
  picture.replaceChildren(lines, dots, circles);
}

export function picture(status) {
  const names = [...state.servers.keys()].sort();
  if (dots === null || names.join(" ") !== known) build(names);
  for (const name of names) {
    const server = state.servers.get(name);
    const { node, role, about } = nodes.get(name);
    const { word, kind } = standing(server, status);
    const row = status?.servers.find((other) => other.name === name);
    node.setAttribute("class", `node ${kind}`);
    set(role, word);
    const lag = row?.lag ? `, lacks ${row.lag.toLocaleString("en-US")}` : "";
    set(about, isLive(server) ? `${server.status.sessions} ${server.status.sessions === 1 ? "client" : "clients"}${lag}` : "");
  }
  for (const [key, { line, title }] of links) {
    const [one, other] = key.split(" ").map((name) => state.servers.get(name));
    const both = isLive(one) && isLive(other);
    const traffic = (isLive(one) ? one.rates.links[other.name] ?? 0 : 0) + (isLive(other) ? other.rates.links[one.name] ?? 0 : 0);
    line.setAttribute("class", both ? "link" : "link gone");
    line.setAttribute("stroke-width", both ? Math.min(14, 1 + 2.2 * Math.log10(1 + traffic / 400)).toFixed(1) : 1.5);
    set(title, `${one.name} and ${other.name}: ${size(traffic)} a second`);
  }
  launch(status);
}

function set(node, text) { if (node.textContent !== text) node.textContent = text; }

let launched = 0;
function launch(status) {
  if (calm.matches || document.hidden) return;
  const fresh = state.passing.filter((message) => message.at > launched).slice(0, DOTS - dots.childElementCount);
  launched = Math.max(launched, state.passing[0]?.at ?? 0);
  fresh.forEach((message, place) => setTimeout(() => fly([message.server, status?.leader, message.home]), place * (900 / fresh.length)));
}

/** A dot goes from the sender's server by the leader to the recipient's. */
function fly(way) {
  const stops = way.filter((name, place) => at.has(name) && name !== way[place - 1]).map((name) => at.get(name));
  if (stops.length < 2 || !dots) return;
  const dot = make("circle", { class: "mail", r: 4.5, cx: stops[0].x, cy: stops[0].y });
  dots.append(dot);
  const leg = 520, begin = performance.now();
  const step = (now) => {
    const gone = Math.max(0, (now - begin) / leg), place = Math.floor(gone);
    if (place >= stops.length - 1 || !dot.isConnected) { dot.remove(); return; }
    const part = gone - place, eased = part < 0.5 ? 2 * part * part : 1 - 2 * (1 - part) ** 2;
    const [a, b] = [stops[place], stops[place + 1]];
    dot.setAttribute("cx", a.x + (b.x - a.x) * eased);
    dot.setAttribute("cy", a.y + (b.y - a.y) * eased);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

// The console: which view is shown, and by which server.
import { drawCluster } from "./cluster.js";
import { clientsView } from "./clients.js";
import { clientView } from "./client.js";
import { channelView, channelsView } from "./channels.js";
import { choose, isLive, news, onNews, state } from "./store.js";

const views = { cluster: drawCluster, clients: clientsView, client: clientView, channels: channelsView, channel: channelView };
/** The pages of one thing, and the link that leads to it. */
const one = { client: "clients", channel: "channels" };
let leave = () => {};

function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const name = one[parts[0]] && parts[1] ? parts[0] : ["clients", "channels"].includes(parts[0]) ? parts[0] : "cluster";
  leave();
  for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== name;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    const on = link.dataset.view === (one[name] ?? name);
    if (on) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = one[name] ? `${parts[1]} – Restante` : name === "cluster" ? "Restante" : `${name[0].toUpperCase()}${name.slice(1)} – Restante`;
  leave = views[name](parts[1]) ?? (() => {});
}

function via() {
  const words = document.querySelector("#via .words");
  const place = document.getElementById("via");
  choose();
  const home = state.servers.get(state.home);
  const lost = state.current && home && !isLive(home);
  place.className = `via ${state.current ? "live" : "lost"}`;
  const text = !state.home ? "connecting" : !state.current ? "no server answers" : lost ? `${state.home} is gone: via ${state.current}` : `via ${state.current}`;
  if (words.textContent !== text) words.textContent = text;
}

onNews(via);
setInterval(news, 1000);
addEventListener("hashchange", () => { route(); document.getElementById("main").focus({ preventScroll: true }); });
route();
news();
// Only where the browser allows it: on this machine, or by TLS.
navigator.serviceWorker?.register("/worker.js").catch(() => {});

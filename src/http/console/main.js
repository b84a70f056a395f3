// The console: which view is shown, and by which server.
import { drawCluster } from "./cluster.js";
import { clientsView } from "./clients.js";
import { clientView } from "./client.js";
import { choose, isLive, news, onNews, state } from "./store.js";

const views = { cluster: drawCluster, clients: clientsView, client: clientView };
let leave = () => {};

function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const name = parts[0] === "client" && parts[1] ? "client" : parts[0] === "clients" ? "clients" : "cluster";
  leave();
  for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== name;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    const on = link.dataset.view === (name === "client" ? "clients" : name);
    if (on) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = name === "client" ? `${parts[1]} – Restante` : name === "clients" ? "Clients – Restante" : "Restante";
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

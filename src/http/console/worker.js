// Keeps the console's files, so that the page can be loaded again although the server that it came from is down: it goes on at
// another one then. What the server gives is always preferred, and nothing but these files is kept.
const KEPT = "console";
const FILES = ["/", "/console/style.css", "/console/main.js", "/console/store.js", "/console/cluster.js", "/console/picture.js",
  "/console/channels.js", "/console/clients.js", "/console/client.js", "/console/icon.svg"];
/** How long the server has for its answer, in milliseconds, if there is another one. */
const PATIENCE = 2000;

addEventListener("install", (event) => event.waitUntil(caches.open(KEPT).then((kept) => kept.addAll(FILES)).then(() => skipWaiting())));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin || !FILES.includes(url.pathname)) return;
  event.respondWith(answer(event.request, url.pathname));
});

async function answer(request, path) {
  const kept = await caches.open(KEPT);
  const before = await kept.match(path);
  try {
    const response = await fetch(request, before ? { signal: AbortSignal.timeout(PATIENCE) } : {});
    if (response.ok) await kept.put(path, response.clone());
    return response;
  } catch (error) {
    if (before) return before;
    throw error;
  }
}

// Keeps the shell of the pages, so that they open and can say that the box is not reachable. Never an answer: what is not in
// this list is not touched.
const KEPT = "locus-shell-1";
const SHELL = [
  "/", "/operator", "/manifest.webmanifest", "/page/style.css", "/page/answer.js", "/page/api.js", "/page/app.js",
  "/page/band.js", "/page/batch.js", "/page/dom.js", "/page/drawing.js", "/page/input.js", "/page/operator.js",
  "/page/said.js", "/page/shell.js", "/page/words.js", "/page/en.json", "/page/zh.json", "/page/icon.svg",
];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(KEPT).then((kept) => kept.addAll(SHELL)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = (names) => names.filter((name) => name !== KEPT);
  event.waitUntil(
    caches.keys().then((names) => Promise.all(old(names).map((name) => caches.delete(name)))).then(() => self.clients.claim()),
  );
});

// The box's own page counts where the box is there; the kept one where it is not.
async function shell(request, path) {
  const kept = await caches.open(KEPT);
  try {
    const fresh = await fetch(request);
    if (fresh.ok) await kept.put(path, fresh.clone());
    return fresh;
  } catch (error) {
    const old = await kept.match(path);
    if (old) return old;
    throw error;
  }
}

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  if (event.request.method === "GET" && origin === self.location.origin && SHELL.includes(pathname)) {
    event.respondWith(shell(event.request, pathname));
  }
});

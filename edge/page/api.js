// What is asked of the box. Nothing that comes back is kept.

/** Time after which the box counts as not reachable, in milliseconds. */
const PATIENCE = 30000;
/** Times that a request is repeated with its id while the box says that it may be answered later. */
const REPEATS = 3;
/** Longest pause before a repeat, in milliseconds. */
const PAUSE = 2000;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function send(path, options) {
  const stop = AbortSignal.timeout(PATIENCE);
  const signals = options && options.signal ? [options.signal, stop] : [stop];
  try {
    const response = await fetch(path, { cache: "no-store", ...options, signal: AbortSignal.any(signals) });
    const text = await response.text();
    let body = null;
    try {
      body = text ? JSON.parse(text) : null;
    } catch {
      // Whoever answered so is not this box.
    }
    return { status: response.status, body };
  } catch (error) {
    if (options && options.signal && options.signal.aborted) throw error;
    return { status: 0, body: null };
  }
}

const posted = (body) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const session = () => send("/v1/session");
export const signIn = (token) => send("/v1/session", posted({ token }));
export const signOut = () => send("/v1/session", { method: "DELETE" });
export const overview = () => send("/v1/operator");
export const trail = () => send("/v1/audit");
export const order = (what, model) => send(`/v1/${what}`, posted({ model }));

/** Asks until there is an outcome: `again` hears of every repeat. */
export async function ask(request, again) {
  for (let repeat = 0; ; repeat += 1) {
    const { status, body } = await send("/predict", posted(request));
    const later = status === 0 || (body && body.code && body.retryable);
    if (!later || repeat === REPEATS) return { status, body };
    again(repeat + 1);
    await pause(Math.min((body && body.retry_after_ms) || 500 * (repeat + 1), PAUSE));
  }
}

/** Has a part of a VCF annotated. */
export async function annotate(text, query, signal) {
  const response = await fetch(`/v1/annotate${query}`, {
    method: "POST", headers: { "content-type": "text/plain" }, body: text, cache: "no-store", signal,
  });
  const body = await response.text();
  if (response.ok) return { text: body };
  try {
    return { status: response.status, fault: JSON.parse(body) };
  } catch {
    return { status: response.status, fault: null };
  }
}

/** Uploads a file to flash; hears how far it has come, then each line of what comes back. */
export function flash(file, onUpload, onLine) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    let read = 0;
    const lines = () => {
      const whole = request.responseText.lastIndexOf("\n") + 1;
      for (const line of request.responseText.slice(read, whole).split("\n")) {
        if (line && request.status === 200) onLine(JSON.parse(line));
      }
      read = Math.max(read, whole);
    };
    request.upload.addEventListener("progress", (event) => onUpload(event.loaded, event.total));
    request.addEventListener("progress", lines);
    request.addEventListener("loadend", () => {
      lines();
      let body = null;
      try {
        body = request.status === 200 ? null : JSON.parse(request.responseText);
      } catch {
        // Whoever answered so is not this box.
      }
      done({ status: request.status, body });
    });
    request.open("POST", "/v1/flash");
    request.send(file);
  });
}

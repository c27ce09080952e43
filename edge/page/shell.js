// What every page has: who and which box, whether it is ready, the language, signing in and out.
import { session as askSession, signIn, signOut } from "./api.js";
import { h, put } from "./dom.js";
import { choose, other, speak, spoken, t, wanted } from "./words.js";

/** How often the box is asked how it is, in milliseconds. */
const LOOK = 5000;

const state = { session: null, reachable: null, refusal: null, over: false, strip: null, drawn: "" };
const parts = {};

/** What is known of the box and of whoever is signed in. */
export const session = () => state.session;

/** Shows what an answer was made with, all the time that it is in sight. */
export function showStrip(texts) {
  state.strip = texts;
  drawStrip();
}

/** Says something to whoever does not see it. */
export function say(text) {
  put(parts.live, text);
}

function drawHead(view) {
  const { session: known, reachable } = state;
  const signed = known && known.signed_in;
  const ready = !reachable ? "gone" : known.ready ? "ready" : "not_ready";
  const page = (path, name) => h("a", { href: `${path}?lang=${spoken()}`, "aria-current": view.path === path ? "page" : null }, t(name));
  put(parts.head,
    h("div", { class: "bar" },
      h("span", { class: "brand" }, "Locus"),
      signed ? h("span", { class: "where" }, t("where", { box: known.box, site: known.site })) : [],
      reachable === null ? [] : h("span", { class: `state ${ready}` }, h("span", { class: "shape", "aria-hidden": "true" }), t(`state.${ready}`)),
      signed && known.may_operate ? h("nav", { "aria-label": t("pages") }, page("/", "page.ask"), " ", page("/operator", "page.operator")) : [],
      h("span", { class: "who" },
        signed ? [t("signed_in", { name: known.name, role: t(`role.${known.role}`) }), " "] : [],
        signed && known.by === "session" ? h("button", { type: "button", class: "quiet", id: "sign-out", onclick: () => leave(view) }, t("sign_out")) : [],
        h("button", { type: "button", class: "quiet", id: "language", lang: other() === "zh" ? "zh-CN" : "en", onclick: () => turn(view) },
          t("language.other")))));
}

function drawStrip() {
  const known = state.session;
  const signed = known && known.signed_in;
  const models = signed ? known.models.map((model) => [`${model.name} ${model.version} · ${model.digest.slice(0, 12)}…`, `${model.precision} · ${model.provider}`]) : [];
  const texts = state.strip || (models.length > 0 ? models.flat() : signed ? [t("strip.no_model")] : []);
  put(parts.strip, texts.map((text) => h("span", null, text)));
  parts.strip.hidden = texts.length === 0;
}

async function turn(view) {
  await choose(other());
  draw(view);
  document.getElementById("language").focus();
}

async function leave(view) {
  await signOut();
  await look(view);
}

function drawSignIn(view) {
  const problem = h("p", { class: "problem", role: "alert", id: "problem" });
  const token = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "token-hint problem" });
  const enter = async (event) => {
    event.preventDefault();
    const { status, body } = await signIn(token.value);
    token.value = "";
    if (status === 204) {
      state.over = false;
      await look(view);
      return;
    }
    put(problem, status === 0 ? t("gone.what") : refusal(body));
    token.focus();
  };
  put(parts.main, h("section", { class: "narrow" },
    h("h1", null, t("sign_in")),
    state.over ? h("p", { class: "note", role: "status" }, t("sign_in.over")) : [],
    h("form", { onsubmit: enter },
      h("label", { for: "token" }, t("token")), token, h("p", { class: "hint", id: "token-hint" }, t("token.hint")), problem,
      h("p", { class: "orders" }, h("button", { type: "submit" }, t("sign_in.do")))),
    h("p", { class: "hint" }, t("sign_in.about")), h("p", { class: "use" }, t("intended_use"))));
}

/** Why somebody is refused, in words. */
export function refusal(body) {
  const reasons = ["no_credentials", "unknown_certificate", "unknown_token", "revoked", "expired", "role", "other_name", "crowded", "session", "cross_site"];
  const reason = body && reasons.includes(body.reason) ? body.reason : "other";
  return t(`refusal.${reason}`);
}

function drawGone() {
  put(parts.main, h("section", { class: "fault narrow", role: "alert" },
    h("h1", null, t("gone")), h("p", null, t("gone.what")), h("p", null, t("gone.do"))));
}

function drawRefused(view) {
  put(parts.main, h("section", { class: "fault narrow", role: "alert" },
    h("h1", null, t("refused")), h("p", null, refusal(state.refusal)), h("p", null, t("refused.do")),
    h("p", { class: "orders" }, h("button", { type: "button", onclick: () => leave(view) }, t("ask_again")))));
}

function mode() {
  if (state.refusal) return "refused";
  if (state.session && state.session.signed_in) return "in";
  return state.reachable ? "out" : "gone";
}

function draw(view) {
  document.title = t(view.title);
  parts.skip.textContent = t("skip");
  drawHead(view);
  drawStrip();
  parts.foot.setAttribute("aria-label", t("foot"));
  const now = mode();
  document.body.dataset.mode = now;
  if (now === "gone") drawGone();
  else if (now === "refused") drawRefused(view);
  else if (now === "out") drawSignIn(view);
  else view.draw(parts.main, state.session);
  const version = state.session && state.session.version;
  put(parts.foot, h("p", null, t("foot.about"), version ? ` Locus ${version}` : ""));
}

async function look(view) {
  const { status, body } = await askSession();
  const before = `${mode()} ${state.session && state.session.name}`;
  const reachable = status !== 0;
  if (status === 200) {
    if (body.over) state.over = true;
    [state.session, state.refusal] = [body, null];
    if (!body.signed_in) state.strip = null;
  } else if (reachable) {
    [state.session, state.refusal, state.strip] = [null, body || {}, null];
  }
  const changed = state.reachable !== reachable;
  state.reachable = reachable;
  const now = `${mode()} ${state.session && state.session.name}`;
  if (before !== now) {
    if (mode() !== "in") view.forget();
    draw(view);
    parts.main.focus();
  } else if (changed || JSON.stringify(state.session) !== state.drawn) {
    const held = document.activeElement && document.activeElement.id;
    drawHead(view);
    drawStrip();
    if (held && parts.head.querySelector(`#${held}`)) parts.head.querySelector(`#${held}`).focus();
  }
  state.drawn = JSON.stringify(state.session);
}

/** Begins: `view` has a title, a path, `draw(main, session)`, and `forget()` for when nobody is signed in any more. */
export async function start(view) {
  await speak(wanted());
  parts.skip = h("a", { class: "skip", href: "#main" });
  parts.head = h("div");
  parts.strip = h("p", { class: "strip", hidden: true });
  parts.main = h("main", { id: "main", tabindex: -1 });
  parts.live = h("p", { class: "unseen", role: "status", "aria-live": "polite" });
  parts.foot = h("footer");
  document.body.append(parts.skip, h("header", { class: "top" }, parts.head, parts.strip, parts.live), parts.main, parts.foot);
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("/sw.js").catch(() => {});
  await look(view);
  draw(view);
  document.body.dataset.started = "yes";
  for (;;) {
    await new Promise((done) => setTimeout(done, LOOK));
    if (!document.hidden) await look(view);
  }
}

/** Looks at once, such as after an order that was refused. */
export const lookNow = look;

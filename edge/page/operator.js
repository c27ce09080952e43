// The operator's page: alarms, slots, flashing, engines, disk, journal, audit.
import { flash, order, overview, trail } from "./api.js";
import { h, put, term } from "./dom.js";
import { said } from "./said.js";
import { lookNow, refusal, say, start } from "./shell.js";
import { bytes, has, moment, number, spoken, t } from "./words.js";

/** How often the box is looked at, in milliseconds. */
const LOOK = 3000;

const state = { box: null, audit: null, told: null, flashing: null, file: null, drawn: "" };
let main;

const short = (digest) => h("code", { title: digest }, `${digest.slice(0, 16)}…`);

function alarms(box) {
  const { health } = box;
  const list = [];
  const add = (level, name, text, own) => list.push(h("li", { class: level }, h("strong", null, t(`level.${level}`)), " ", t(name), " ",
    text || "", own && spoken() !== "en" ? h("span", { class: "own", lang: "en" }, own) : own || ""));
  if (health.status !== "ok") add("alarm", `status.${health.status}`);
  if (health.clock.state === "untrusted") add("alarm", "alarm.clock");
  if (health.mqtt_connected === false) add("alarm", "alarm.mqtt");
  for (const finding of (state.audit && state.audit.findings) || []) add("alarm", "alarm.audit", finding);
  for (const notice of health.notices) add("warning", "alarm.notice", "", notice);
  for (const model of health.models) {
    for (const skipped of model.engine.skipped) add("warning", "alarm.skipped", `${model.name}: ${skipped.engine}`, skipped.reason);
    if (model.trial_answers !== null) add("note", "alarm.trial", t("trial.answers", { model: model.name, n: number(model.trial_answers) }));
  }
  return h("section", { class: "alarms", "aria-label": t("alarms") }, h("h2", null, t("alarms")),
    list.length > 0 ? h("ul", null, list) : h("p", { class: "good" }, t("alarms.none")));
}

/** Asks before something is done, and says what. */
function sure(what, names) {
  return new Promise((done) => {
    const dialog = h("dialog", { "aria-labelledby": "sure-title", "aria-describedby": "sure-text" });
    const answer = (yes) => () => dialog.close(yes ? "yes" : "no");
    put(dialog, h("h2", { id: "sure-title" }, t(`sure.${what}`)), h("p", { id: "sure-text" }, t(`sure.${what}.about`, names)),
      h("p", { class: "orders" },
        h("button", { type: "button", id: "sure-no", class: "quiet", autofocus: true, onclick: answer(false) }, t("cancel")), " ",
        h("button", { type: "button", id: "sure-yes", onclick: answer(true) }, t(`order.${what}`))));
    dialog.addEventListener("close", () => { dialog.remove(); done(dialog.returnValue === "yes"); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

function tell(good, text, own) {
  state.told = { good, text, own };
  say(text);
}

async function act(what, model, shown) {
  if (!(await sure(what, { model: shown }))) return;
  const { status, body } = await order(what, model);
  if (status === 200) tell(true, t(`done.${what}`, { model: shown }));
  else if (status === 401 || (status === 403 && body && body.reason)) tell(false, refusal(body));
  else tell(false, t("done.refused"), body && body.message);
  await look(true);
  const place = document.getElementById("told");
  if (place) place.focus();
}

function slot(box, name, digest) {
  if (!digest) return h("tr", null, h("th", { scope: "row" }, t(`slot.${name}`)), h("td", null, "–"), h("td", null, "–"), h("td", null, "–"));
  const about = box.stored[digest];
  return h("tr", { class: name }, h("th", { scope: "row" }, t(`slot.${name}`)), h("td", null, about ? about.version : t("unknown")),
    h("td", null, short(digest)), h("td", null, about ? bytes(about.bytes) : "–"));
}

function slots(box, name, one, pack) {
  const shown = pack ? t("slots.pack") : name;
  const button = (what) => h("button", { type: "button", class: "quiet", id: `${what}-${name}`, onclick: () => act(what, name, shown) }, t(`order.${what}`));
  return h("section", { class: "slot", "aria-label": shown }, h("h3", null, shown),
    h("table", null,
      h("thead", null, h("tr", null, ["slot", "version", "digest", "size"].map((head) => h("th", { scope: "col" }, t(`slots.${head}`))))),
      h("tbody", null, slot(box, "active", one.active), slot(box, "trial", one.trial), slot(box, "previous", one.previous))),
    h("p", { class: "small" }, t("slots.floor", { floor: one.floor }), " ", one.crashes ? t("slots.crashes", { n: one.crashes }) : "",
      " ", one.set_back ? [t("slots.set_back"), " ", short(one.set_back)] : []),
    h("p", { class: "orders" }, one.trial ? [button("confirm"), " ", button("revert"), " "] : [], one.previous && !one.trial ? button("rollback") : []));
}

const STEPS = ["verify", "unpack", "built", "self_test", "trial"];

/** A step of a flash in words. */
function step(told) {
  const name = typeof told === "string" ? told : Object.keys(told)[0];
  const about = typeof told === "string" ? {} : told[name];
  return STEPS.includes(name) ? t(`step.${name}`, { ...about, bytes: about.bytes === undefined ? "" : bytes(about.bytes) }) : name;
}

async function upload(file) {
  if (!(await sure("flash", { file: file.name, size: bytes(file.size) }))) return;
  const mine = { name: file.name, share: 0, steps: [], ended: false };
  state.flashing = mine;
  const drawn = () => { const place = document.getElementById("flashing"); if (place) put(place, progress()); };
  drawn();
  let last = null;
  const { status, body } = await flash(file,
    (loaded, total) => { mine.share = total > 0 ? loaded / total : 0; drawn(); },
    (line) => {
      if (line.step) { mine.steps.push(step(line.step)); say(mine.steps.at(-1)); }
      else last = line;
      drawn();
    });
  mine.ended = true;
  if (last && last.ok) {
    const { name, version, on_trial: trial, unchanged } = last.ok;
    tell(true, t(unchanged ? "done.unchanged" : trial ? "done.trial" : "done.flash", { model: `${name} ${version}` }));
    for (const warning of last.ok.warnings) state.told.own = `${state.told.own || ""} ${warning}`.trim();
  } else if (status === 0) tell(false, t("done.lost"));
  else if (body && body.reason) tell(false, refusal(body));
  else tell(false, t("done.refused"), (last && last.error) || (body && body.message));
  Object.assign(state, { flashing: null, file: null });
  await look(true);
  const place = document.getElementById("told");
  if (place) place.focus();
}

function progress() {
  const mine = state.flashing;
  if (!mine) return [];
  return [h("p", null, h("progress", { max: 1, value: mine.share, "aria-label": t("flash.progress") }), " ", mine.name),
    h("ol", null, mine.steps.map((one) => h("li", null, one)))];
}

function flashing() {
  // The same field for as long as nothing was flashed: a new one would have forgotten what was chosen.
  const file = state.file ??= h("input", { type: "file", id: "bundle", accept: ".locus", required: true, "aria-describedby": "bundle-hint" });
  const submit = (event) => {
    event.preventDefault();
    if (file.files.length === 1 && !state.flashing) upload(file.files[0]);
  };
  return h("section", { "aria-label": t("flash") }, h("h2", null, t("flash")),
    h("form", { onsubmit: submit },
      h("div", { class: "field" }, h("label", { for: "bundle" }, t("flash.file")), file, h("p", { class: "hint", id: "bundle-hint" }, t("flash.hint"))),
      h("p", { class: "orders" }, h("button", { type: "submit", id: "flash" }, t("order.flash")))),
    h("div", { id: "flashing" }, progress()));
}

function engines({ health }) {
  const rows = health.models.map((model) => h("tr", null,
    h("th", { scope: "row" }, `${model.name} ${model.version}`), h("td", null, model.engine.provider), h("td", null, model.engine.precision),
    h("td", null, model.engine.runtime),
    h("td", null, model.engine.note ? [said(model.engine.note) || model.engine.note, h("br")] : [],
      model.engine.skipped.map(({ engine, reason }) => h("div", null, h("strong", null, engine), " ", h("span", { lang: "en" }, reason))),
      !model.engine.note && model.engine.skipped.length === 0 ? "–" : [])));
  return h("section", { "aria-label": t("engines") }, h("h2", null, t("engines")),
    rows.length === 0 ? h("p", null, t("status.no_model")) : wide(t("engines"),
      h("table", null, h("thead", null, h("tr", null, ["model", "provider", "precision", "runtime", "skipped"].map((name) => h("th", { scope: "col" }, t(`engines.${name}`))))),
        h("tbody", null, rows))));
}

const wide = (name, table) => h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": name }, table);

function time(seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  return t("time.long", { days, hours, minutes });
}

function health(box) {
  const one = box.health;
  const yes = (value) => (value === null ? t("off") : t(value ? "yes" : "no"));
  return h("section", { "aria-label": t("health") }, h("h2", null, t("health")), h("dl", null,
    term(t("health.status"), t(`status.${one.status}`)), term(t("health.version"), one.version), term(t("health.uptime"), time(one.uptime_s)),
    term(t("health.queue"), t("health.queue.of", { n: one.queue_units, most: one.queue_limit })), term(t("health.mqtt"), yes(one.mqtt_connected)),
    term(t("health.clock"), t(`clock.${one.clock.state}`)),
    term(t("health.reference"), one.reference && `${one.reference.name} ${one.reference.version} · ${one.assembly}`),
    term(t("health.authority"), h("code", null, box.authority))));
}

function disk({ health: one }) {
  const { journal } = one;
  return h("section", { "aria-label": t("disk") }, h("h2", null, t("disk")), h("dl", null,
    term(t("disk.free"), bytes(one.free_bytes)), term(t("disk.reserve"), bytes(journal.reserve_bytes)),
    term(t("disk.per_day"), bytes(journal.bytes_per_day)),
    term(t("disk.left"), journal.days_left === null ? t("unknown") : t("disk.days", { days: number(journal.days_left, 1) }))));
}

function journal(box) {
  const { journal: one } = box.health;
  const head = box.checkpoint;
  return h("section", { "aria-label": t("journal") }, h("h2", null, t("journal")), h("dl", null,
    term(t("journal.id"), h("code", null, one.id)), term(t("journal.records"), number(box.records)),
    term(t("journal.segments"), head && number(head.segment)),
    term(t("journal.copied"), one.copied_to_segment > 0 ? t("journal.copied.to", { segment: one.copied_to_segment }) : t("journal.copied.none")),
    term(t("journal.freed"), number(one.freed_records)), term(t("journal.torn"), bytes(one.recovered_torn_bytes)),
    term(t("journal.checkpoint"), head && h("code", null, head.root)),
    term(t("journal.recipients"), box.recipients.map((id) => h("div", null, h("code", null, id))))));
}

function audit() {
  if (!state.audit) return [];
  const word = (kind, name) => (has(`${kind}.${name}`) ? t(`${kind}.${name}`) : name);
  const rows = [...state.audit.entries].reverse().map((entry) => h("tr", { class: entry.stage },
    h("td", null, entry.index), h("td", null, moment(new Date(entry.unix_ms))), h("td", null, word("tried", entry.what)), h("td", null, word("stage", entry.stage)),
    h("td", null, entry.by || t("audit.local")), h("td", null, [entry.subject, entry.reason].filter(Boolean).join(" · "), entry.digest ? [" ", short(entry.digest)] : [])));
  return h("section", { "aria-label": t("audit") }, h("h2", null, t("audit")), wide(t("audit"),
    h("table", null, h("thead", null, h("tr", null, ["index", "time", "what", "stage", "by", "about"].map((name) => h("th", { scope: "col" }, t(`audit.${name}`))))),
      h("tbody", null, rows))));
}

function told() {
  if (!state.told) return [];
  const { good, text, own } = state.told;
  return h("section", { class: good ? "told" : "told fault", id: "told", tabindex: -1, "aria-label": t("told") }, h("p", null, text),
    own ? h("p", { class: "own", lang: "en" }, own) : []);
}

function drawBox() {
  const { box } = state;
  if (!main || !box) return;
  const models = Object.entries(box.slots).map(([name, one]) => slots(box, name, one, false));
  const packs = Object.entries(box.packs).map(([name, one]) => slots(box, name, one, true));
  put(main, h("h1", null, t("page.operator.long")), told(), alarms(box),
    h("section", { "aria-label": t("slots") }, h("h2", null, t("slots")), models.length + packs.length === 0 ? h("p", null, t("status.no_model")) : [],
      h("div", { class: "slots" }, models, packs)),
    flashing(), h("div", { class: "columns" }, health(box), disk(box), journal(box)), engines(box), audit());
}

/** What is drawn, less what changes with every look. */
function mark(box) {
  return JSON.stringify([box, state.audit && state.audit.entries.length, state.told],
    (key, value) => (["uptime_s", "free_bytes", "queue_units"].includes(key) ? 0 : value));
}

async function look(anew) {
  const { status, body } = await overview();
  if (status !== 200) {
    if (status === 401 || status === 403) await lookNow(view);
    return;
  }
  if (anew || !state.audit) {
    const read = await trail();
    if (read.status === 200) state.audit = read.body;
  }
  state.box = body;
  const now = mark(body);
  // Whoever is about to order something is not disturbed.
  const busy = state.flashing || document.querySelector("dialog") || (main && main.contains(document.activeElement) && document.activeElement.id === "bundle");
  if (anew || (now !== state.drawn && !busy)) {
    state.drawn = now;
    const held = document.activeElement && document.activeElement.id;
    drawBox();
    if (held && document.getElementById(held)) document.getElementById(held).focus();
  }
}

async function watch() {
  for (;;) {
    if (main && !document.hidden) await look(false);
    await new Promise((done) => setTimeout(done, LOOK));
  }
}

const view = {
  title: "title.operator",
  path: "/operator",
  draw(place, known) {
    if (!known.may_operate) {
      main = null;
      put(place, h("section", { class: "narrow" }, h("h1", null, t("page.operator")), h("p", null, t("refusal.role"))));
      return;
    }
    main = place;
    if (state.box) drawBox();
    else {
      put(main, h("h1", null, t("page.operator.long")), h("p", null, t("loading")));
      look(true);
    }
  },
  forget() {
    main = null;
    Object.assign(state, { box: null, audit: null, told: null, file: null, drawn: "" });
  },
};

start(view);
watch();

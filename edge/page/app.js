// The page at the bedside.
import { ask } from "./api.js";
import { answerView, faultView, spokenAnswer, strip } from "./answer.js";
import { batchView, stopBatch } from "./batch.js";
import { h, put } from "./dom.js";
import { understand, understandSequence } from "./input.js";
import { lookNow, refusal, say, session, showStrip, start } from "./shell.js";
import { t } from "./words.js";

const ASSEMBLIES = ["GRCh38", "GRCh37", "T2T-CHM13v2.0"];
const WAYS = ["variant", "sequence", "file"];

const empty = () => ({ variant: "", sequence: "", mutation: "", transcript: "", transcriptId: "", subject: "", assembly: null });
const state = { way: "variant", form: empty(), outcome: null, asking: 0 };
let shown;

function field(name, label, make, hint) {
  const id = `field-${name}`;
  const control = make({ id, value: state.form[name] ?? "", "aria-describedby": hint ? `${id}-hint` : null,
    oninput: (event) => { state.form[name] = event.target.value; heard(); } });
  return h("div", { class: `field ${name}` }, h("label", { for: id }, label), control, hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : []);
}

const line = (attributes) => h("input", { type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false", ...attributes });
const area = (rows) => (attributes) => h("textarea", { rows, autocomplete: "off", autocapitalize: "off", spellcheck: "false", onkeydown: entered, ...attributes });

/** Enter asks; with shift it begins a line. */
function entered(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.id === "field-variant") {
    event.preventDefault();
    event.target.form.requestSubmit();
  }
}

function understood() {
  const { form } = state;
  return state.way === "variant" ? understand(form.variant) : understandSequence(form.sequence, form.mutation);
}

/** Says what kind of name was entered. */
function heard() {
  const place = document.getElementById("understood");
  if (place) put(place, t(`kind.${understood().kind}`));
}

function request() {
  const read = understood();
  const { form } = state;
  const made = { id: crypto.randomUUID(), explain: true };
  if (form.subject.trim()) made.subject = form.subject.trim();
  if (form.transcriptId.trim()) made.transcript_id = form.transcriptId.trim();
  if (read.kind === "sequence") {
    Object.assign(made, { sequence: read.sequence, mutation: read.mutation });
    if (form.transcript.trim()) made.transcript = JSON.parse(form.transcript);
  } else {
    made.variant = read.variant;
    if (form.assembly || session().assembly) made.assembly = form.assembly || session().assembly;
  }
  return made;
}

async function submit(event) {
  event.preventDefault();
  const { kind } = understood();
  if (["nothing", "many", "alleles"].includes(kind)) {
    heard();
    document.getElementById(state.way === "variant" ? "field-variant" : "field-sequence").focus();
    return;
  }
  try {
    await asked(request());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    outcome({ fault: { code: "bad_request", message: t("transcript.unreadable") } });
  }
}

async function asked(made) {
  state.asking += 1;
  const turn = state.asking;
  const when = new Date();
  document.body.dataset.asking = "yes";
  say(t("asking"));
  const { status, body } = await ask(made, (n) => say(t("asking.again", { n })));
  delete document.body.dataset.asking;
  // Whoever asked has asked something else meanwhile, or has left.
  if (turn !== state.asking || !session() || !session().signed_in) return;
  if (status === 200 && body && body.model) {
    outcome({ answer: body, asked: { by: session().name, subject: made.subject, site: session().site, when } });
  } else if (status === 401 || (status === 403 && body && body.reason)) {
    await lookNow(view);
    if (session() && session().signed_in) outcome({ fault: { code: "refused", message: refusal(body) }, made });
  } else if (body && body.code) {
    outcome({ fault: body, made: body.retryable ? made : null });
  } else {
    outcome({ fault: { code: "unreachable", message: "" }, made });
  }
}

function outcome(what) {
  state.outcome = what;
  drawOutcome(session());
  const heading = document.getElementById("answer");
  if (heading) heading.focus();
  say(what.answer ? spokenAnswer(what.answer) : "");
}

function drawOutcome(known) {
  const place = document.getElementById("outcome");
  const { outcome: what } = state;
  showStrip(what && what.answer ? strip(what.answer) : null);
  if (!place) return;
  if (!what) put(place);
  else if (what.answer) put(place, answerView(what.answer, what.asked, known, again));
  else {
    const { code, message } = what.fault;
    put(place, faultView(code, message, what.made ? () => asked(what.made) : null));
  }
}

function again() {
  state.asking += 1;
  state.outcome = null;
  state.form = { ...empty(), assembly: state.form.assembly };
  view.draw(shown, session());
  const first = document.getElementById(state.way === "variant" ? "field-variant" : "field-sequence");
  if (first) first.focus();
}

function assemblies(known) {
  const own = known.assembly;
  const names = own && !ASSEMBLIES.includes(own) ? [own, ...ASSEMBLIES] : ASSEMBLIES;
  const chosen = state.form.assembly || own || ASSEMBLIES[0];
  const options = names.map((name) => h("option", { value: name, selected: name === chosen || null }, name === own ? t("assembly.own", { name }) : name));
  const change = (event) => { state.form.assembly = event.target.value; };
  return h("div", { class: "field assembly" }, h("label", { for: "assembly" }, t("assembly")), h("select", { id: "assembly", onchange: change }, options));
}

function ways() {
  const choose = (way) => () => {
    state.way = way;
    view.draw(shown, session());
    document.getElementById(`way-${way}`).focus();
  };
  const option = (way) => h("label", { class: "way", for: `way-${way}` },
    h("input", { type: "radio", name: "way", id: `way-${way}`, value: way, checked: state.way === way, onchange: choose(way) }), t(`way.${way}`));
  return h("fieldset", { class: "ways" }, h("legend", null, t("way")), WAYS.map(option));
}

function form(known) {
  const subject = () => field("subject", t("subject"), line, t("subject.hint"));
  const variant = () => [
    field("variant", t("variant"), area(2), t("variant.hint")),
    h("p", { class: "understood", id: "understood", role: "status" }),
    h("div", { class: "fields" }, assemblies(known), field("transcriptId", t("transcript_id"), line), subject())];
  const sequence = () => [
    field("sequence", t("sequence"), area(4), t("sequence.hint")),
    field("mutation", t("mutation"), line, t("mutation.hint")),
    h("p", { class: "understood", id: "understood", role: "status" }),
    h("details", { open: state.form.transcript !== "" }, h("summary", null, t("transcript")), field("transcript", t("transcript.json"), area(4), t("transcript.hint"))),
    h("div", { class: "fields" }, subject())];
  return h("form", { onsubmit: submit, class: "ask", "aria-label": t("page.ask") }, state.way === "variant" ? variant() : sequence(),
    h("p", { class: "orders" }, h("button", { type: "submit", id: "ask" }, t("ask"))));
}

const view = {
  title: "title.ask",
  path: "/",
  draw(main, known) {
    shown = main;
    if (!known.may_ask) {
      put(main, h("section", { class: "narrow" }, h("h1", null, t("page.ask")), h("p", null, t("refusal.role"))));
      return;
    }
    const not = known.ready ? [] : h("p", { class: "note", role: "status" }, t(`status.${known.status}`));
    const work = state.way === "file" ? batchView(known, assemblies(known), () => state.form.assembly || known.assembly) : form(known);
    put(main, h("h1", null, t("page.ask.long")), not, ways(), work, h("div", { id: "outcome" }));
    heard();
    if (state.way === "file") showStrip(null);
    else drawOutcome(known);
  },
  forget() {
    state.asking += 1;
    Object.assign(state, { form: empty(), outcome: null });
    showStrip(null);
    stopBatch();
  },
};

start(view);

// An answer at a glance: when not to trust it, what it is, how sure, why, and what a record needs.
import { scale } from "./band.js";
import { h, term } from "./dom.js";
import { drawing, residue } from "./drawing.js";
import { said } from "./said.js";
import { has, moment, number, percent, spoken, t } from "./words.js";

const short = (digest) => (digest ? `${digest.slice(0, 12)}…` : "");

/** A consequence in words, with its term. */
export function consequence(terms) {
  if (!terms) return null;
  const words = terms.split("&").map((one) => (has(`so.${one}`) ? t(`so.${one}`) : one));
  return [words.join(t("and")), terms.split("&").map((one) => h("code", { class: "so" }, one))];
}

/** The box's own words beside a translation of them. */
function own(sentence) {
  return spoken() === "en" ? [] : h("span", { class: "own", lang: "en" }, sentence);
}

function caution(name, text, original) {
  return h("li", null, h("strong", null, t(`caution.${name}`)), " ", text, original ? own(original) : []);
}

/** Why an answer should not be trusted, or not as it stands. */
export function cautions(answer, session) {
  const list = [];
  const reason = answer.out_of_distribution_reason;
  if (answer.out_of_distribution && !answer.abstained) {
    list.push(caution("unlike", (reason && said(reason)) || reason || "", reason));
  }
  if (answer.input_mode === "sequence_only") list.push(caution("sequence_only", t("caution.sequence_only.about")));
  if (session && session.clock === "untrusted") list.push(caution("clock", t("caution.clock.about")));
  for (const warning of answer.warnings) {
    const known = said(warning);
    const name = warning.startsWith("engine ") ? "engine" : "warning";
    // The drawing says so where it matters.
    if (warning.startsWith("explain was asked for; ")) continue;
    if (/^no transcript was given: /.test(warning) && answer.input_mode === "sequence_only") continue;
    list.push(caution(name, known || warning, known ? warning : null));
  }
  return list;
}

function verdict(answer) {
  if (answer.abstained) return t("verdict.none");
  if (answer.band === "none") return answer.predicted_description;
  return t(`verdict.${answer.band}`);
}

/** The answer in a sentence, for whoever hears it. */
export function spokenAnswer(answer) {
  return t("answer.said", { what: title(answer), verdict: verdict(answer) });
}

function title(answer) {
  const gene = answer.around && answer.around.gene;
  const name = answer.hgvs_p || answer.hgvs_c || answer.mutation || t("answer.sequence");
  return gene ? `${gene} ${name}` : name;
}

function declined(answer) {
  const reason = answer.predicted_description;
  return h("div", { class: "declined" },
    h("p", { class: "verdict" }, h("span", { class: "sign-none", "aria-hidden": "true" }, "∅"), " ", t("verdict.none")),
    h("p", null, said(reason) || reason, said(reason) ? own(reason) : []),
    h("p", null, t("declined.about")));
}

function evidence(answer) {
  const step = answer.evidence;
  if (!step) return h("p", { class: "evidence" }, t("evidence.none"));
  const strength = t(`strength.${step.strength.replace(" ", "_")}`);
  return h("p", { class: "evidence" }, t(`evidence.${step.criterion}`, { strength, ratio: number(step.likelihood_ratio, 2) }));
}

function sure(answer, session) {
  if (answer.abstained) return declined(answer);
  if (answer.band === "none") return predicted(answer);
  return h("div", { class: `band ${answer.band}` },
    h("p", { class: "verdict" }, verdict(answer)), scale(answer, session && session.models), evidence(answer));
}

/** What a sequence model says. */
function predicted(answer) {
  const { prediction } = answer;
  if (!prediction) return h("p", { class: "verdict" }, answer.predicted_description);
  const rows = prediction.probabilities.map(({ label, probability }) =>
    h("tr", label === prediction.label ? { class: "here" } : null, h("th", { scope: "row" }, label), h("td", null, percent(probability))));
  return h("div", { class: "band none" },
    h("p", { class: "verdict" }, t("predicted.said", { label: prediction.label })),
    rows.length > 0 ? h("table", null, h("tbody", null, rows)) : h("p", null, number(prediction.value, 4)));
}

function what(answer) {
  const codon = answer.around && answer.around.codons.find((one) => one.changed_residue);
  return h("dl", { class: "what" },
    term(t("what.gene"), answer.around && answer.around.gene),
    term(t("what.consequence"), consequence(answer.consequence)),
    term(t("what.hgvs_c"), answer.hgvs_c),
    term(t("what.hgvs_p"), answer.hgvs_p),
    term(t("what.codon"), codon && t("what.codon.change", {
      number: codon.number, before: codon.bases, after: codon.changed_bases,
      old: residue(codon.residue), new: residue(codon.changed_residue),
    })),
    term(t("what.asked"), answer.mutation),
    term(t("what.assembly"), answer.assembly),
    term(t("what.transcript"), answer.transcript_id));
}

function record(answer, asked) {
  const { receipt, model, reference, engine } = answer;
  const times = answer.timing_us;
  const whole = Object.values(times).reduce((sum, one) => sum + one, 0);
  return h("dl", { class: "record" },
    term(t("record.by"), asked.by), term(t("record.subject"), asked.subject), term(t("record.when"), moment(asked.when), h("br"), asked.when.toISOString()),
    term(t("record.box"), `${answer.box} · ${asked.site}`),
    term(t("record.model"), `${model.name} ${model.version}`, h("br"), h("code", null, model.digest)),
    term(t("record.reference"), reference && `${reference.name} ${reference.version}`, reference && reference.digest ? [h("br"), h("code", null, reference.digest)] : []),
    term(t("record.engine"), `${engine.precision} · ${engine.provider}`),
    term(t("record.receipt"), receipt && [t("record.journal"), " ", h("code", null, receipt.journal), ", ", t("record.index", { index: receipt.index }),
      h("br"), h("code", null, receipt.leaf), h("br"), h("code", null, receipt.root)]),
    term(t("record.id"), h("code", null, answer.id)),
    term(t("record.time"), t("record.ms", { ms: number(whole / 1000, 1) })));
}

/** The whole answer; `again` begins a new question. */
export function answerView(answer, asked, session, again) {
  const list = cautions(answer, session);
  const heading = h("h2", { tabindex: -1, id: "answer" }, title(answer));
  return h("article", { class: "answer", "aria-labelledby": "answer" },
    heading,
    list.length > 0
      ? h("section", { class: "cautions", "aria-label": t("cautions") }, h("h3", null, t("cautions")), h("ul", null, list)) : [],
    h("section", { class: "sure", "aria-label": t("sure") }, sure(answer, session)),
    h("section", { "aria-label": t("what") }, h("h3", null, t("what")), what(answer)),
    answer.around ? h("section", { "aria-label": t("why") }, h("h3", null, t("why")), drawing(answer)) : [],
    h("section", { "aria-label": t("record") }, h("h3", null, t("record")), record(answer, asked)),
    h("p", { class: "use" }, t("intended_use")),
    h("p", { class: "orders" },
      h("button", { type: "button", onclick: () => window.print() }, t("print")), " ",
      h("button", { type: "button", class: "quiet", onclick: again }, t("new"))));
}

/** A fault: what it is, what to do, and the box's own words. */
export function faultView(code, message, again) {
  const known = has(`fault.${code}`) ? code : "unknown";
  return h("section", { class: "fault", role: "alert", tabindex: -1, id: "answer" },
    h("h2", null, h("span", { class: "sign-fault", "aria-hidden": "true" }, "!"), " ", t(`fault.${known}`)),
    h("p", null, t(`todo.${known}`)),
    message ? h("p", { class: "own" }, t("fault.own"), " ", h("q", { lang: "en" }, message)) : [],
    h("p", { class: "small" }, t("fault.code"), " ", h("code", null, code)),
    again ? h("p", { class: "orders" }, h("button", { type: "button", onclick: again }, t("ask_again"))) : []);
}

/** What is always in sight of an answer. */
export function strip(answer) {
  const { model, engine, receipt } = answer;
  return [`${model.name} ${model.version} · ${short(model.digest)}`, `${engine.precision} · ${engine.provider}`,
    receipt ? t("strip.receipt", { journal: short(receipt.journal), index: receipt.index }) : t("strip.no_receipt")];
}


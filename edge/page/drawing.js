// The sequence around a change: what each base is, codons and residues before and after, and what each base adds.
import { fitted, h, s } from "./dom.js";
import { number, t } from "./words.js";

/** Least width of a base, and most bases on each side of the change. */
const CELL = 20;
const REACH = 20;
/** Where each lane begins. */
const LANE = { track: 20, residue: 55, number: 68, codon: 75, base: 96, changed: 126, after: 154, bars: 228 };
const BAR = 46;
const HEIGHT = LANE.bars + BAR + 22;
/** The same without bars. */
const LOW = LANE.after + 12;

const KINDS = ["unknown", "intergenic", "intron", "splice", "utr5", "utr3", "cds", "cds", "cds"];
export const kind = (code) => KINDS[code] || "unknown";

/** One-letter code to the three letters that are spoken of. */
const THREE = {
  A: "Ala", R: "Arg", N: "Asn", D: "Asp", C: "Cys", Q: "Gln", E: "Glu", G: "Gly", H: "His", I: "Ile", L: "Leu", K: "Lys",
  M: "Met", F: "Phe", P: "Pro", S: "Ser", T: "Thr", W: "Trp", Y: "Tyr", V: "Val", "*": "Ter",
};
export const residue = (letter) => THREE[letter] || letter;

const sides = (effect) => (effect > 0 ? "up" : effect < 0 ? "down" : "none");

function runs(cells) {
  const found = [];
  for (const cell of cells) {
    const last = found.at(-1);
    if (last && last.kind === cell.kind && last.to === cell.offset - 1) last.to = cell.offset;
    else found.push({ kind: cell.kind, from: cell.offset, to: cell.offset });
  }
  return found;
}

function track(cells, x, width) {
  return runs(cells).map(({ kind: name, from, to }) => {
    const [left, span, middle] = [x(from), (to - from + 1) * width, LANE.track + 10];
    const inner = { cds: 20, utr5: 10, utr3: 10, splice: 14 }[name];
    const shape = inner
      ? s("rect", { x: left, y: middle - inner / 2, width: span, height: inner, class: `run ${name}` })
      : s("line", { x1: left, x2: left + span, y1: middle, y2: middle, class: `run ${name}` });
    const text = t(`site.${name}`);
    const fits = span > text.length * (text.charCodeAt(0) > 0x2e80 ? 12 : 6.6) + 6;
    return [shape, fits ? s("text", { x: left + span / 2, y: LANE.track - 6, class: "run-name" }, text) : []];
  });
}

function codons(around, x, width, shown) {
  return around.codons.map((codon) => {
    const [first, , last] = codon.offsets;
    const inside = codon.offsets.filter(shown);
    if (inside.length === 0) return [];
    const cut = last - first !== 2;
    const [left, right] = [x(Math.min(...inside)) + 1.5, x(Math.max(...inside)) + width - 1.5];
    const name = s("text", { x: (left + right) / 2, y: LANE.residue, class: `residue${codon.changed_residue ? " here" : ""}` },
      inside.length === 3 || cut ? residue(codon.residue) : "");
    const counted = codon.changed_residue || codon.number % 5 === 0
      ? s("text", { x: (left + right) / 2, y: LANE.number, class: "count" }, inside.length > 1 ? codon.number : "") : [];
    const bracket = s("path", { d: `M${left} ${LANE.codon + 6}v-4h${right - left}v4`, class: `bracket${cut ? " cut" : ""}` });
    if (!codon.changed_residue) return [name, counted, bracket];
    const same = codon.changed_residue === codon.residue;
    return [name, counted, bracket,
      s("path", { d: `M${left} ${LANE.changed + 10}v4h${right - left}v-4`, class: "bracket here" }),
      s("text", { x: (left + right) / 2, y: LANE.after, class: "residue here" },
        residue(codon.changed_residue) + (same ? " =" : ""))];
  });
}

function bases(around, cells, x, width) {
  const removed = around.removed.length;
  const letters = cells.map(({ offset, base }) => {
    const here = offset >= 0 && offset < removed;
    return [
      here ? s("rect", { x: x(offset) + 0.5, y: LANE.base - 13, width: width - 1, height: 19, class: "here-box" }) : [],
      s("text", { x: x(offset) + width / 2, y: LANE.base, class: `base${here ? " here" : ""}` }, base),
    ];
  });
  const middle = x(0) + (removed * width) / 2;
  const added = around.added || "–";
  const shown = added.length > 12 ? `${added.slice(0, 11)}…` : added;
  return [letters,
    s("path", { d: `M${middle} ${LANE.base + 8}v8m-3 -3l3 3l3 -3`, class: "arrow" }),
    s("text", { x: middle, y: LANE.changed + 3, class: "base here added" }, shown)];
}

function bars(cells, x, width, most) {
  const lines = [s("line", { x1: x(cells[0].offset), x2: x(cells.at(-1).offset) + width, y1: LANE.bars, y2: LANE.bars, class: "axis" })];
  for (const { offset, effect } of cells) {
    if (effect === undefined) continue;
    const height = Math.max((Math.abs(effect) / most) * BAR, 1);
    const side = sides(effect);
    const y = side === "up" ? LANE.bars - height : LANE.bars;
    const box = { x: x(offset) + 2, y, width: width - 4, height };
    lines.push(s("rect", { ...box, class: `bar ${side}` }));
    if (side === "down") lines.push(s("rect", { ...box, fill: "url(#bar-down)" }));
    if (Math.abs(effect) > most / 4) {
      const sign = side === "up" ? "+" : "−";
      lines.push(s("text", { x: x(offset) + width / 2, y: side === "up" ? y - 3 : y + height + 11, class: "sign" }, sign));
    }
  }
  return lines;
}

function read(answer) {
  const { around, attribution } = answer;
  const effects = new Map(attribution.map((one) => [one.offset, one.effect]));
  const cells = [...around.bases].map((base, index) => {
    const offset = around.first + index;
    return { offset, base, kind: kind(around.track[index]), effect: effects.get(offset) };
  });
  return { cells, most: Math.max(...attribution.map((one) => Math.abs(one.effect)), 1e-6) };
}

function picture(answer, room) {
  const { around } = answer;
  const { cells: all, most } = read(answer);
  const reach = Math.max(5, Math.min(REACH, Math.floor((room / CELL - Math.max(around.removed.length, 1)) / 2)));
  const shown = (offset) => offset >= -reach && offset < Math.min(around.removed.length, 12) + reach;
  const cells = all.filter(({ offset }) => shown(offset));
  if (cells.length === 0) return h("p", null, t("drawing.none"));
  const width = Math.max(CELL, room / cells.length);
  const x = (offset) => (offset - cells[0].offset) * width;
  const total = cells.length * width;
  const hatch = s("defs", null,
    s("pattern", { id: "bar-down", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      s("line", { x1: 0, y1: 0, x2: 0, y2: 5, class: "hatch strong" })));
  return s("svg", { viewBox: `0 0 ${total} ${answer.attribution.length > 0 ? HEIGHT : LOW}`, role: "img", "aria-label": summary(answer), class: "drawing" },
    hatch, track(cells, x, width), codons(around, x, width, shown), bases(around, cells, x, width),
    answer.attribution.length > 0 ? bars(cells, x, width, most) : []);
}

/** The drawing in a sentence. */
function summary(answer) {
  const { around } = answer;
  const here = read(answer).cells.find(({ offset }) => offset === 0);
  const codon = around.codons.find((one) => one.changed_residue);
  return [
    t("drawing.said", { removed: around.removed || "–", added: around.added || "–", site: t(`site.${here ? here.kind : "unknown"}`) }),
    codon ? t("drawing.codon", {
      before: `${codon.bases} (${residue(codon.residue)}${codon.number})`,
      after: `${codon.changed_bases} (${residue(codon.changed_residue)})`,
    }) : "",
    t("drawing.table"),
  ].join(" ");
}

function table(answer) {
  const { cells } = read(answer);
  const codonOf = (offset) => answer.around.codons.find((codon) => codon.offsets.includes(offset));
  const effect = (value) =>
    value === undefined ? "" : `${t(`effect.${sides(value)}`)} (${value > 0 ? "+" : "−"}${number(Math.abs(value), 3)})`;
  const rows = cells.map(({ offset, base, kind: name, effect: value }) => {
    const codon = codonOf(offset);
    const here = offset >= 0 && offset < answer.around.removed.length;
    return h("tr", here ? { class: "here" } : null,
      h("th", { scope: "row" }, offset), h("td", null, base), h("td", null, t(`site.${name}`)),
      h("td", null, codon ? `${codon.bases} ${residue(codon.residue)}${codon.number}` : ""), h("td", null, effect(value)));
  });
  return h("details", { class: "as-table" }, h("summary", null, t("drawing.as_table")),
    h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": t("drawing.as_table") },
      h("table", null,
        h("thead", null, h("tr", null, ["offset", "base", "site", "codon_name", "effect"].map((name) => h("th", { scope: "col" }, t(`drawing.${name}`))))),
        h("tbody", null, rows))));
}

/** The figure of an explained answer. */
export function drawing(answer) {
  const place = fitted((room) => picture(answer, room));
  const legend = answer.attribution.length > 0
    ? h("p", { class: "legend" }, h("span", { class: "key up", "aria-hidden": "true" }, "+"), t("drawing.up"), " ",
        h("span", { class: "key down", "aria-hidden": "true" }, "−"), t("drawing.down"))
    : h("p", { class: "legend" }, t("drawing.no_effects"));
  const sense = t(answer.around.strand === "-" ? "drawing.reverse" : "drawing.forward");
  return h("figure", { class: "why" }, place, legend, h("figcaption", null, sense, answer.attribution.length > 0 ? ` ${t("drawing.about")}` : ""), table(answer));
}

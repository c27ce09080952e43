// A file of variants: read and sent in parts, so that a page holds no more of it than it must, and the box answers part by part.
import { annotate } from "./api.js";
import { h, put } from "./dom.js";
import { refusal, say } from "./shell.js";
import { has, number, percent, t } from "./words.js";

/** Most records, and most bytes, of a part. */
const RECORDS = 64;
const PART = 200000;
/** Bytes of the file that are read at once. */
const SLICE = 1 << 20;
/** Largest file. */
const LARGEST = 256 * 1024 * 1024;

let run = null;
let redraw = () => {};

/** Ends what runs, and forgets it. */
export function stopBatch() {
  if (run) {
    run.abort.abort();
    if (run.address) URL.revokeObjectURL(run.address);
  }
  run = null;
}

async function* linesOf(file) {
  const decoder = new TextDecoder();
  let rest = "";
  for (let at = 0; at < file.size; at += SLICE) {
    rest += decoder.decode(await file.slice(at, at + SLICE).arrayBuffer(), { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) yield { line: line.replace(/\r$/, ""), read: Math.min(at + SLICE, file.size) };
  }
  if (rest) yield { line: rest.replace(/\r$/, ""), read: file.size };
}

/** Counts what the box says of each allele. */
function count(counts, record) {
  const told = (key) => (new RegExp(`(?:^|;)LOCUS_${key}=([^;]*)`).exec(record.split("\t")[7] || "") || ["", ""])[1].split(",");
  const faults = told("FAULT");
  told("BAND").forEach((band, index) => {
    const fault = faults[index];
    const name = fault && fault !== "." ? `fault.${fault}` : band === "none" ? "verdict.none" : `verdict.${band}`;
    counts.set(name, (counts.get(name) || 0) + 1);
  });
}

async function part(mine, header, records, query) {
  const told = await annotate(`${header}${records.join("\n")}\n`, query, mine.abort.signal);
  if (!told.text) throw Object.assign(new Error("refused"), { told });
  for (const line of told.text.split("\n")) {
    if (line === "" || (line.startsWith("#") && mine.done > 0)) continue;
    mine.out.push(`${line}\n`);
    if (!line.startsWith("#")) {
      count(mine.counts, line);
      mine.fresh += 1;
    }
  }
  [mine.done, mine.fresh] = [mine.done + mine.fresh, 0];
}

async function work(mine, file, assembly) {
  let [header, records, bytes] = ["", [], 0];
  const query = assembly ? `?assembly=${encodeURIComponent(assembly)}` : "";
  for await (const { line, read } of linesOf(file)) {
    if (line.startsWith("#") && records.length === 0 && mine.done === 0) {
      header += `${line}\n`;
      continue;
    }
    if (line.trim() === "") continue;
    records.push(line);
    bytes += line.length;
    if (records.length === RECORDS || bytes > PART) {
      await part(mine, header, records, query);
      [records, bytes] = [[], 0];
      mine.share = read / file.size;
      redraw();
    }
  }
  if (records.length > 0 || mine.done === 0) await part(mine, header, records, query);
  mine.share = 1;
}

async function begin(file, assembly) {
  stopBatch();
  const mine = { abort: new AbortController(), name: file.name, counts: new Map(), out: [], done: 0, fresh: 0, share: 0, state: "runs" };
  run = mine;
  redraw();
  try {
    if (file.size > LARGEST) throw Object.assign(new Error("large"), { told: { fault: { code: "too_large", message: "" } } });
    await work(mine, file, assembly);
    mine.state = "done";
  } catch (error) {
    mine.state = mine.abort.signal.aborted ? "cancelled" : "failed";
    mine.told = error.told || { fault: { code: "unreachable", message: "" } };
  }
  if (run !== mine) return;
  if (mine.out.length > 0) mine.address = URL.createObjectURL(new Blob(mine.out, { type: "text/plain" }));
  mine.out = [];
  redraw();
  say(`${t(`batch.${mine.state}`)} ${t("batch.records", { n: number(mine.done) })}`);
}

function counted(mine) {
  const rows = [...mine.counts].sort((a, b) => b[1] - a[1]).map(([name, n]) =>
    h("tr", null, h("th", { scope: "row" }, has(name) ? t(name) : name), h("td", null, number(n))));
  if (rows.length === 0) return [];
  return h("table", { class: "counts" }, h("caption", null, t("batch.counts")), h("tbody", null, rows));
}

function failure(mine) {
  const { fault } = mine.told;
  if (fault && fault.reason) return h("p", null, refusal(fault));
  const code = fault && has(`fault.${fault.code}`) ? fault.code : "unknown";
  return [h("p", null, t(`fault.${code}`), " ", t(`todo.${code}`)), fault && fault.message ? h("p", { class: "own" }, h("q", { lang: "en" }, fault.message)) : []];
}

function progress(mine) {
  if (!mine) return [];
  const name = mine.name.replace(/\.(vcf|txt)$/i, "");
  return h("section", { class: mine.state === "failed" ? "fault" : "batch", "aria-label": t("batch.progress") },
    h("h2", null, t(`batch.${mine.state}`)),
    h("p", null, h("progress", { max: 1, value: mine.share, "aria-label": t("batch.progress") }), " ", percent(mine.share), " · ",
      t("batch.records", { n: number(mine.done) })),
    mine.state === "failed" ? failure(mine) : [],
    mine.state === "runs"
      ? h("p", { class: "orders" }, h("button", { type: "button", id: "cancel", class: "quiet", onclick: () => mine.abort.abort() }, t("cancel"))) : [],
    mine.state !== "runs" && mine.state !== "done" ? h("p", null, t("batch.partial")) : [],
    mine.address
      ? h("p", { class: "orders" }, h("a", { class: "button", id: "save", href: mine.address, download: `${name}.locus.vcf` }, t("batch.save"))) : [],
    counted(mine));
}

/** The form for a file, and how far it has come. */
export function batchView(known, assemblies, assembly) {
  const place = h("div");
  redraw = () => {
    const held = document.activeElement && document.activeElement.id;
    put(place, progress(run));
    if (held === "cancel" && !document.getElementById("cancel")) (document.getElementById("save") || file).focus();
    else if (held === "cancel") document.getElementById("cancel").focus();
  };
  const file = h("input", { type: "file", id: "file", accept: ".vcf,.txt,text/plain", required: true, "aria-describedby": "file-hint" });
  const submit = (event) => {
    event.preventDefault();
    if (file.files.length === 1) begin(file.files[0], assembly());
  };
  redraw();
  return h("div", null,
    h("form", { onsubmit: submit, class: "ask", "aria-label": t("way.file") },
      h("div", { class: "field" }, h("label", { for: "file" }, t("file")), file, h("p", { class: "hint", id: "file-hint" }, t("file.hint"))),
      h("div", { class: "fields" }, assemblies),
      h("p", { class: "orders" }, h("button", { type: "submit", id: "annotate" }, t("annotate")))),
    place);
}

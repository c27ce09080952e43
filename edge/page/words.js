// Every text of the pages, from one dictionary a language.
const LANGUAGES = ["en", "zh"];
const loaded = new Map();
let language = "en";

/** The language of the address, else the first of the browser's that is known. */
export function wanted() {
  const named = new URLSearchParams(location.search).get("lang");
  const asked = [named, ...(navigator.languages || [])].filter(Boolean).map((tag) => tag.toLowerCase().split("-")[0]);
  return asked.find((tag) => LANGUAGES.includes(tag)) || "en";
}

/** Speaks a language from here on. */
export async function speak(tag) {
  if (!loaded.has(tag)) {
    const response = await fetch(`/page/${tag}.json`);
    loaded.set(tag, await response.json());
  }
  language = tag;
  document.documentElement.lang = tag === "zh" ? "zh-CN" : tag;
}

/** As `speak`, and says so in the address: nothing else remembers it. */
export async function choose(tag) {
  await speak(tag);
  const address = new URL(location.href);
  address.searchParams.set("lang", tag);
  history.replaceState(null, "", address);
}

export const spoken = () => language;
export const other = () => LANGUAGES.find((tag) => tag !== language);

/** Whether there is a text. */
export const has = (key) => key in loaded.get(language);

/** A text, with its {names} filled in. */
export function t(key, names) {
  const text = loaded.get(language)[key];
  if (text === undefined) throw new Error(`no text ${key}`);
  return text.replace(/\{(\w+)\}/g, (whole, name) => (names && name in names ? String(names[name]) : whole));
}

export const number = (value, digits) =>
  new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: digits ?? 0 }).format(value);

export const percent = (share) =>
  new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumSignificantDigits: 3 }).format(share);

export const moment = (when) =>
  new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" }).format(when);

export function bytes(count) {
  if (count === null || count === undefined) return t("unknown");
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [value, unit] = [count, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${number(value, unit === 0 ? 0 : 1)} ${units[unit]}`;
}

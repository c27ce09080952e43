// The band: a scale with its three regions, and a mark where the probability lies.
import { fitted, h, s } from "./dom.js";
import { number, t } from "./words.js";

const HEIGHT = 116;
const TOP = 34;
const BAR = 40;
const BANDS = ["benign", "uncertain", "pathogenic"];

/** Borders of the bands of an answer's model and mode; `null` where the page does not know them. */
export function borders(answer, models) {
  const model = (models || []).find((one) => one.digest === answer.model.digest);
  const mode = model && model.borders[answer.input_mode];
  if (!mode) return null;
  const missense = /missense_variant|coding_sequence_variant/.test(answer.consequence || "");
  return missense ? mode.missense : mode.any;
}

/** Where a probability is drawn, of 3: each region is a third, whatever its borders are. */
function place(probability, band, limits) {
  const index = BANDS.indexOf(band);
  const [from, to] = limits ? [[0, limits[0]], limits, [limits[1], 1]][index] : [0, 1];
  const share = to > from ? Math.min(Math.max((probability - from) / (to - from), 0), 1) : 0.5;
  return index + 0.04 + 0.92 * share;
}

function patterns() {
  const lines = (id, rotate, step) =>
    s("pattern", { id, width: step, height: step, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${rotate})` },
      s("line", { x1: 0, y1: 0, x2: 0, y2: step, class: "hatch" }));
  const dots = s("pattern", { id: "band-uncertain", width: 9, height: 9, patternUnits: "userSpaceOnUse" },
    s("circle", { cx: 2, cy: 2, r: 1.2, class: "dot" }));
  return s("defs", null, lines("band-benign", 45, 9), dots, lines("band-pathogenic", -45, 6));
}

function picture(answer, limits, said, width) {
  const { band, pathogenic_probability: probability } = answer;
  const third = width / 3;
  const x = place(probability, band, limits) * third;
  const regions = BANDS.map((name, index) => [
    s("rect", { x: index * third, y: TOP, width: third, height: BAR, class: `region ${name}${name === band ? " here" : ""}` }),
    s("rect", { x: index * third, y: TOP, width: third, height: BAR, fill: `url(#band-${name})` }),
    s("text", { x: (index + 0.5) * third, y: TOP + BAR + 22, class: `region-name${name === band ? " here" : ""}` }, t(`region.${name}`)),
  ]);
  const ticks = limits
    ? limits.map((limit, index) => [
        s("line", { x1: (index + 1) * third, x2: (index + 1) * third, y1: TOP - 4, y2: TOP + BAR + 4, class: "tick" }),
        s("text", { x: (index + 1) * third, y: TOP + BAR + 40, class: "tick-name" }, number(limit, 3)),
      ])
    : [];
  const mark = s("g", { class: "mark" },
    s("path", { d: `M${x - 9} ${TOP - 14}h18l-9 14z` }),
    s("line", { x1: x, x2: x, y1: TOP, y2: TOP + BAR }),
    s("text", { x: Math.min(Math.max(x, 34), width - 34), y: TOP - 19 }, number(probability, 3)));
  return s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": said }, patterns(), regions, ticks, mark);
}

/** The scale of an answer that has a band; drawn anew when there is more or less room. */
export function scale(answer, models) {
  const limits = borders(answer, models);
  const said = t("scale.said", { probability: number(answer.pathogenic_probability, 3), band: t(`band.${answer.band}`) });
  const drawn = fitted((room) => picture(answer, limits, said, room));
  return h("figure", { class: "scale" }, drawn,
    h("figcaption", null, said, " ", limits ? t("scale.borders", { low: number(limits[0], 3), high: number(limits[1], 3) }) : "",
      " ", t("scale.prior", { prior: number(answer.prior, 3) })));
}

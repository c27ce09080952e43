// What the box says in English sentences without a code, in the language of the page; the box's own words are shown beside.
import { has, t } from "./words.js";

/** Sentences of the box, and the key of each; `rest` holds what a group matched. */
const SENTENCES = [
  [/^engine (.+?) is configured but does not serve: (.+)$/s, "said.engine_skipped"],
  [/^no transcript was given: /, "said.no_transcript"],
  [/^transcript_id was not used: /, "said.transcript_id_unused"],
  [/^the reference pack has no transcript near this position$/, "said.no_transcript_near"],
  [/^the phases of the transcript's coding parts contradict /, "said.phases"],
  [/^the transcript's phases contradict its lengths/, "said.phases"],
  [/^explain was asked for; it is given for single bases/, "said.explain_single"],
  [/^explain was asked for; the deadline left no time/, "said.explain_deadline"],
  [/^explain was asked for; the engine gave no numbers/, "said.explain_engine"],
  [/^explain was asked for; answers about whole sequences/, "said.explain_sequence"],
  [/^no transcript was named: the gene's first one in the reference pack was taken, (.+)$/, "said.first_transcript"],
  [/^this id was answered before, as record (\d+);/, "said.repeat"],
  [/^tract runs FP32 only$/, "said.fp32_only"],
  [/^this processor has neither AVX-VNNI nor AVX512-VNNI/, "said.no_vnni"],
  [/^the bundle has no int8\.onnx$/, "said.no_int8"],
  [/^unsigned INT8 kernels are not exact here: /, "said.int8_not_exact"],
  [/^not a single-base variant$/, "said.not_snv"],
  [/^more bases are changed than the model reads$/, "said.too_long"],
  [/^ambiguous bases next to the variant$/, "said.ambiguous"],
  [/^too few bases around the variant$/, "said.too_short"],
  [/^a mitochondrial variant, /, "said.mitochondrial"],
  [/^the model was not trained for single-base variants$/, "said.no_snv"],
  [/^the model was not trained for input mode (\w+)$/, "said.mode_untrained"],
  [/^the model was not trained for (.+)$/, "said.untrained"],
  [/^(\d+) bases around the variant, expected (\d+) to (\d+)$/, "said.window"],
  [/^the model has no calibration for input mode (\w+)$/, "said.no_calibration"],
  [/^in input mode (\w+) no thresholds were sure enough on validation$/, "said.unsure"],
  [/^in input mode (\w+) the model's answers were right in ([\d.]+) % of validation, under the (\d+) % needed$/, "said.inaccurate"],
];

/** A sentence in the page's language, or `null` where only the box's own words are known. */
export function said(sentence) {
  const bare = sentence.replace(/^no prediction: /, "").replace(/^out of scope: /, "");
  for (const [pattern, key] of SENTENCES) {
    const found = pattern.exec(bare);
    if (!found) continue;
    const [, a, b, c] = found;
    const mode = a && has(`mode.${a}`) ? t(`mode.${a}`) : a;
    return t(key, { a: mode, b, c });
  }
  return null;
}

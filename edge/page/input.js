// Which kind of name was entered. The box reads it again, and alone decides.
const BASES = "[ACGTN]+";
// A symbol is written in capitals; before a space it may be written as one types.
const GENE = /^([A-Z][A-Za-z0-9-]{0,20}(?=\s*:)|[A-Za-z][A-Za-z0-9-]{0,20}(?=\s))\s*:?\s*(c\.\S+)$/;
const TRANSCRIPT = /^(?:N[MRCG]_|LRG_|ENST|ENSG)/i;
const PLACE = new RegExp(`^(?:g\\.)?((?:chr)?[\\w.]+)[-:\\s]+(\\d[\\d,]*)[-:\\s]*(${BASES})[-:>/\\s]+(${BASES})$`, "i");

/** `{kind, variant}`; a kind of `kind.…` in the dictionaries. */
export function understand(text) {
  const entered = text.trim();
  if (entered === "") return { kind: "nothing" };
  const lines = entered.split(/\r?\n/).filter((line) => line.trim() !== "" && !line.startsWith("#"));
  if (lines.length > 1) return { kind: "many" };
  if (lines.length === 0) return { kind: "nothing" };
  const line = lines[0].trim();
  const columns = line.split(/\t+|\s+/);
  const vcf = columns.length >= 5 && /^\d+$/.test(columns[1]) && new RegExp(`^${BASES}$`, "i").test(columns[3]);
  if (vcf) {
    if (columns[4].includes(",")) return { kind: "alleles" };
    return { kind: "vcf", variant: `${columns[0]}-${columns[1]}-${columns[3].toUpperCase()}-${columns[4].toUpperCase()}` };
  }
  const place = PLACE.exec(line);
  if (place) {
    const [, contig, position, reference, alternate] = place;
    const variant = `${contig}-${position.replaceAll(",", "")}-${reference.toUpperCase()}-${alternate.toUpperCase()}`;
    return { kind: "coordinates", variant };
  }
  const gene = GENE.exec(line);
  if (gene && !TRANSCRIPT.test(gene[1])) return { kind: "gene", variant: `${gene[1]}:${gene[2]}` };
  if (/:p\.|^p\./.test(line)) return { kind: "protein", variant: line };
  if (/:[cgn]\./.test(line)) return { kind: "hgvs", variant: line.replaceAll(/\s+/g, "") };
  if (/^c\./.test(line)) return { kind: "bare", variant: line };
  return { kind: "unknown", variant: line };
}

/** `{kind, sequence, mutation}` of the second form. */
export function understandSequence(sequence, mutation) {
  const bases = sequence.split(/\r?\n/).filter((line) => !line.startsWith(">")).join("").replaceAll(/\s+/g, "");
  return { kind: bases === "" || mutation.trim() === "" ? "nothing" : "sequence", sequence: bases, mutation: mutation.trim() };
}

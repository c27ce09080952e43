#!/bin/sh
# From NCBI's files to the three that `locus` trains on: bases, transcripts and labelled variants of GRCh38.
# Needs gzip and awk. docs/training-guide.md says where the files come from.
set -eu

# Whole chromosomes, so that no gene, and no two genes of one place, lie in two splits.
VALIDATION="7 16"
TEST="2 13"

if [ $# -lt 5 ] || [ $# -gt 6 ]; then
    echo "usage: panel.sh CLINVAR.vcf.gz ASSEMBLY_REPORT.txt GENOMIC.fna.gz GENOMIC.gff.gz OUT [GENES]" >&2
    echo "GENES: a file with a gene symbol a line; without it all genes" >&2
    exit 2
fi
mkdir -p "$5"

# RefSeq's names of the chromosomes (NC_000017.11) and UCSC's (chr17).
awk -F'\t' '!/^#/ && $2 == "assembled-molecule" && $8 == "Primary Assembly" { sub(/\r$/, "", $10); print $7 "\t" $10 }' \
    "$2" > "$5/names.tsv"
[ -s "$5/names.tsv" ] || { echo "panel.sh: no chromosomes in $2" >&2; exit 1; }

gzip -dc "$3" | awk -v names="$5/names.tsv" '
    BEGIN { while ((getline line < names) > 0) { split(line, n, "\t"); to[n[1]] = n[2] } }
    /^>/ { split(substr($0, 2), n, " "); keep = n[1] in to; if (keep) print ">" to[n[1]]; next }
    keep' > "$5/genome.fa"

# Curated transcripts of proteins (NM_) and their genes; no predicted ones (XM_).
gzip -dc "$4" | awk -F'\t' -v OFS='\t' -v names="$5/names.tsv" '
    BEGIN {
        while ((getline line < names) > 0) { split(line, n, "\t"); to[n[1]] = n[2] }
        print "##gff-version 3"
    }
    /^#/ || !($1 in to) { next }
    $3 == "gene" || (($3 == "mRNA" || $3 == "exon" || $3 == "CDS") && $9 ~ /(^|;)(ID|Parent)=rna-NM_/) { $1 = to[$1]; print }' \
    > "$5/genes.gff3"

# Germline single bases that somebody calls pathogenic or benign; nothing uncertain or contradictory.
gzip -dc "$1" | awk -F'\t' -v OFS='\t' -v validation="$VALIDATION" -v test="$TEST" -v genes="${6:-}" '
    function info(key,   n, i, parts) {
        n = split($8, parts, ";")
        for (i = 1; i <= n; i++) if (index(parts[i], key "=") == 1) return substr(parts[i], length(key) + 2)
        return ""
    }
    BEGIN {
        label["Pathogenic"] = label["Likely_pathogenic"] = label["Pathogenic/Likely_pathogenic"] = 1
        label["Benign"] = label["Likely_benign"] = label["Benign/Likely_benign"] = 0
        stars["practice_guideline"] = 4
        stars["reviewed_by_expert_panel"] = 3
        stars["criteria_provided,_multiple_submitters,_no_conflicts"] = 2
        stars["criteria_provided,_single_submitter"] = 1
        n = split(validation, names, " "); for (i = 1; i <= n; i++) split_of[names[i]] = "val"
        n = split(test, names, " "); for (i = 1; i <= n; i++) split_of[names[i]] = "test"
        if (genes != "") while ((getline line < genes) > 0) wanted[line] = 1
        print "##fileformat=VCFv4.3"
        print "##INFO=<ID=GENE,Number=1,Type=String,Description=\"Gene\">"
        print "##INFO=<ID=LABEL,Number=1,Type=Integer,Description=\"1 pathogenic, 0 benign\">"
        print "##INFO=<ID=STARS,Number=1,Type=Integer,Description=\"Review stars of ClinVar\">"
        print "##INFO=<ID=SPLIT,Number=1,Type=String,Description=\"train, val or test\">"
        print "#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"
    }
    /^#/ || $1 !~ /^([0-9]+|X|Y)$/ || $4 !~ /^[ACGT]$/ || $5 !~ /^[ACGT]$/ { next }
    {
        significance = info("CLNSIG"); origin = info("ORIGIN"); gene = info("GENEINFO")
        # Of several genes the first; bit 0 of the origin is germline.
        sub(/[:|].*/, "", gene)
        if (!(significance in label) || gene == "" || (origin != "" && origin % 2 == 0)) next
        if (genes != "" && !(gene in wanted)) next
        place = $1 in split_of ? split_of[$1] : "train"
        print "chr" $1, $2, $3, $4, $5, ".", ".", \
            "GENE=" gene ";LABEL=" label[significance] ";STARS=" stars[info("CLNREVSTAT")] + 0 ";SPLIT=" place
    }' > "$5/variants.vcf"

awk -F'\t' '!/^#/ { match($8, /LABEL=[01]/); l = substr($8, RSTART + 6, 1); match($8, /SPLIT=.*/); n[substr($8, RSTART + 6) " " l]++ }
    END { for (k in n) { split(k, p, " "); print p[1] ": " n[k] (p[2] == 1 ? " pathogenic" : " benign") } }' "$5/variants.vcf" | sort

use std::{fs, path::Path, sync::Arc};

use super::*;
use crate::{EncodeError, KmerTokenizer, ReferencePack, VariantEncoder};

const GFF: &str = "##gff-version 3\n\
    chr1\t.\tgene\t11\t90\t.\t+\t.\tID=gene:G;Name=GENE\n\
    chr1\t.\tmRNA\t11\t90\t.\t+\t.\tID=transcript:T1;Parent=gene:G\n\
    chr1\t.\texon\t11\t90\t.\t+\t.\tParent=transcript:T1\n\
    chr1\t.\tCDS\t21\t50\t.\t+\t0\tParent=transcript:T1\n\
    chr1\t.\tmRNA\t15\t90\t.\t+\t.\tID=transcript:T2;Parent=gene:G;tag=basic,MANE_Select\n\
    chr1\t.\texon\t15\t90\t.\t+\t.\tParent=transcript:T2\n";

fn fasta() -> String {
    let bases: String = (0..70_001).map(|i| char::from(b"ACGGTCATTGCA"[(i * i + i / 3) % 12])).collect();
    format!(">chr1\nNNNNN{}rYn{}\n>chr2:5-11\nACGTNNT\n>empty_of_bases\nNNNN\n", &bases[..100], &bases[100..])
}

fn packed(folder: &Path) -> Parts {
    let (fasta_path, gff3) = (folder.join("r.fa"), folder.join("r.gff3"));
    fs::write(&fasta_path, fasta()).unwrap();
    fs::write(&gff3, GFF).unwrap();
    let out = folder.join("out");
    fs::create_dir_all(&out).unwrap();
    let built = build(&fasta_path, &gff3, &out).unwrap();
    assert_eq!((built.records, built.bases, built.transcripts, built.genes), (3, 70_020, 2, 1));
    let read = |name| fs::read(out.join(name)).unwrap();
    let source = [b"front".to_vec(), read(BASES)].concat();
    Parts {
        records: read(RECORDS),
        transcripts: read(TRANSCRIPTS),
        runs: read(RUNS),
        blocks: read(BLOCKS),
        bases_at: 5,
        bases_len: source.len() as u64 - 5,
        source: Arc::new(source),
    }
}

#[test]
fn a_pack_reads_as_the_files_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let pack = ReferencePack::packed(packed(folder.path())).unwrap();
    let files = ReferencePack::open(&folder.path().join("r.fa"), &folder.path().join("r.gff3")).unwrap();
    for (a, b) in pack.records().iter().zip(files.records()) {
        assert_eq!((&a.contig, a.first, a.last(), a.region), (&b.contig, b.first, b.last(), b.region));
        assert_eq!(pack.stretch(a).unwrap().bases, files.stretch(b).unwrap().bases);
    }
    assert_eq!(pack.transcripts("chr1"), files.transcripts("chr1"));
    assert_eq!(pack.transcripts("chr1")[0].id, "T2", "the preferred one of a gene comes first");
    let pack = ReferencePack::packed(packed(folder.path())).unwrap();
    for (position, flank) in [(1, 3), (50, 60), (107, 4), (65_536, 300), (65_545, 300), (70_000, 5)] {
        let [a, b] = [&pack, &files].map(|r| r.bases_around("chr1", position, flank).unwrap());
        assert_eq!((a.first, a.bases), (b.first, b.bases), "{position}");
    }
}

#[test]
fn a_changed_block_is_never_answered_from() {
    let folder = tempfile::tempdir().unwrap();
    let mut parts = packed(folder.path());
    let mut source = fs::read(folder.path().join("out").join(BASES)).unwrap();
    source[BLOCK_BYTES + 7] ^= 4;
    (parts.source, parts.bases_at) = (Arc::new(source), 0);
    let pack = ReferencePack::packed(parts).unwrap();
    assert!(pack.bases_around("chr1", 40, 20).is_ok());
    let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1).unwrap(), 61);
    let variant = "chr1-66000-A-C".parse().unwrap();
    let error = encoder.encode_reference(&pack, &variant, None).unwrap_err();
    assert!(matches!(error, EncodeError::Unreadable { .. }), "{error}");
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = packed(folder.path());
    let cases: [fn(&mut Parts); 6] = [
        |p| p.bases_len -= 1,
        |p| {
            p.blocks.pop();
        },
        |p| p.runs.clear(),
        |p| p.records.push(0),
        |p| p.transcripts.truncate(9),
        |p| {
            p.runs = postcard::to_stdvec(&vec![
                vec![Run { from: 70_003, len: u64::MAX, code: b'N' }],
                vec![],
                vec![],
            ])
            .unwrap()
        },
    ];
    for (n, change) in cases.into_iter().enumerate() {
        let mut parts = good.clone();
        change(&mut parts);
        assert!(ReferencePack::packed(parts).is_err(), "{n}");
    }
    for part in [&good.records, &good.transcripts, &good.runs] {
        for at in 0..part.len() {
            let mut parts = good.clone();
            for (own, name) in [
                (&mut parts.records, &good.records),
                (&mut parts.transcripts, &good.transcripts),
                (&mut parts.runs, &good.runs),
            ] {
                if std::ptr::eq(part, name) {
                    own[at] ^= 0x80;
                }
            }
            // Whatever it reads as, it neither panics nor takes memory without bound.
            let _ = ReferencePack::packed(parts);
        }
    }
}

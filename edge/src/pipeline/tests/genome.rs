//! Variants by position and by name, on a genome that may change.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_genome_of_another_assembly_answers_no_variant() {
    let folder = tempfile::tempdir().unwrap();
    let (fasta, gff) = (folder.path().join("p.fa"), folder.path().join("p.gff3"));
    std::fs::write(&fasta, format!(">chr1:1001-1400\n{}\n", "ACGGTCATTGCA".repeat(40)[..400].to_owned()))
        .unwrap();
    std::fs::write(&gff, "##gff-version 3\nchr1\t.\tmRNA\t1100\t1300\t.\t+\t.\tID=t1;Parent=g\nchr1\t.\texon\t1100\t1300\t.\t+\t.\tParent=t1\n").unwrap();
    let variant = |id: &str| Request {
        id: Some(id.into()),
        variant: Some("chr1-1201-T-A".into()),
        ..Request::default()
    };
    for (assembly, answered) in [("grch38", true), ("GRCh37", false)] {
        let genome = Some(Genome::open(&fasta, &gff, assembly).unwrap());
        let made = Setup { genome, ..Setup::default() }.start();
        made.pipeline.swap(scorer()).unwrap();
        let outcome = made.ask(variant("a")).await;
        if answered {
            index(&outcome);
            assert_eq!(made.pipeline.notices(), Vec::<String>::new());
        } else {
            assert_eq!(code(&outcome), FaultCode::WrongAssembly);
            let notice = made.pipeline.notices().remove(0);
            assert!(notice.contains("GRCh37") && notice.contains("GRCh38"), "{notice}");
        }
        index(&made.ask(request("b")).await);
        made.stop();
    }
}

/// A genome of one region, in which `base` stands at position 1201.
fn genome(folder: &Path, name: &str, base: char) -> Genome {
    let (fasta, gff) = (folder.join(name), folder.join(format!("{name}.gff3")));
    let mut bases: Vec<char> = "ACGGTCATTGCA".repeat(40).chars().take(400).collect();
    bases[200] = base;
    std::fs::write(&fasta, format!(">chr1:1001-1400\n{}\n", bases.iter().collect::<String>())).unwrap();
    std::fs::write(&gff, "##gff-version 3\nchr1\t.\tmRNA\t1100\t1300\t.\t+\t.\tID=t1;Parent=GENE\nchr1\t.\texon\t1100\t1300\t.\t+\t.\tParent=t1\nchr1\t.\tCDS\t1190\t1249\t.\t+\t0\tParent=t1\n").unwrap();
    Genome::open(&fasta, &gff, "hg38").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_by_half_of_a_genome_while_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let made = Setup { genome: Some(genome(folder.path(), "t.fa", 'T')), ..Setup::default() }.start();
    made.pipeline.swap(scorer()).unwrap();
    let (pipeline, path) = (made.pipeline.clone(), folder.path().to_owned());
    let swapping = tokio::task::spawn_blocking(move || {
        for n in 0..60 {
            let (name, base) = if n % 2 == 0 { ("g.fa", 'G') } else { ("t.fa", 'T') };
            pipeline.set_genome(Some(genome(&path, name, base)));
        }
        pipeline.set_genome(None);
    });
    let (mut answered, mut refused, mut n) = (0, 0, 0);
    loop {
        n += 1;
        let variant = Some("t1:c.12T>A".to_owned());
        let outcome = made.ask(Request { id: Some(n.to_string()), variant, ..Request::default() }).await;
        match &*outcome {
            Outcome::Answer(answer) => {
                let reference = answer.reference.as_ref().unwrap();
                assert_eq!((reference.name.as_str(), answer.hgvs_c.as_deref()), ("t.fa", Some("t1:c.12T>A")));
                answered += 1;
            }
            Outcome::Fault(fault) if fault.code == FaultCode::NoReference => break,
            Outcome::Fault(fault) => {
                assert_eq!(fault.code, FaultCode::RefMismatch, "{fault:?}");
                refused += 1;
            }
        }
    }
    swapping.await.unwrap();
    assert!(answered + refused > 0);
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_genes_and_assemblies_are_read_and_an_explanation_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let made = Setup { genome: Some(genome(folder.path(), "t.fa", 'T')), ..Setup::default() }.start();
    made.pipeline.swap(scorer()).unwrap();
    let by = |id: &str, variant: &str| Request {
        id: Some(id.into()),
        variant: Some(variant.into()),
        assembly: Some("hg38".into()),
        ..Request::default()
    };
    let said = |outcome: Arc<Outcome>| match &*outcome {
        Outcome::Answer(answer) => (**answer).clone(),
        Outcome::Fault(fault) => panic!("{fault:?}"),
    };
    let all = [
        by("a", "chr1-1201-T-A"),
        by("b", "t1:c.12T>A"),
        by("c", "GENE:c.12T>A"),
        Request { gene: Some("gene".into()), ..by("d", "c.12T>A") },
        by("e", "chr1:g.1201T>A"),
        Request { explain: Some(true), ..by("f", "t1:c.12T>A") },
    ];
    for (n, request) in all.into_iter().enumerate() {
        let explained = request.explain.is_some();
        let answer = said(made.ask(request).await);
        assert_eq!(answer.hgvs_c.as_deref(), Some("t1:c.12T>A"), "{n}");
        assert!(answer.hgvs_p.as_deref().is_some_and(|p| p.starts_with("p.(") && p.contains('4')), "{n}");
        assert_eq!(answer.assembly.as_deref(), Some("GRCh38"), "{n}");
        let chosen = answer.warnings.iter().any(|w| w.contains("first one in the reference pack"));
        assert_eq!(chosen, [2, 3].contains(&n), "{n}: {:?}", answer.warnings);
        assert_eq!(answer.attribution.len(), if explained { 20 } else { 0 }, "{n}");
        let around = answer.around.as_ref().map(|around| (around.gene.as_deref(), around.codons.len() > 9));
        assert_eq!(around, explained.then_some((Some("GENE"), true)), "{n}");
        assert!(!answer.predicted_description.starts_with("pathogenic"));
    }
    let insertion = said(made.ask(by("g", "t1:c.12dup")).await);
    assert!(insertion.abstained && insertion.out_of_distribution, "{insertion:?}");
    assert_eq!(insertion.consequence.as_deref(), Some("frameshift_variant"));
    for (id, variant, expected) in [
        ("h", "t1:c.12G>A", FaultCode::RefMismatch),
        ("i", "t9:c.12T>A", FaultCode::UnknownTranscript),
        ("j", "t1:c.99T>A", FaultCode::BadMutation),
        ("k", "NC_000001.10:g.1201T>A", FaultCode::WrongAssembly),
        ("l", "c.12T>A", FaultCode::BadMutation),
        ("m", "t1:p.Met4Lys", FaultCode::BadMutation),
    ] {
        assert_eq!(code(&made.ask(by(id, variant)).await), expected, "{variant}");
    }
    let other = Request { assembly: Some("hg19".into()), ..by("n", "t1:c.12T>A") };
    assert_eq!(code(&made.ask(other).await), FaultCode::WrongAssembly);
    made.stop();
}

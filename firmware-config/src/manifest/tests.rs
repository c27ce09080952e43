use super::*;

pub(crate) fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        name: "tiny".into(),
        version: semver::Version::new(1, 0, 0),
        security_counter: 1,
        min_edge_version: semver::Version::new(0, 1, 0),
        task: Task::VariantEffect,
        labels: vec!["pathogenic".into()],
        scope: Scope {
            kinds: vec!["snv".into()],
            min_bases: 3,
            max_bases: 63,
            modes: vec!["transcript".into()],
            consequences: None,
            assembly: "GRCh38".into(),
            max_ambiguous_percent: None,
            wild_type: None,
        },
        graph: GraphContract {
            inputs: vec![],
            outputs: vec![],
            features: vec![],
            buckets: vec![32, 64],
            max_tokens: 64,
            max_batch: 32,
        },
        tokenizer: TokenizerInfo {
            kmer: 3,
            stride: 1,
            vocab_size: 69,
            window_kmers: 61,
            frames: None,
            fingerprint: "0".repeat(64),
        },
        probability: ProbabilityModel::default(),
        contract: AccuracyContract {
            data: "validation".into(),
            metric: "auroc".into(),
            budget: 0.005,
            ..AccuracyContract::default()
        },
        golden: Golden { part: "golden.json".into(), count: 0, tolerance_fp32: 1e-4, tolerance_int8: 0.1 },
        provenance: Provenance {
            data: BTreeMap::new(),
            recipe_sha256: "0".repeat(64),
            seed: 1,
            source: None,
            created: "2026-01-01".into(),
        },
        parts: vec![Part { name: "fp32.onnx".into(), size: 1, sha256: "a".repeat(64) }],
    }
}

#[test]
fn bytes_are_the_same_every_time_and_read_back() {
    let bytes = manifest().to_json().unwrap();
    assert_eq!(bytes, manifest().to_json().unwrap());
    assert_eq!(Manifest::from_json(&bytes).unwrap(), manifest());
}

#[test]
fn one_changed_byte_is_another_digest() {
    let mut other = manifest();
    other.security_counter = 2;
    assert_ne!(digest(&manifest().to_json().unwrap()), digest(&other.to_json().unwrap()));
}

#[test]
fn hostile_names_numbers_and_formats_are_refused() {
    for name in ["../x", "a/b", "", ".hidden", "manifest.json", "fp32.onnx"] {
        let mut m = manifest();
        m.parts.push(Part { name: name.into(), size: 0, sha256: "a".repeat(64) });
        assert!(m.to_json().is_err(), "{name}");
    }
    for digest in ["A".repeat(64), "a".repeat(63), "g".repeat(64)] {
        let mut m = manifest();
        m.parts[0].sha256 = digest;
        assert!(m.to_json().is_err());
    }
    let mut m = manifest();
    m.contract.budget = f64::NAN;
    assert!(m.to_json().is_err());
    let text = String::from_utf8(manifest().to_json().unwrap()).unwrap();
    assert!(matches!(
        Manifest::from_json(text.replace("\"format\": 1", "\"format\": 9").as_bytes()),
        Err(ManifestError::Format { got: 9 })
    ));
    assert!(Manifest::from_json(text.replace("\"seed\"", "\"sead\"").as_bytes()).is_err());
    assert!(matches!(
        Manifest::from_json(&vec![b' '; MAX_MANIFEST_BYTES + 1]),
        Err(ManifestError::TooLarge { .. })
    ));
}

fn contract(fp32: &[(&str, f64)], int8: &[(&str, f64)]) -> AccuracyContract {
    let map = |figures: &[(&str, f64)]| figures.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    AccuracyContract {
        data: "validation".into(),
        metric: "auroc".into(),
        fp32: map(fp32),
        int8: map(int8),
        difference: map(&[("auroc", 0.0)]),
        budget: 0.005,
        ..AccuracyContract::default()
    }
}

#[test]
fn int8_is_refused_beyond_the_budget_whatever_difference_is_stated() {
    let of = |int8: f64| contract(&[("auroc", 0.9)], &[("auroc", int8)]).exceeded();
    assert!(of(0.8951).is_none());
    assert!(of(0.92).is_none());
    assert!(of(0.8949).is_some_and(|reason| reason.contains("0.0051")));
    assert!(of(f64::NAN).is_some());
}

#[test]
fn int8_is_refused_where_its_loss_was_not_measured() {
    let other = [("missense_auroc", 0.9)];
    for (fp32, int8) in [(&[("auroc", 0.9)], &other), (&other, &[("auroc", 0.9)]), (&other, &other)] {
        assert!(contract(fp32, int8).exceeded().is_some_and(|reason| reason.contains("lacks auroc")));
    }
}

#[test]
fn int8_is_refused_where_it_decides_otherwise_too_often_or_nobody_says() {
    let of = |flips| {
        let same = contract(&[("auroc", 0.9)], &[("auroc", 0.9)]);
        AccuracyContract { flips, flips_budget: Some(0.003), ..same }.exceeded()
    };
    assert!(of(Some(0.003)).is_none());
    assert!(of(Some(0.0031)).is_some_and(|reason| reason.contains("0.31 %")));
    assert!(of(Some(f64::NAN)).is_some() && of(None).is_some());
}

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use locus_edge::journal::{Witnesses, verify};
use locus_engine::{
    Bundle, Limits, Policy, Trust,
    bundle::{Depth, Pack},
};
use locus_firmware_config::{manifest::Manifest, message::Outcome};

use super::*;

#[test]
fn first_files_are_good_ones_so_that_changes_of_them_go_deep() {
    let first = |target: &str| of(target).unwrap().remove(0);
    let bundle = first("bundle");
    let opened = Bundle::read(&bundle[..], bundle.len() as u64, &Trust::AllowUnsigned, &Limits::default());
    assert_eq!(opened.unwrap().tokenizer().vocab_size(), 69);
    let pack = first("pack");
    let total = pack.len() as u64;
    let pack = Pack::open(Arc::new(pack), total, &Trust::AllowUnsigned, Depth::Whole).unwrap();
    assert_eq!(pack.into_reference().unwrap().records().len(), 2);
    assert!(Manifest::from_json(&first("manifest")).is_ok());
    assert!(Policy::open(&first("trust")).is_ok());
    assert!(SlotRecord::decode(&of("slots").unwrap()[1]).is_some());
    for (text, is_answer) in of("outcome-json").unwrap().iter().zip([true, false]) {
        assert_eq!(matches!(Outcome::from_json(text).unwrap(), Outcome::Answer(_)), is_answer);
    }
    for bytes in of("request-json").unwrap() {
        assert!(Request::from_json(&bytes).is_ok());
    }
    let vfs = Memory::default();
    written(&vfs).unwrap();
    let device = journal::device_key().verifying_key();
    let report = verify(&vfs, Path::new(journal::DIR), &device, &Witnesses::default()).unwrap();
    assert!(report.complete() && report.records == 3, "{report:?}");
}

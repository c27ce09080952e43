//! Whichever target `LOCUS_FUZZ_TARGET` names, under libFuzzer.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use locus_fuzz::{Target, named};

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("LOCUS_FUZZ_TARGET").unwrap_or_default();
        named(&name).unwrap_or_else(|| panic!("LOCUS_FUZZ_TARGET is {name:?}, which is no target"))
    })
}

fuzz_target!(|bytes: &[u8]| {
    let target = target();
    if bytes.len() <= target.longest {
        (target.run)(bytes);
    }
});

//! Flashing as a whole: power cuts, refusals, failures in a row.

mod power;
mod starting;

use std::{path::Path, sync::Arc, sync::LazyLock};

use ed25519_dalek::{Signer, SigningKey};
use locus_engine::{Trust, TrustedKey};
use locus_firmware_config::manifest::{key_id, signing_message};
use sha2::{Digest, Sha256};

use super::*;
use crate::vfs::{Fault, FaultyVfs};

/// Parts of the shipped model with graphs that nobody runs here: opening a bundle does not parse them.
static SHIPPED: LazyLock<Bundle> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/variant-effect.locus");
    Bundle::open(path, &Trust::AllowUnsigned).unwrap()
});

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn trust() -> Trust {
    Trust::Keys(vec![TrustedKey::from_bytes(key(1).verifying_key().as_bytes()).unwrap()])
}

fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Name of the model that most tests are about.
const MODEL: &str = "variant-effect";

/// A small bundle of that model that says `label`, signed or not.
fn bundle(label: &str, counter: u64, signer: Option<&SigningKey>) -> Vec<u8> {
    bundle_of(MODEL, label, counter, signer)
}

/// What a bundle made here says.
fn label(bundle: &Bundle) -> String {
    bundle.manifest().provenance.source.clone().unwrap()
}

fn bundle_of(model: &str, label: &str, counter: u64, signer: Option<&SigningKey>) -> Vec<u8> {
    let mut manifest = SHIPPED.manifest().clone();
    manifest.name = model.to_owned();
    manifest.provenance.source = Some(label.to_owned());
    manifest.security_counter = counter;
    let mut parts = Vec::new();
    for part in &mut manifest.parts {
        let mut bytes = SHIPPED.part(&part.name).unwrap().to_vec();
        if part.name.ends_with(".onnx") {
            bytes = format!("graph of {label}").into_bytes();
            part.size = bytes.len() as u64;
            part.sha256 = hex::encode(Sha256::digest(&bytes));
        }
        parts.push((part.name.clone(), bytes));
    }
    let manifest = manifest.to_json().unwrap();
    let digest: [u8; 32] = Sha256::digest(&manifest).into();
    let mut entries = vec![("manifest.json", manifest)];
    if let Some(signer) = signer {
        let signature = serde_json::json!({"signatures": [{
            "key_id": key_id(signer.verifying_key().as_bytes()),
            "algorithm": "ed25519",
            "signature": hex::encode(signer.sign(&signing_message(&digest)).to_bytes()),
        }]});
        entries.push(("signatures.json", serde_json::to_vec(&signature).unwrap()));
    }
    entries.extend(parts.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    archive(&entries)
}

fn signed(name: &str, counter: u64) -> Vec<u8> {
    bundle(name, counter, Some(&key(1)))
}

/// A signed bundle of another model.
fn other(label: &str, counter: u64) -> Vec<u8> {
    bundle_of("coding", label, counter, Some(&key(1)))
}

fn good(_: &Bundle) -> Result<(), BoxError> {
    Ok(())
}

/// Notes what the daemon is told, serves what it is told to, and fails where it is asked to.
#[derive(Default)]
struct Daemon {
    told: Vec<String>,
    serving: Option<String>,
    before: Option<Option<String>>,
    fail_self_test: bool,
    fail_trial: bool,
}

impl Daemon {
    fn serving(digest: Option<&String>) -> Self {
        Self { serving: digest.cloned(), ..Self::default() }
    }
}

impl Proving for Daemon {
    fn self_test(&mut self, bundle: &Bundle) -> Result<(), BoxError> {
        self.told.push(format!("test {}", label(bundle)));
        if self.fail_self_test { Err("golden vector 3 is off by 0.2".into()) } else { Ok(()) }
    }

    fn trial(&mut self, bundle: &Bundle) -> Result<(), BoxError> {
        self.told.push(format!("try {}", label(bundle)));
        self.before = Some(self.serving.replace(bundle.digest().to_owned()));
        if self.fail_trial { Err("no answer in 5 s".into()) } else { Ok(()) }
    }

    fn revert(&mut self, _: &str) {
        self.told.push("back".to_owned());
        self.serving = self.before.take().unwrap();
    }

    fn confirm(&mut self, _: &str) {
        assert!(self.before.take().is_some(), "there was a trial");
    }

    fn serves(&self, digest: &str) -> bool {
        self.serving.as_deref() == Some(digest)
    }
}

fn serving(store: &mut dyn SlotStore) -> Option<String> {
    serving_of(store, MODEL)
}

fn serving_of(store: &mut dyn SlotStore, model: &str) -> Option<String> {
    let boot = booted(store, model, &mut good)?;
    assert!(boot.fallback.is_none(), "{:?}", boot.fallback);
    boot.bundle.as_ref().map(label)
}

fn booted(
    store: &mut dyn SlotStore,
    model: &str,
    start: &mut dyn FnMut(&Bundle) -> Result<(), BoxError>,
) -> Option<Boot> {
    let boots = boot(store, &trust(), &|_| false, start).unwrap();
    boots.into_iter().find(|boot| boot.model == model)
}

#[test]
fn a_bundle_is_proved_before_it_serves_and_the_old_one_is_kept() {
    let mut store = MemSlotStore::new();
    assert_eq!(serving(&mut store), None);
    let first = flash_bytes(&mut store, &signed("one", 3), &trust(), &mut good).unwrap();
    assert_eq!((first.previous.clone(), first.floor, first.unchanged), (None, 3, false));
    let mut daemon = Daemon::default();
    let second = flash_bytes(&mut store, &signed("two", 3), &trust(), &mut daemon).unwrap();
    assert_eq!(daemon.told, ["test two", "try two"]);
    assert_eq!(second.previous, Some(first.digest));
    assert_eq!(serving(&mut store).as_deref(), Some("two"));
    let again = flash_bytes(&mut store, &signed("two", 3), &trust(), &mut daemon).unwrap();
    assert!(again.unchanged);
    assert_eq!(daemon.told.len(), 2, "what serves already is not tried again");
    let back = roll_back(&mut store, MODEL, &trust(), &mut daemon).unwrap();
    assert_eq!((back.name.as_str(), back.previous.as_ref()), (MODEL, Some(&second.digest)));
    assert_eq!(serving(&mut store).as_deref(), Some("one"));
}

#[test]
fn unsigned_foreign_and_downgraded_bundles_are_refused_before_anything_is_written() {
    let mut store = MemSlotStore::new();
    flash_bytes(&mut store, &signed("one", 5), &trust(), &mut good).unwrap();
    let (operations, record) = (store.operations(), store.state().unwrap());
    let mut cut = signed("cut", 6);
    cut.truncate(cut.len() / 2);
    let mut flipped = signed("flipped", 6);
    let at = flipped.len() - 2000;
    flipped[at] ^= 1;
    let refused = [
        bundle("unsigned", 6, None),
        bundle("foreign", 6, Some(&key(2))),
        signed("old", 4),
        cut,
        flipped,
        Vec::new(),
    ];
    for bytes in refused {
        let mut daemon = Daemon::default();
        let error = flash_bytes(&mut store, &bytes, &trust(), &mut daemon).unwrap_err();
        assert!(matches!(error, SlotError::Bundle(_) | SlotError::Downgrade { got: 4, floor: 5 }), "{error}");
        assert!(daemon.told.is_empty());
    }
    let lax = flash_bytes(&mut store, &bundle("unsigned", 6, None), &Trust::AllowUnsigned, &mut good);
    assert!(matches!(lax, Err(SlotError::Unsigned { .. })), "not even where the workbench would take it");
    assert_eq!((store.operations(), store.state().unwrap()), (operations, record));
}

#[test]
fn a_slot_is_usable_after_a_hundred_failures_in_a_row() {
    let vfs = FaultyVfs::new();
    let mut store = FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    flash_bytes(&mut store, &signed("one", 1), &trust(), &mut good).unwrap();
    for n in 0..100 {
        let mut daemon = Daemon { fail_self_test: n % 2 == 0, fail_trial: n % 2 == 1, ..Daemon::default() };
        let error =
            flash_bytes(&mut store, &signed(&format!("bad-{n}"), 9), &trust(), &mut daemon).unwrap_err();
        assert!(matches!(error, SlotError::SelfTest { .. } | SlotError::Trial { .. }));
        assert_eq!(daemon.told.last().unwrap() == "back", daemon.fail_trial);
        assert_eq!(store.state().unwrap().of(MODEL).floor, 1, "a model that failed does not raise the floor");
    }
    assert_eq!(serving(&mut store).as_deref(), Some("one"));
    let bundles = vfs.files().iter().filter(|(path, _)| path.starts_with("/slots/bundles")).count();
    assert!(bundles <= 2, "{bundles} bundles pile up");
    flash_bytes(&mut store, &signed("two", 2), &trust(), &mut good).unwrap();
    assert_eq!((serving(&mut store).as_deref(), store.state().unwrap().of(MODEL).floor), (Some("two"), 2));
}

/// Old or new, whole, with the floor that belongs to it; and the next flash works. The model beside it is untouched.
fn check(store: &mut dyn SlotStore, ok: bool, context: &str) {
    untouched(store, context);
    check_one(store, ok, context);
    untouched(store, context);
}

fn untouched(store: &mut dyn SlotStore, context: &str) {
    assert_eq!(serving_of(store, "coding").as_deref(), Some("beside"), "{context}");
    let slots = store.state().unwrap().of("coding");
    assert_eq!((slots.floor, slots.previous, slots.trial), (7, None, None), "{context}");
}

fn check_one(store: &mut dyn SlotStore, ok: bool, context: &str) {
    let name = serving(store).unwrap_or_else(|| panic!("{context}: no model"));
    let record = store.state().unwrap().of(MODEL);
    assert_eq!(record.trial, None, "{context}");
    match name.as_str() {
        "new" => assert_eq!(record.floor, 2, "{context}"),
        "old" => assert_eq!((record.floor, ok), (1, false), "{context}"),
        other => panic!("{context}: {other} serves"),
    }
    flash_bytes(store, &signed("later", 3), &trust(), &mut good).unwrap();
    assert_eq!(serving(store).as_deref(), Some("later"), "{context}");
}

#[test]
fn two_models_each_have_their_slots_their_floor_and_their_way_back() {
    let mut store = MemSlotStore::new();
    for (label, counter) in [("one", 5), ("two", 6)] {
        flash_bytes(&mut store, &signed(label, counter), &trust(), &mut good).unwrap();
    }
    flash_bytes(&mut store, &other("a", 1), &trust(), &mut good).unwrap();
    flash_bytes(&mut store, &other("b", 1), &trust(), &mut good).unwrap();
    let back = roll_back(&mut store, "coding", &trust(), &mut good).unwrap();
    assert_eq!((back.name.as_str(), back.floor), ("coding", 1));
    assert_eq!(serving(&mut store).as_deref(), Some("two"));
    assert_eq!(serving_of(&mut store, "coding").as_deref(), Some("a"));
    assert!(matches!(
        flash_bytes(&mut store, &signed("old", 5), &trust(), &mut good),
        Err(SlotError::Downgrade { got: 5, floor: 6 })
    ));
    // A bundle of one model in the slots of another is not started under its name.
    let stray = Slots { active: Some(back.digest), ..Slots::default() };
    store.put("stray", stray).unwrap();
    let fallen = booted(&mut store, "stray", &mut good).unwrap();
    assert!(
        fallen.bundle.is_none() && fallen.fallback.unwrap().contains("of the model coding, expected stray")
    );
}

#[test]
fn a_removed_model_leaves_its_floor_and_a_trial_is_ended_first() {
    let mut store = MemSlotStore::new();
    let one = flash_bytes(&mut store, &signed("one", 5), &trust(), &mut good).unwrap();
    store.stage(MODEL, &one.digest).unwrap();
    assert!(matches!(remove(&mut store, MODEL), Err(SlotError::OnTrial { .. })));
    store.revert(MODEL).unwrap();
    assert_eq!(remove(&mut store, MODEL).unwrap(), Some(one.digest));
    assert_eq!((store.state().unwrap().names().count(), serving(&mut store)), (0, None));
    let old = flash_bytes(&mut store, &signed("old", 4), &trust(), &mut good);
    assert!(matches!(old, Err(SlotError::Downgrade { got: 4, floor: 5 })), "{old:?}");
}

#[test]
fn names_and_bytes_have_a_bound_and_what_is_above_it_writes_nothing() {
    let mut store = MemSlotStore::new();
    for n in 0..MAX_MODELS {
        let made = bundle_of(&format!("m{n}"), "x", 1, Some(&key(1)));
        flash_bytes(&mut store, &made, &trust(), &mut good).unwrap();
    }
    let operations = store.operations();
    let above = flash_bytes(&mut store, &other("a", 1), &trust(), &mut good);
    assert!(matches!(above, Err(SlotError::TooManyModels { got: MAX_MODELS, .. })), "{above:?}");
    let next = bundle_of("m3", "y", 1, Some(&key(1)));
    struct Small(u64);
    impl Proving for Small {
        fn most_bytes(&self) -> u64 {
            self.0
        }

        fn self_test(&mut self, _: &Bundle) -> Result<(), BoxError> {
            Ok(())
        }
    }
    let all = (MAX_MODELS * next.len()) as u64;
    let above = flash_bytes(&mut store, &next, &trust(), &mut Small(all - 1_000));
    assert!(matches!(above, Err(SlotError::TooMuch { .. })), "{above:?}");
    assert_eq!(store.operations(), operations);
    flash_bytes(&mut store, &next, &trust(), &mut Small(all + 1_000)).unwrap();
    for n in 0..MAX_NAMES {
        let name = format!("gone{n}");
        store.put(&name, Slots { floor: 1, ..Slots::default() }).unwrap();
    }
    remove(&mut store, "m0").unwrap();
    let above = flash_bytes(&mut store, &other("a", 1), &trust(), &mut good);
    assert!(matches!(above, Err(SlotError::TooManyModels { limit: MAX_NAMES, .. })), "{above:?}");
}

//! Flashing as a whole: power cuts, refusals, failures in a row.

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
fn power_cut_after_every_operation_of_the_store_leaves_one_valid_model() {
    let (old, new) = (signed("old", 1), signed("new", 2));
    for cut in 0.. {
        let mut store = MemSlotStore::new();
        flash_bytes(&mut store, &other("beside", 7), &trust(), &mut good).unwrap();
        flash_bytes(&mut store, &old, &trust(), &mut good).unwrap();
        store.cut_after(cut);
        let ok = flash_bytes(&mut store, &new, &trust(), &mut good).is_ok();
        store.restart();
        check(&mut store, ok, &format!("cut after {cut}"));
        if ok {
            break;
        }
    }
}

#[test]
fn power_cut_at_every_file_operation_leaves_one_valid_model() {
    let (old, new) = (signed("old", 1), signed("new", 2));
    let open = |vfs: &FaultyVfs| FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    let base = FaultyVfs::new();
    flash_bytes(&mut open(&base), &other("beside", 7), &trust(), &mut good).unwrap();
    flash_bytes(&mut open(&base), &old, &trust(), &mut good).unwrap();
    let mut cuts = 0;
    for at in 1.. {
        let mut finished = true;
        for seed in 0..5 {
            let vfs = base.fork();
            let mut store = open(&vfs);
            let before = vfs.operations();
            vfs.fail_at(before + at, Fault::PowerCut);
            let ok = flash_bytes(&mut store, &new, &trust(), &mut good).is_ok();
            finished &= vfs.operations() - before < at;
            drop(store);
            vfs.restart(seed * 100 + at);
            check(&mut open(&vfs), ok, &format!("operation {at}, seed {seed}"));
            cuts += 1;
        }
        if finished {
            break;
        }
    }
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn power_cut_at_every_file_operation_of_going_back_leaves_one_valid_model() {
    let open = |vfs: &FaultyVfs| FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    let base = FaultyVfs::new();
    flash_bytes(&mut open(&base), &other("beside", 7), &trust(), &mut good).unwrap();
    for name in ["old", "new"] {
        flash_bytes(&mut open(&base), &signed(name, 2), &trust(), &mut good).unwrap();
    }
    for at in 1.. {
        let vfs = base.fork();
        let mut store = open(&vfs);
        let before = vfs.operations();
        vfs.fail_at(before + at, Fault::PowerCut);
        let ok = roll_back(&mut store, MODEL, &trust(), &mut good).is_ok();
        let reached = vfs.operations() - before >= at;
        drop(store);
        vfs.restart(at);
        untouched(&mut open(&vfs), &format!("operation {at}"));
        let name = serving(&mut open(&vfs)).unwrap();
        assert!(name == "old" || name == "new" && !ok, "operation {at}: {name}");
        if !reached {
            break;
        }
    }
}

#[test]
fn an_error_of_the_disk_while_going_back_leaves_what_serves_and_what_is_recorded_the_same() {
    let open = |vfs: &FaultyVfs| FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    let base = FaultyVfs::new();
    flash_bytes(&mut open(&base), &other("beside", 7), &trust(), &mut good).unwrap();
    for name in ["old", "new"] {
        flash_bytes(&mut open(&base), &signed(name, 2), &trust(), &mut good).unwrap();
    }
    for lasting in [false, true] {
        for at in 1.. {
            let vfs = base.fork();
            let mut store = open(&vfs);
            let (before, kind) = (vfs.operations(), std::io::ErrorKind::StorageFull);
            let fault = if lasting { Fault::Lasting(kind) } else { Fault::Error(kind) };
            vfs.fail_at(before + at, fault);
            let mut daemon = Daemon::serving(store.state().unwrap().of(MODEL).active.as_ref());
            let back = roll_back(&mut store, MODEL, &trust(), &mut daemon);
            assert_eq!(daemon.serving, store.state().unwrap().of(MODEL).active, "operation {at}: {back:?}");
            if vfs.operations() - before < at {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_at_every_file_operation_leaves_the_old_model_or_the_new_one() {
    let (old, new) = (signed("old", 1), signed("new", 2));
    let open = |vfs: &FaultyVfs| FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    let base = FaultyVfs::new();
    flash_bytes(&mut open(&base), &other("beside", 7), &trust(), &mut good).unwrap();
    flash_bytes(&mut open(&base), &old, &trust(), &mut good).unwrap();
    let mut unsettled = 0;
    for lasting in [false, true] {
        for at in 1.. {
            let vfs = base.fork();
            let mut store = open(&vfs);
            let kind = std::io::ErrorKind::StorageFull;
            let fault = if lasting { Fault::Lasting(kind) } else { Fault::Error(kind) };
            let before = vfs.operations();
            vfs.fail_at(before + at, fault);
            let mut daemon = Daemon::serving(store.state().unwrap().of(MODEL).active.as_ref());
            let flashed = flash_bytes(&mut store, &new, &trust(), &mut daemon);
            let ok = flashed.is_ok();
            let now = store.state().unwrap().of(MODEL);
            assert_eq!(daemon.serving, now.active, "operation {at}: {flashed:?}, {:?}", daemon.told);
            assert!(daemon.before.is_none(), "operation {at}: the trial has an end");
            let settled = !matches!(flashed, Err(SlotError::Unsettled { .. }));
            unsettled += u32::from(!settled);
            assert_eq!(now.floor == 2, ok || !settled, "operation {at}: {flashed:?}");
            let reached = vfs.operations() - before >= at;
            drop(store);
            vfs.restart(at);
            check(&mut open(&vfs), ok, &format!("operation {at}, lasting {lasting}"));
            if !reached {
                assert!(ok);
                break;
            }
        }
    }
    assert!(unsettled > 0, "an error came after the rename");
}

#[test]
fn a_damaged_active_bundle_falls_back_and_a_trial_does_not_outlive_a_restart() {
    let vfs = FaultyVfs::new();
    let mut store = FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    flash_bytes(&mut store, &signed("one", 1), &trust(), &mut good).unwrap();
    let two = flash_bytes(&mut store, &signed("two", 1), &trust(), &mut good).unwrap();
    store.stage(MODEL, &two.digest).unwrap();
    let restarted = booted(&mut store, MODEL, &mut good).unwrap();
    assert_eq!(restarted.reverted.as_ref(), Some(&two.digest));
    assert!(booted(&mut store, MODEL, &mut good).unwrap().reverted.is_none());
    let path = format!("/slots/bundles/{}.locus", two.digest);
    vfs.tamper(Path::new(&path), |bytes| bytes[3000] ^= 1).unwrap();
    let fallen = booted(&mut store, MODEL, &mut good).unwrap();
    assert_eq!(label(&fallen.bundle.unwrap()), "one");
    assert!(fallen.fallback.is_some());
    let repaired = flash_bytes(&mut store, &signed("two", 1), &trust(), &mut good).unwrap();
    assert_eq!(serving(&mut store).as_deref(), Some("two"));
    assert!(repaired.previous.is_some_and(|previous| previous != two.digest));
    // Another bundle under the active one's name is not taken for it.
    let other = signed("two-b", 1);
    vfs.tamper(Path::new(&path), |bytes| *bytes = other).unwrap();
    let swapped = booted(&mut store, MODEL, &mut good).unwrap();
    assert_eq!(label(&swapped.bundle.unwrap()), "one");
    assert!(swapped.fallback.unwrap().contains(&two.digest));
}

#[test]
fn what_the_record_names_is_proved_again_where_it_does_not_serve() {
    let mut store = MemSlotStore::new();
    flash_bytes(&mut store, &signed("zero", 1), &trust(), &mut good).unwrap();
    let one = flash_bytes(&mut store, &signed("one", 1), &trust(), &mut good).unwrap();
    let mut idle = Daemon { fail_self_test: true, ..Daemon::default() };
    let error = flash_bytes(&mut store, &signed("one", 1), &trust(), &mut idle).unwrap_err();
    assert!(matches!(error, SlotError::SelfTest { .. }), "it does not say that it serves: {error}");
    idle.fail_self_test = false;
    let again = flash_bytes(&mut store, &signed("one", 1), &trust(), &mut idle).unwrap();
    assert!(!again.unchanged && again.previous == one.previous, "{again:?}");
    assert_eq!(idle.serving, Some(one.digest));
}

#[test]
fn a_model_that_does_not_start_on_this_device_falls_back_and_the_good_one_stays_to_go_back_to() {
    for damaged in [false, true] {
        let vfs = FaultyVfs::new();
        let mut store = FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
        let one = flash_bytes(&mut store, &signed("one", 1), &trust(), &mut good).unwrap();
        let two = flash_bytes(&mut store, &signed("two", 1), &trust(), &mut good).unwrap();
        if damaged {
            let path = format!("/slots/bundles/{}.locus", two.digest);
            vfs.tamper(Path::new(&path), |bytes| bytes[3000] ^= 1).unwrap();
        }
        let mut daemon = Daemon::default();
        let fallen = booted(&mut store, MODEL, &mut |bundle| match label(bundle).as_str() {
            "one" => {
                daemon.serving = Some(bundle.digest().to_owned());
                Ok(())
            }
            _ => Err("golden vector 3 is off by 0.2".into()),
        });
        let fallen = fallen.unwrap();
        assert_eq!(fallen.bundle.unwrap().digest(), one.digest);
        let reason = fallen.fallback.unwrap();
        assert_eq!(reason.contains("golden vector 3"), !damaged, "{reason}");
        assert_eq!(fallen.slots.active, Some(two.digest), "the next start tries it again");
        let three = flash_bytes(&mut store, &signed("three", 1), &trust(), &mut daemon).unwrap();
        assert_eq!(three.previous, Some(one.digest.clone()), "damaged {damaged}");
        let back = roll_back(&mut store, MODEL, &trust(), &mut daemon).unwrap();
        assert_eq!(back.digest, one.digest);
    }
}

#[test]
fn the_reason_of_a_failed_trial_is_told_even_where_its_end_cannot_be_recorded() {
    let vfs = FaultyVfs::new();
    let mut store = FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    flash_bytes(&mut store, &signed("one", 1), &trust(), &mut good).unwrap();
    struct FullDisk(FaultyVfs);
    impl Proving for FullDisk {
        fn self_test(&mut self, _: &Bundle) -> Result<(), BoxError> {
            Ok(())
        }

        fn trial(&mut self, _: &Bundle) -> Result<(), BoxError> {
            self.0.fail_at(self.0.operations() + 1, Fault::Lasting(std::io::ErrorKind::StorageFull));
            Err("no answer in 5 s".into())
        }
    }
    let error = flash_bytes(&mut store, &signed("two", 1), &trust(), &mut FullDisk(vfs.clone())).unwrap_err();
    assert!(error.to_string().contains("no answer in 5 s"), "{error}");
    assert!(store.state().unwrap().of(MODEL).trial.is_some());
    vfs.restart(1);
    assert_eq!(serving(&mut store).as_deref(), Some("one"));
}

#[test]
fn power_cut_at_every_file_operation_of_a_trial_that_fails_or_is_confirmed_later_leaves_one_valid_model() {
    let open = |vfs: &FaultyVfs| FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    struct Later;
    impl Proving for Later {
        fn self_test(&mut self, _: &Bundle) -> Result<(), BoxError> {
            Ok(())
        }

        fn confirms_at_once(&self) -> bool {
            false
        }
    }
    let base = FaultyVfs::new();
    flash_bytes(&mut open(&base), &other("beside", 7), &trust(), &mut good).unwrap();
    flash_bytes(&mut open(&base), &signed("old", 1), &trust(), &mut good).unwrap();
    for well in [true, false] {
        for at in 1.. {
            let vfs = base.fork();
            let mut store = open(&vfs);
            let before = vfs.operations();
            vfs.fail_at(before + at, Fault::PowerCut);
            let ended =
                flash_bytes(&mut store, &signed("new", 2), &trust(), &mut Later).and_then(|flashed| {
                    assert!(flashed.on_trial && flashed.floor == 1, "{flashed:?}");
                    match well {
                        true => {
                            let trial = Trial { digest: flashed.digest, previous: flashed.previous };
                            confirm(&mut store, MODEL, &trial, &trust(), &mut Later)
                                .map(|flashed| flashed.digest)
                        }
                        false => end_trial(&mut store, MODEL, &mut Later),
                    }
                });
            let reached = vfs.operations() - before >= at;
            drop(store);
            vfs.restart(at);
            check(&mut open(&vfs), well && ended.is_ok(), &format!("operation {at}, confirmed {well}"));
            if !reached {
                assert!(ended.is_ok());
                break;
            }
        }
    }
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

#[test]
fn a_bundle_with_which_the_daemon_ends_again_and_again_gives_way_to_the_previous_one() {
    let mut store = MemSlotStore::new();
    let one = flash_bytes(&mut store, &signed("one", 1), &trust(), &mut good).unwrap();
    let two = flash_bytes(&mut store, &signed("two", 1), &trust(), &mut good).unwrap();
    let lone = flash_bytes(&mut store, &other("lone", 1), &trust(), &mut good).unwrap();
    let start = |store: &mut MemSlotStore, ended: &[&str]| {
        let boots = boot(store, &trust(), &|digest| ended.contains(&digest), &mut good).unwrap();
        boots.into_iter().map(|boot| (boot.bundle.map(|b| label(&b)), boot.set_back)).collect::<Vec<_>>()
    };
    let named = |label: &str| Some(label.to_owned());
    for crashes in 1..MAX_CRASHES {
        assert_eq!(start(&mut store, &[&two.digest]), [(named("lone"), None), (named("two"), None)]);
        assert_eq!(store.state().unwrap().of(MODEL).crashes, crashes);
    }
    // An answer in between: the count begins anew.
    let slots = store.state().unwrap().of(MODEL);
    store.put(MODEL, Slots { crashes: 0, ..slots }).unwrap();
    for _ in 1..MAX_CRASHES {
        start(&mut store, &[&two.digest]);
    }
    let third = start(&mut store, &[&two.digest]);
    assert_eq!(third, [(named("lone"), None), (named("one"), Some(two.digest.clone()))]);
    let slots = store.state().unwrap().of(MODEL);
    assert_eq!(
        (slots.active, slots.previous, slots.set_back),
        (Some(one.digest), None, Some(two.digest.clone()))
    );
    // Where there is nothing to go back to, the others serve on without it.
    for _ in 0..MAX_CRASHES {
        start(&mut store, &[&lone.digest]);
    }
    assert_eq!(start(&mut store, &[]), [(named("one"), None)]);
    assert_eq!(store.state().unwrap().of("coding").set_back, Some(lone.digest));
    let again = flash_bytes(&mut store, &signed("two", 1), &trust(), &mut good).unwrap();
    assert_eq!((again.digest, store.state().unwrap().of(MODEL).set_back), (two.digest, None));
}

#[test]
fn power_cut_at_every_file_operation_of_setting_back_leaves_one_valid_model() {
    let open = |vfs: &FaultyVfs| FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots")).unwrap();
    let base = FaultyVfs::new();
    flash_bytes(&mut open(&base), &other("beside", 7), &trust(), &mut good).unwrap();
    flash_bytes(&mut open(&base), &signed("old", 1), &trust(), &mut good).unwrap();
    let new = flash_bytes(&mut open(&base), &signed("new", 1), &trust(), &mut good).unwrap();
    let slots = open(&base).state().unwrap().of(MODEL);
    open(&base).put(MODEL, Slots { crashes: MAX_CRASHES - 1, ..slots }).unwrap();
    for at in 1.. {
        let vfs = base.fork();
        let mut store = open(&vfs);
        let before = vfs.operations();
        vfs.fail_at(before + at, Fault::PowerCut);
        let ok = boot(&mut store, &trust(), &|digest| digest == new.digest, &mut good).is_ok();
        let reached = vfs.operations() - before >= at;
        drop(store);
        vfs.restart(at);
        let name = serving(&mut open(&vfs)).unwrap();
        assert!(name == "old" || name == "new" && !ok, "operation {at}: {name}");
        untouched(&mut open(&vfs), &format!("operation {at}"));
        if !reached {
            break;
        }
    }
}

/// A record as it was written when a box ran one model.
fn single(active: Option<&str>, previous: Option<&str>, trial: Option<&str>, floor: u64) -> Vec<u8> {
    let json = serde_json::json!({
        "sequence": 9, "active": active, "previous": previous, "trial": trial, "floor": floor
    });
    let mut bytes = [b"LOCUSSL1".as_slice(), &serde_json::to_vec(&json).unwrap()].concat();
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

#[test]
fn a_record_of_one_model_goes_on_under_the_name_of_its_bundle_whenever_the_power_is_cut() {
    let open = |vfs: &FaultyVfs| FileSlotStore::open(Arc::new(vfs.clone()), Path::new("/slots"));
    let base = FaultyVfs::new();
    let mut store = open(&base).unwrap();
    let one = flash_bytes(&mut store, &signed("one", 3), &trust(), &mut good).unwrap().digest;
    let two = flash_bytes(&mut store, &signed("two", 3), &trust(), &mut good).unwrap().digest;
    let lone = flash_bytes(&mut store, &other("a", 3), &trust(), &mut good).unwrap().digest;
    drop(store);
    let old = |vfs: &FaultyVfs, record: &[u8]| {
        for name in ["record.0", "record.1"] {
            vfs.tamper(&Path::new("/slots").join(name), |bytes| *bytes = record.to_vec()).unwrap();
        }
    };
    let same = single(Some(&two), Some(&one), Some(&lone), 3);
    for at in 1.. {
        let vfs = base.fork();
        old(&vfs, &same);
        let before = vfs.operations();
        vfs.fail_at(before + at, Fault::PowerCut);
        drop(open(&vfs));
        let reached = vfs.operations() - before >= at;
        vfs.restart(at);
        let mut store = open(&vfs).unwrap();
        let boot = booted(&mut store, MODEL, &mut good).unwrap();
        assert_eq!(boot.reverted, Some(lone.clone()), "operation {at}");
        assert_eq!(label(&boot.bundle.unwrap()), "two");
        let slots = store.state().unwrap();
        assert_eq!(
            (slots.models.len(), slots.of(MODEL).previous, slots.of(MODEL).floor),
            (1, Some(one.clone()), 3)
        );
        if !reached {
            break;
        }
    }
    // At that time a bundle of another name took the slot.
    let vfs = base.fork();
    old(&vfs, &single(Some(&lone), Some(&two), None, 3));
    let mut store = open(&vfs).unwrap();
    assert_eq!((serving(&mut store), serving_of(&mut store, "coding").as_deref()), (None, Some("a")));
    roll_back(&mut store, MODEL, &trust(), &mut good).unwrap();
    assert_eq!(serving(&mut store).as_deref(), Some("two"));
    assert_eq!(store.state().unwrap().of(MODEL).floor, 3);
}

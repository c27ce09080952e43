//! What serves after a start, and what gives way.

use super::*;

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

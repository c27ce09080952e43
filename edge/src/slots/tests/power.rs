//! Power cuts and full disks at every operation.

use super::*;

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

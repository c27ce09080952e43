use super::*;

fn with_file() -> (FaultyVfs, PathBuf, Box<dyn VfsFile>) {
    let vfs = FaultyVfs::new();
    vfs.create_dir_all(Path::new("/d")).unwrap();
    let path = PathBuf::from("/d/f");
    let mut file = vfs.create(&path, Access::Group).unwrap();
    file.append(b"synced").unwrap();
    file.sync().unwrap();
    vfs.sync_dir(Path::new("/d")).unwrap();
    (vfs, path, file)
}

#[test]
fn what_was_synced_survives_every_seed_and_the_rest_comes_out_differently() {
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let (vfs, path, mut file) = with_file();
        file.append(b"-unsynced").unwrap();
        vfs.restart(seed);
        let content = vfs.read(&path, 99).unwrap();
        assert!(content.starts_with(b"synced"));
        seen.insert(content);
    }
    assert!(seen.contains(b"synced".as_slice()));
    assert!(seen.contains(b"synced-unsynced".as_slice()));
    assert!(seen.len() > 6);
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let (vfs, path, mut file) = with_file();
    file.append(b"-lost").unwrap();
    vfs.fail_at(vfs.operations() + 1, Fault::Error(io::ErrorKind::StorageFull));
    assert!(file.sync().is_err());
    assert_eq!(vfs.read(&path, 99).unwrap(), b"synced-lost");
    vfs.restart(3);
    assert_eq!(vfs.read(&path, 99).unwrap(), b"synced");
}

#[test]
fn after_a_power_cut_nothing_works_until_the_restart() {
    let (vfs, path, mut file) = with_file();
    vfs.fail_at(vfs.operations() + 1, Fault::PowerCut);
    assert!(file.append(b"x").is_err());
    assert!(file.sync().is_err());
    assert!(vfs.read(&path, 99).is_err());
    vfs.restart(1);
    assert!(vfs.read(&path, 99).is_ok());
}

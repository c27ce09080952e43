use super::*;
use crate::vfs::{FaultyVfs, OsVfs};

#[test]
fn keys_come_back_from_their_files_and_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("keys/device.key");
    let made = load_or_create_device_key(&OsVfs, &device).unwrap();
    assert_eq!(load_or_create_device_key(&OsVfs, &device).unwrap().to_bytes(), made.to_bytes());
    let public = folder.path().join("keys/device.key.pub");
    assert_eq!(read_device_public(&OsVfs, &public).unwrap(), made.verifying_key());
    std::fs::remove_file(&public).unwrap();
    load_or_create_device_key(&OsVfs, &device).unwrap();
    assert_eq!(read_device_public(&OsVfs, &public).unwrap(), made.verifying_key());
    let other = folder.path().join("other/device.key");
    load_or_create_device_key(&OsVfs, &other).unwrap();
    std::fs::copy(folder.path().join("other/device.key.pub"), &public).unwrap();
    let mixed = load_or_create_device_key(&OsVfs, &device).unwrap_err();
    assert!(matches!(&mixed, KeyError::Mismatch { public: p, .. } if *p == public), "{mixed}");
    let index = folder.path().join("keys/index.key");
    let key = IndexKey::load_or_create(&OsVfs, &index).unwrap();
    let again = IndexKey::load_or_create(&OsVfs, &index).unwrap();
    assert_eq!(key.request("bed-3", "7"), again.request("bed-3", "7"));
    let identity = Identity::generate().unwrap();
    let path = folder.path().join("hospital.identity");
    let public = path.with_extension("pub");
    identity.write_pair(&OsVfs, &path, &public).unwrap();
    assert_eq!(Identity::read(&OsVfs, &path).unwrap().recipient(), identity.recipient());
    assert_eq!(Recipient::read_all(&OsVfs, &public).unwrap(), [identity.recipient()]);
    assert!(identity.write_pair(&OsVfs, &path, &public).is_err(), "a key is never overwritten");
    for private in [&device, &index, &path] {
        assert!(OsVfs.is_private(private).unwrap());
    }
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Identity::read(&OsVfs, &path), Err(KeyError::Exposed { .. })));
}

#[test]
fn a_mistyped_recipient_is_refused_at_every_digit() {
    let line = Identity::generate().unwrap().recipient().to_string();
    assert!(Recipient::parse(&format!("  {line} ")).is_ok());
    for at in RECIPIENT.len()..line.len() {
        let mut typed = line.clone().into_bytes();
        typed[at] = if typed[at] == b'0' { b'1' } else { b'0' };
        assert!(Recipient::parse(std::str::from_utf8(&typed).unwrap()).is_err());
    }
    assert!(Recipient::parse(&line[..line.len() - 1]).is_err());
    assert!(Recipient::parse("").is_err());
    assert!(Recipient::parse(&line_of(RECIPIENT, &[0; 32])).is_err(), "the key that seals to everybody");
}

#[test]
fn no_two_questions_share_a_hash_by_moving_a_boundary() {
    let key = IndexKey::generate().unwrap();
    assert_ne!(key.request("a", "bc"), key.request("ab", "c"));
    assert_ne!(key.request("a", "b"), IndexKey::generate().unwrap().request("a", "b"));
    assert_ne!(key.subject(&[0; 16], 1, "s"), key.subject(&[0; 16], 2, "s"));
    assert_ne!(key.body("a", "1", b"x"), key.body("a", "1", b"y"));
    assert_ne!(key.body("a", "1", b"x"), key.body("a", "2", b"x"), "equal questions do not show");
}

#[test]
fn a_power_cut_while_keys_are_made_leaves_a_whole_key_or_none() {
    for at in 1.. {
        let vfs = FaultyVfs::new();
        vfs.fail_at(at, crate::vfs::Fault::PowerCut);
        let path = Path::new("/keys/device.key");
        let first = load_or_create_device_key(&vfs, path);
        let finished = first.is_ok();
        vfs.restart(at);
        let second = load_or_create_device_key(&vfs, path).unwrap();
        assert_eq!(load_or_create_device_key(&vfs, path).unwrap().to_bytes(), second.to_bytes());
        let public = read_device_public(&vfs, Path::new("/keys/device.key.pub")).unwrap();
        assert_eq!(public, second.verifying_key());
        if finished {
            assert_eq!(first.unwrap().to_bytes(), second.to_bytes());
            break;
        }
    }
}

#[test]
fn nothing_secret_is_printed() {
    let identity = Identity::generate().unwrap();
    let secret = hex::encode(*identity.key);
    assert!(!format!("{identity:?}").contains(&secret[..16]));
    let index = IndexKey::generate().unwrap();
    assert_eq!(format!("{index:?}"), "IndexKey(secret)");
}

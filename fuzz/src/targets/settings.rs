//! What an operator writes: configuration, profiles, keys.

use std::path::Path;

use locus_edge::{
    config::Config,
    keys::{Identity, IndexKey, Recipient, load_or_create_device_key, read_device_public},
    transport::serial,
    vfs::{Access, write_new},
};
use locus_engine::TrustedKey;
use locus_firmware_config::profile::DeviceProfile;

use super::on_disk;
use crate::memory::Memory;

/// A configuration that is taken is printed, and taken again as the same.
pub(super) fn config(bytes: &[u8]) {
    let (Ok(text), path) = (std::str::from_utf8(bytes), Path::new("/etc/locus/locusd.toml")) else { return };
    if let Ok(config) = Config::parse(text, path) {
        let printed = toml::to_string(&config).expect("it serialises");
        let again = Config::parse(&printed, path).expect("what was printed is read");
        assert_eq!(toml::to_string(&again).expect("it serialises"), printed);
        assert!(config.named_files().len() < text.len());
    }
}

/// A profile that is taken has an engine and bounded numbers.
pub(super) fn profile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(profile) = DeviceProfile::parse("case", text) {
        assert!(!profile.engines.is_empty());
        assert!((1..=1_024).contains(&profile.max_batch));
        assert!(toml::to_string(&profile).is_ok());
    }
}

/// Keys: what is taken writes itself as it was read; no file makes two of them.
pub(super) fn keys(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(key) = TrustedKey::from_pem(text) {
            assert!(TrustedKey::from_bytes(key.as_bytes()).is_ok_and(|again| again == key));
        }
        if let Ok(recipient) = Recipient::parse(text) {
            assert_eq!(Recipient::parse(&recipient.to_string()).ok().as_ref(), Some(&recipient));
        }
    }
    let (vfs, path) = (Memory::default(), Path::new("/keys/file"));
    write_new(&vfs, path, bytes, Access::Private).expect("a file");
    if let Ok(all) = Recipient::read_all(&vfs, path) {
        assert!(!all.is_empty());
    }
    let identity = Identity::read(&vfs, path).is_ok();
    let index = IndexKey::load_or_create(&vfs, path).is_ok();
    let public = read_device_public(&vfs, path).is_ok();
    let device = load_or_create_device_key(&vfs, path);
    assert!(
        [identity, index, public, device.is_ok()].iter().filter(|is| **is).count() <= 1,
        "one file, one kind of key"
    );
    if let Ok(device) = device {
        let written =
            read_device_public(&vfs, Path::new("/keys/file.pub")).expect("its other half was written");
        assert_eq!(written, device.verifying_key());
    }
    let _ = serial::read_key(&on_disk("line.key", bytes));
}

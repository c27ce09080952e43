//! Engines that a provider built before, kept with their digests: what differs from them is built again, never used.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest, Sha256};

/// Names and SHA-256 of the other files of a folder, written when all of them are there.
const SEAL: &str = "seal.json";
/// Folders that are kept beside the one in use: those of models to go back to.
const KEPT: usize = 8;
/// Letters of a folder's name.
const NAME: usize = 32;
/// Bytes of a seal at most.
const MAX_SEAL: u64 = 1 << 20;

/// The folder of the engines of one model on one stack and device.
#[derive(Debug)]
pub(super) struct EngineCache {
    folder: PathBuf,
    hit: bool,
}

impl EngineCache {
    /// Finds or makes the folder of a key below `root`, and empties it where it is not as it was sealed: after a power
    /// cut during a build, or where something else has written to it. Folders not used for longest are removed.
    pub(super) fn open(root: &Path, key: &str) -> Result<Self, String> {
        let mut name = hex::encode(Sha256::digest(key.as_bytes()));
        name.truncate(NAME);
        let folder = root.join(&name);
        let failed = |error: io::Error| {
            format!("the engine cache {} cannot be made ready ({error})", folder.display())
        };
        let hit = is_sealed(&folder).map_err(failed)?;
        if !hit {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => fs::create_dir_all(&folder).map_err(failed)?,
            }
        }
        forget(root, &name).map_err(failed)?;
        Ok(Self { folder, hit })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether there were engines to load.
    pub(super) const fn is_hit(&self) -> bool {
        self.hit
    }

    /// Writes the digests of what the provider has left, once it computes.
    pub(super) fn seal(&self) -> Result<(), String> {
        let seal = || -> io::Result<()> {
            let digests = digests(&self.folder)?;
            if digests.is_empty() {
                return Ok(());
            }
            for name in digests.keys() {
                File::open(self.folder.join(name))?.sync_all()?;
            }
            let part = self.folder.join("seal.part");
            fs::write(&part, serde_json::to_vec(&digests)?)?;
            File::open(&part)?.sync_all()?;
            fs::rename(&part, self.folder.join(SEAL))?;
            File::open(&self.folder)?.sync_all()
        };
        seal()
            .map_err(|error| format!("the engine cache {} cannot be sealed ({error})", self.folder.display()))
    }
}

/// Whether a folder holds what its seal lists, byte for byte, and nothing else.
fn is_sealed(folder: &Path) -> io::Result<bool> {
    let seal = folder.join(SEAL);
    match fs::symlink_metadata(&seal) {
        Ok(found) if found.is_file() && found.len() <= MAX_SEAL => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let Ok(sealed) = serde_json::from_slice::<BTreeMap<String, String>>(&fs::read(seal)?) else {
        return Ok(false);
    };
    Ok(!sealed.is_empty() && digests(folder).is_ok_and(|found| found == sealed))
}

/// SHA-256 of every file of a folder but the seal's.
fn digests(folder: &Path) -> io::Result<BTreeMap<String, String>> {
    let (mut digests, mut buffer) = (BTreeMap::new(), vec![0; 1 << 16]);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == SEAL {
            continue;
        }
        if !entry.file_type()?.is_file() {
            let what = format!("{name} is no file; remove the folder");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let (mut digest, mut file) = (Sha256::new(), File::open(entry.path())?);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => digest.update(&buffer[..n]),
            }
        }
        digests.insert(name, hex::encode(digest.finalize()));
    }
    Ok(digests)
}

/// Removes the folders of other keys that were not sealed for longest, beyond those kept.
fn forget(root: &Path, name: &str) -> io::Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let of_a_key = other.len() == NAME && other.bytes().all(|b| b.is_ascii_hexdigit());
        if of_a_key && other != name && entry.file_type()?.is_dir() {
            let changed = entry.metadata()?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            others.push((changed, entry.path()));
        }
    }
    others.sort();
    let over = others.len().saturating_sub(KEPT);
    others.into_iter().take(over).try_for_each(|(_, folder)| fs::remove_dir_all(folder))
}

/// What an engine's code depends on beside the libraries that are asked themselves: processor, driver, system of a
/// Jetson, and which TensorRT lies in the profile's folders.
pub(super) fn device(library_folders: &[PathBuf]) -> String {
    let mut all = Vec::new();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut first =
        |word: &str| all.extend(cpu.lines().find(|line| line.starts_with(word)).map(str::to_owned));
    ["model name", "CPU part", "flags", "Features"].iter().for_each(|word| first(word));
    for path in ["/proc/driver/nvidia/version", "/etc/nv_tegra_release"] {
        all.extend(fs::read_to_string(path));
    }
    for folder in library_folders {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("libnvinfer.so"))
            .collect();
        names.sort();
        all.extend(names);
    }
    all.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(root: &Path, key: &str) -> PathBuf {
        let cache = EngineCache::open(root, key).unwrap();
        assert!(!cache.is_hit());
        fs::write(cache.folder().join("a.engine"), b"engine").unwrap();
        fs::write(cache.folder().join("b.timing"), b"times").unwrap();
        cache.seal().unwrap();
        cache.folder().to_owned()
    }

    #[test]
    fn engines_are_found_again_under_their_key_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = built(root.path(), "one");
        let again = EngineCache::open(root.path(), "one").unwrap();
        assert!(again.is_hit() && again.folder() == folder);
        let other = EngineCache::open(root.path(), "two").unwrap();
        assert!(!other.is_hit() && other.folder() != folder);
    }

    #[test]
    fn whatever_differs_from_its_seal_is_built_again() {
        type Change<'a> = (&'a str, &'a dyn Fn(&Path));
        let changes: [Change<'_>; 7] = [
            ("a byte", &|f| fs::write(f.join("a.engine"), b"enginf").unwrap()),
            ("a file less", &|f| fs::remove_file(f.join("b.timing")).unwrap()),
            ("a file more", &|f| fs::write(f.join("c.engine"), b"x").unwrap()),
            ("no seal, as after a power cut", &|f| fs::remove_file(f.join(SEAL)).unwrap()),
            ("half a seal", &|f| fs::write(f.join(SEAL), b"{\"a.eng").unwrap()),
            ("an empty seal", &|f| fs::write(f.join(SEAL), b"{}").unwrap()),
            ("a folder", &|f| fs::create_dir(f.join("c")).unwrap()),
        ];
        for (what, change) in changes {
            let root = tempfile::tempdir().unwrap();
            let folder = built(root.path(), "key");
            change(&folder);
            let again = EngineCache::open(root.path(), "key").unwrap();
            assert!(!again.is_hit(), "{what}");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{what}: nothing of it is left to load");
        }
    }

    #[test]
    fn the_folders_used_last_are_kept_and_strangers_are_not_touched() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("not-of-a-key")).unwrap();
        for n in 0..KEPT + 4 {
            built(root.path(), &n.to_string());
        }
        // Itself, those kept, and the stranger.
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1 + KEPT + 1);
        assert!(root.path().join("not-of-a-key").exists());
        assert!(EngineCache::open(root.path(), &(KEPT + 3).to_string()).unwrap().is_hit());
    }

    #[test]
    fn a_provider_that_leaves_nothing_seals_nothing() {
        let root = tempfile::tempdir().unwrap();
        EngineCache::open(root.path(), "key").unwrap().seal().unwrap();
        assert!(!EngineCache::open(root.path(), "key").unwrap().is_hit());
    }

    #[test]
    fn the_device_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libnvinfer.so.10.3.0"), b"").unwrap();
        let text = device(&[folder.path().to_owned(), "/nonexistent".into()]);
        assert!(text.contains("libnvinfer.so.10.3.0"), "{text}");
        assert!(text.lines().count() > 1 || !Path::new("/proc/cpuinfo").exists(), "{text}");
    }
}

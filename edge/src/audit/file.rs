//! The files of the audit trail.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{About, Entry, Stage, What};
use crate::{
    clock::Clock,
    vfs::{Access, Vfs, VfsFile},
};

const NOW: &str = "audit.jsonl";
const BEFORE: &str = "audit.before.jsonl";
/// Bytes after which a file is set aside; what was set aside before is dropped then.
const MAX_FILE: u64 = 1 << 20;
/// Longest text in an entry, in characters.
const MAX_TEXT: usize = 400;
/// Last index that an entry is read with: behind it, the next one would overflow.
const MAX_INDEX: u64 = u64::MAX / 4;
/// What a signature covers is this, then the SHA-256 of the entry.
const CONTEXT: &[u8] = b"locus-audit-v1\0";

/// Why the trail cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A file operation failed.
    #[error("audit trail: {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The last line is not one of this box.
    #[error(
        "audit trail {path}: its last line is no entry ({detail}); move the folder away, as evidence, and start again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entry: Entry,
    signature: String,
}

impl Line {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let line: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let index = line.entry.index;
        if index > MAX_INDEX {
            Err(format!("got index {index}, expected at most {MAX_INDEX}"))
        } else {
            Ok(line)
        }
    }
}

/// The trail, open for writing. Whoever has it open holds the lock of the slots.
#[derive(Debug)]
pub struct Audit {
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    key: SigningKey,
    file: Option<Box<dyn VfsFile>>,
    bytes: u64,
    /// Whether half a line may lie behind those bytes.
    torn: bool,
    next: u64,
    previous: String,
    /// Time of the last entry.
    known_ms: u64,
    /// For whom what follows is done.
    by: Option<String>,
}

fn io_at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::Io { operation, path, source }
}

fn message(entry: &Entry) -> Vec<u8> {
    let json = serde_json::to_vec(entry).expect("texts and whole numbers serialise");
    [CONTEXT, &Sha256::digest(json)].concat()
}

fn read(vfs: &dyn Vfs, path: &Path) -> Result<Option<Vec<u8>>, AuditError> {
    match vfs.read(path, 2 * MAX_FILE) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_at("read", path)(error)),
    }
}

impl Audit {
    /// Opens the trail of a box: cuts off a line that was half written, and closes an attempt that was cut.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        key: SigningKey,
    ) -> Result<Self, AuditError> {
        vfs.create_dir_all(dir).map_err(io_at("create", dir))?;
        let mut audit = Self {
            vfs,
            clock,
            dir: dir.to_owned(),
            key,
            file: None,
            bytes: 0,
            torn: false,
            next: 0,
            previous: "0".repeat(64),
            known_ms: 0,
            by: None,
        };
        let path = dir.join(NOW);
        let now = read(&*audit.vfs, &path)?;
        let torn = match &now {
            None => 0,
            Some(bytes) => {
                let mut whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                // Blocks of a line may have reached the disk without the others: its end, and not its middle.
                if let Some(line) = last_line(&bytes[..whole]).filter(|line| !audit.wrote(line)) {
                    whole -= line.len() + 1;
                }
                audit.bytes = whole as u64;
                bytes.len() - whole
            }
        };
        let mut file = match now {
            None => None,
            Some(_) => Some(audit.vfs.open(&path).map_err(io_at("open", &path))?),
        };
        if let Some(file) = file.as_mut().filter(|_| torn > 0) {
            file.truncate(audit.bytes).and_then(|()| file.sync()).map_err(io_at("cut", &path))?;
        }
        audit.file = file;
        let kept = now.as_deref().unwrap_or_default();
        let mut last = last_line(&kept[..audit.bytes as usize]);
        let before_path = dir.join(BEFORE);
        let before = if last.is_none() { read(&*audit.vfs, &before_path)? } else { None };
        last = last.or_else(|| last_line(before.as_deref().unwrap_or_default()));
        let mut open = None;
        if let Some(line) = last {
            let damaged = |detail| AuditError::Damaged { path, detail };
            let entry = Line::read(line).map_err(damaged)?.entry;
            audit.next = entry.index + 1;
            audit.previous = hex::encode(Sha256::digest(line));
            audit.known_ms = entry.unix_ms;
            open = (entry.stage == Stage::Begun).then_some(entry);
        }
        if torn > 0 {
            let reason = format!("{torn} bytes of a line that was half written are cut off");
            audit.note(What::Recovery, Stage::Noted, About { reason: Some(reason), ..About::default() })?;
        }
        if let Some(Entry { what, subject, digest, by, .. }) = open {
            let reason =
                Some("the process ended before the attempt did; the slots say what counts".to_owned());
            audit.on_behalf(by);
            audit.note(what, Stage::Cut, About { subject, digest, reason })?;
            audit.on_behalf(None);
        }
        Ok(audit)
    }

    /// Whether a line is one of this box.
    fn wrote(&self, line: &[u8]) -> bool {
        serde_json::from_slice(line).is_ok_and(|line| signed(&line, &self.key.verifying_key()))
    }

    /// Says for whom what follows is done; nobody with a name where it is ordered on the box itself.
    pub fn on_behalf(&mut self, by: Option<String>) {
        self.by = by;
    }

    /// Adds an entry, durable on return.
    ///
    /// # Errors
    /// [`AuditError`]: then nothing may be done that is not written down.
    pub fn note(&mut self, what: What, stage: Stage, about: About) -> Result<(), AuditError> {
        let short = |text: Option<String>| text.map(|text| text.chars().take(MAX_TEXT).collect::<String>());
        let unix_ms = self.clock.unix_ms();
        let entry = Entry {
            index: self.next,
            unix_ms,
            what,
            stage,
            subject: short(about.subject),
            digest: short(about.digest),
            reason: short(about.reason),
            by: self.by.clone(),
            previous: self.previous.clone(),
        };
        let signature = hex::encode(self.key.sign(&message(&entry)).to_bytes());
        let mut line =
            serde_json::to_vec(&Line { entry, signature }).expect("texts and whole numbers serialise");
        let digest = hex::encode(Sha256::digest(&line));
        line.push(b'\n');
        self.append(&line)?;
        self.next += 1;
        self.previous = digest;
        self.known_ms = unix_ms;
        Ok(())
    }

    /// Time of the last entry, in milliseconds since 1970.
    pub const fn known_ms(&self) -> u64 {
        self.known_ms
    }

    fn append(&mut self, line: &[u8]) -> Result<(), AuditError> {
        let path = self.dir.join(NOW);
        if self.bytes > 0 && self.bytes + line.len() as u64 > MAX_FILE {
            self.file = None;
            let before = self.dir.join(BEFORE);
            self.vfs.rename(&path, &before).map_err(io_at("set aside", &path))?;
            self.vfs.sync_dir(&self.dir).map_err(io_at("sync", &self.dir))?;
            self.bytes = 0;
        }
        let new = self.file.is_none();
        let mut file = match self.file.take() {
            Some(file) => file,
            None => match self.vfs.create(&path, Access::Group) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.vfs.open(&path).map_err(io_at("open", &path))?
                }
                created => created.map_err(io_at("create", &path))?,
            },
        };
        let mut written = if self.torn { file.truncate(self.bytes) } else { Ok(()) };
        written = written.and_then(|()| file.append(line)).and_then(|()| file.sync());
        if new {
            written = written.and_then(|()| self.vfs.sync_dir(&self.dir));
        }
        if let Err(error) = written {
            // What was written of it is taken back, so that the next entry does not follow half a line.
            self.torn = file.truncate(self.bytes).and_then(|()| file.sync()).is_err();
            self.file = Some(file);
            return Err(io_at("write", &path)(error));
        }
        self.torn = false;
        self.bytes += line.len() as u64;
        self.file = Some(file);
        Ok(())
    }
}

fn signed(line: &Line, device: &VerifyingKey) -> bool {
    let mut raw = [0; 64];
    hex::decode_to_slice(&line.signature, &mut raw).is_ok()
        && device.verify_strict(&message(&line.entry), &Signature::from_bytes(&raw)).is_ok()
}

fn last_line(bytes: &[u8]) -> Option<&[u8]> {
    let whole = &bytes[..bytes.iter().rposition(|byte| *byte == b'\n')?];
    Some(whole.rsplit(|byte| *byte == b'\n').next().unwrap_or(whole))
}

/// The whole trail, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Every entry that is kept.
    pub entries: Vec<Entry>,
    /// What was changed, taken out or put in; empty where all is well.
    pub findings: Vec<String>,
}

/// Reads the trail and checks chain and signatures. That its end was not cut off, nothing here can say.
///
/// # Errors
/// A file that cannot be read.
pub fn verify(vfs: &dyn Vfs, dir: &Path, device: &VerifyingKey) -> Result<Verified, AuditError> {
    let mut verified = Verified::default();
    let mut expected: Option<(u64, String)> = None;
    for name in [BEFORE, NOW] {
        let Some(bytes) = read(vfs, &dir.join(name))? else { continue };
        for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let at = |what: &str| format!("{name}, line {}: {what}", n + 1);
            let Ok(read) = Line::read(line) else {
                verified.findings.push(at("no entry"));
                continue;
            };
            if !signed(&read, device) {
                verified.findings.push(at("its signature is not this box's"));
            }
            let entry = read.entry;
            let first = (entry.index == 0).then(|| (0, "0".repeat(64)));
            let (index, previous) =
                expected.or(first).unwrap_or_else(|| (entry.index, entry.previous.clone()));
            if entry.index != index || entry.previous != previous {
                verified.findings.push(at(&format!(
                    "entry {} does not follow, expected entry {index} of the chain",
                    entry.index
                )));
            }
            expected = Some((entry.index + 1, hex::encode(Sha256::digest(line))));
            verified.entries.push(entry);
        }
    }
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        vfs::{Fault, FaultyVfs},
    };

    const DIR: &str = "/audit";

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[4; 32])
    }

    fn open(vfs: &FaultyVfs) -> Audit {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        Audit::open(Arc::new(vfs.clone()), clock, Path::new(DIR), key()).unwrap()
    }

    fn check(vfs: &FaultyVfs) -> Verified {
        verify(vfs, Path::new(DIR), &key().verifying_key()).unwrap()
    }

    fn about(subject: &str) -> About {
        About { subject: Some(subject.to_owned()), ..About::default() }
    }

    #[test]
    fn what_was_begun_and_not_ended_is_seen() {
        let vfs = FaultyVfs::new();
        let mut audit = open(&vfs);
        audit.note(What::Flash, Stage::Begun, about("a")).unwrap();
        audit.note(What::Flash, Stage::Done, about("a")).unwrap();
        audit.on_behalf(Some("anna".to_owned()));
        audit.note(What::Trust, Stage::Begun, about("b")).unwrap();
        drop(audit);
        drop(open(&vfs));
        drop(open(&vfs));
        let Verified { entries, findings } = check(&vfs);
        assert!(findings.is_empty(), "{findings:?}");
        let stages: Vec<_> = entries.iter().map(|entry| (entry.what, entry.stage)).collect();
        assert_eq!(stages[2..], [(What::Trust, Stage::Begun), (What::Trust, Stage::Cut)]);
        assert_eq!(entries[3].subject.as_deref(), Some("b"));
        let by: Vec<_> = entries.iter().map(|entry| entry.by.as_deref()).collect();
        assert_eq!(by, [None, None, Some("anna"), Some("anna")]);
    }

    #[test]
    fn a_trail_that_was_changed_cut_or_reordered_is_found_out() {
        let vfs = FaultyVfs::new();
        let mut audit = open(&vfs);
        for n in 0..5 {
            audit.note(What::Flash, Stage::Refused, about(&format!("file {n}"))).unwrap();
        }
        assert!(check(&vfs).findings.is_empty());
        let path = Path::new("/audit/audit.jsonl");
        let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
            bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
        };
        type Change = fn(&mut Vec<Vec<u8>>);
        let changes: [Change; 4] = [
            |lines| drop(lines.remove(2)),
            |lines| lines.swap(1, 2),
            |lines| lines.insert(3, lines[3].clone()),
            |lines| {
                lines[4] =
                    String::from_utf8(lines[4].clone()).unwrap().replace("file 4", "file 5").into_bytes()
            },
        ];
        for change in changes {
            let other = vfs.fork();
            other
                .tamper(path, |bytes| {
                    let mut all = lines(bytes);
                    change(&mut all);
                    *bytes = all.concat();
                })
                .unwrap();
            assert!(!check(&other).findings.is_empty());
        }
    }

    #[test]
    fn an_index_behind_which_none_can_follow_is_damage() {
        let vfs = FaultyVfs::new();
        open(&vfs).note(What::Flash, Stage::Done, about("a")).unwrap();
        let path = Path::new("/audit/audit.jsonl");
        let last = |bytes: &mut Vec<u8>| {
            let mut line: Line = serde_json::from_slice(bytes).unwrap();
            line.entry.index = u64::MAX;
            line.signature = hex::encode(key().sign(&message(&line.entry)).to_bytes());
            *bytes = [serde_json::to_vec(&line).unwrap(), b"\n".to_vec()].concat();
        };
        vfs.tamper(path, last).unwrap();
        assert_eq!(check(&vfs).findings, ["audit.jsonl, line 1: no entry"]);
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let error = Audit::open(Arc::new(vfs), clock, Path::new(DIR), key()).unwrap_err();
        assert!(matches!(error, AuditError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_trail_is_bounded_and_goes_on_over_its_files() {
        let vfs = FaultyVfs::new();
        let mut audit = open(&vfs);
        let long = "x".repeat(5_000);
        for _ in 0..6_000 {
            audit.note(What::Flash, Stage::Refused, about(&long)).unwrap();
        }
        let size: usize = vfs.files().iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(size as u64 <= 2 * MAX_FILE, "{size}");
        let Verified { entries, findings } = check(&vfs);
        assert!(findings.is_empty(), "{findings:?}");
        assert!(entries[0].index > 0 && entries.last().unwrap().index == 5_999);
        drop(audit);
        open(&vfs).note(What::Flash, Stage::Begun, about("next")).unwrap();
        assert_eq!(check(&vfs).entries.last().unwrap().index, 6_000);
    }

    #[test]
    fn power_cut_and_full_disk_at_every_operation_leave_a_chain_that_goes_on() {
        let base = FaultyVfs::new();
        open(&base).note(What::Flash, Stage::Refused, about("first")).unwrap();
        for fault in [Fault::PowerCut, Fault::Error(io::ErrorKind::StorageFull)] {
            for at in 1.. {
                let vfs = base.fork();
                let mut audit = open(&vfs);
                let before = vfs.operations();
                vfs.fail_at(before + at, fault);
                let noted = [Stage::Begun, Stage::Done]
                    .map(|stage| audit.note(What::Flash, stage, about("second")).is_ok());
                let reached = vfs.operations() - before >= at;
                if !reached {
                    assert_eq!(noted, [true, true]);
                    break;
                }
                if fault == Fault::PowerCut {
                    drop(audit);
                    vfs.restart(at);
                    audit = open(&vfs);
                }
                audit.note(What::Flash, Stage::Done, about("third")).unwrap();
                let Verified { entries, findings } = check(&vfs);
                assert!(findings.is_empty(), "operation {at}: {findings:?}");
                let kept = entries.iter().filter(|entry| entry.subject.as_deref() == Some("second")).count();
                assert!(kept >= noted.iter().filter(|ok| **ok).count(), "operation {at}: {entries:?}");
                assert_eq!(entries.last().unwrap().subject.as_deref(), Some("third"));
            }
        }
    }
}

//! What is done with finished segments, beside the thread that writes: erasing, copying elsewhere, freeing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::{
    JournalError,
    erase::{Erased, Eraser},
    format::{Header, JournalId, MAX_HEADER, MAX_SEGMENT, file_name},
    places::{Note, Places, Why},
    scan::{Depth, Walk},
    segment::io_at,
    subjects::{self, MAX_TABLE},
};
use crate::{
    clock::ClockWatch,
    keys::IndexKey,
    vfs::{Access, Vfs, write_atomic},
};

const DAY_MS: u64 = 86_400_000;

/// How much of what is finished stays on the box.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Days after which a finished segment may go.
    pub days: Option<u32>,
    /// Bytes above which the oldest may go.
    pub bytes: Option<u64>,
    /// Whether one may go of which no copy was verified.
    pub without_copy: bool,
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freed {
    /// Segments.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What came of an offload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offloaded {
    /// Segments that lie in the folder, verified.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes that were copied now.
    pub copied_bytes: u64,
    /// What was freed on the box.
    pub freed: Freed,
}

/// The box's hand on its finished segments.
#[derive(Debug)]
pub struct Upkeep {
    vfs: Arc<dyn Vfs>,
    clock: ClockWatch,
    dir: PathBuf,
    device_key: SigningKey,
    index_key: IndexKey,
    /// One at a time: what is erased must not be copied at the same moment.
    busy: Mutex<()>,
}

/// The right to change finished segments.
#[derive(Debug)]
pub struct Hold<'a> {
    upkeep: &'a Upkeep,
    _busy: MutexGuard<'a, ()>,
}

impl Upkeep {
    /// Of the journal in a folder.
    pub fn new(
        vfs: Arc<dyn Vfs>,
        clock: ClockWatch,
        dir: &Path,
        device_key: SigningKey,
        index_key: IndexKey,
    ) -> Self {
        Self { vfs, clock, dir: dir.to_owned(), device_key, index_key, busy: Mutex::new(()) }
    }

    /// Waits until nobody else changes finished segments.
    pub fn hold(&self) -> Hold<'_> {
        Hold { upkeep: self, _busy: self.busy.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn device(&self) -> VerifyingKey {
        self.device_key.verifying_key()
    }

    fn places(&self, dir: &Path) -> Result<Places, JournalError> {
        let places = Places::look(&*self.vfs, dir, &[], &self.device())?;
        if places.findings.is_empty() {
            return Ok(places);
        }
        Err(JournalError::Damaged { dir: dir.to_owned(), findings: places.findings })
    }

    fn header(&self, folder: &Path, number: u64) -> Result<Header, JournalError> {
        let path = folder.join(file_name(number));
        let start = self.vfs.read_start(&path, MAX_HEADER).map_err(io_at("read", &path))?;
        Header::peek(&start).ok_or_else(|| JournalError::Damaged {
            dir: folder.to_owned(),
            findings: vec![format!("segment {number}: it does not start as a segment")],
        })
    }

    fn journal_of(&self, places: &Places) -> Result<JournalId, JournalError> {
        let empty = || JournalError::Empty { dir: self.dir.clone() };
        let (number, folder) = places.segments.last().ok_or_else(empty)?;
        self.header(folder, *number)?.journal_id().ok_or_else(empty)
    }

    fn note(&self, journal: &JournalId) -> Result<Note, JournalError> {
        let note = Note::read(&*self.vfs, &self.dir, &self.device())?.and_then(Result::ok);
        Ok(note.unwrap_or_else(|| Note::new(journal)))
    }

    /// Last segment of which a copy was verified, and what was freed: (segments, records).
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn known(&self) -> Result<(u64, u64, u64), JournalError> {
        let note = Note::read(&*self.vfs, &self.dir, &self.device())?.and_then(Result::ok);
        Ok(note.map_or((0, 0, 0), |note| {
            (note.copied_to, note.last(), note.freed.iter().map(|span| span.records).sum())
        }))
    }
}

impl Hold<'_> {
    /// Erases a subject in the finished segments of the journal, or of a copy of it: in all before `open`.
    ///
    /// # Errors
    /// [`JournalError`]; done again, it goes on.
    pub fn erase(
        &self,
        copy: Option<&Path>,
        open: Option<u64>,
        subject: &str,
    ) -> Result<Erased, JournalError> {
        let upkeep = self.upkeep;
        let places = upkeep.places(copy.unwrap_or(&upkeep.dir))?;
        let eraser = Eraser {
            vfs: &*upkeep.vfs,
            journal: upkeep.journal_of(&places)?,
            device_key: &upkeep.device_key,
            index_key: &upkeep.index_key,
            unix_ms: upkeep.clock.now().unix_ms,
        };
        let mut erased = Erased::default();
        for (number, folder) in &places.segments {
            if open.is_none_or(|open| *number < open) {
                erased = erased.and(eraser.erase(folder, *number, subject)?);
            }
        }
        Ok(erased)
    }

    /// Copies finished segments to a folder, proves the copy, and then frees what need not stay. `open` is the segment
    /// that is being written; without one the last is copied too, if it was closed.
    ///
    /// # Errors
    /// [`JournalError`]; nothing is freed then.
    pub fn offload(
        &self,
        to: &Path,
        open: Option<u64>,
        keep: Option<&Keep>,
    ) -> Result<Offloaded, JournalError> {
        let upkeep = self.upkeep;
        let places = upkeep.places(&upkeep.dir)?;
        let journal = upkeep.journal_of(&places)?;
        let last = places.segments.last().map_or(0, |(number, _)| *number);
        let open = open.unwrap_or(u64::MAX);
        let finished: Vec<u64> =
            places.segments.iter().map(|(number, _)| *number).filter(|number| *number < open).collect();
        upkeep.vfs.create_dir_all(to).map_err(io_at("create", to))?;
        let there = upkeep.places(to)?;
        if !there.segments.is_empty() && upkeep.journal_of(&there)? != journal {
            return Err(JournalError::OtherJournal { dir: to.to_owned() });
        }
        let mut note = upkeep.note(&journal)?;
        if there.segments.is_empty() && places.freed() > 0 {
            // Whoever verifies this copy alone is told what is not in it.
            note.write(&*upkeep.vfs, to, &upkeep.device_key)?;
        }
        let mut offloaded = Offloaded::default();
        let (mut here, mut copy) = (
            Walk::after(places.note.as_ref(), &upkeep.device(), Depth::Every),
            Walk::after(places.note.as_ref(), &upkeep.device(), Depth::Every),
        );
        let mut copied_to = note.copied_to;
        for number in finished {
            let path = upkeep.dir.join(file_name(number));
            let bytes = upkeep.vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
            let segment = here.step(number, &bytes);
            let whole = segment.as_ref().is_some_and(|segment| segment.end.tail.bytes == 0);
            if !here.findings.is_empty() {
                let findings = here.findings.iter().map(ToString::to_string).collect();
                return Err(JournalError::Damaged { dir: upkeep.dir.clone(), findings });
            }
            // What is behind the last commit of the last segment is settled by the next start.
            let Some(segment) = segment.filter(|_| whole) else { break };
            offloaded.copied_bytes += self.copy(&file_name(number), &bytes, to)?;
            let table = upkeep.dir.join(subjects::file_name(number));
            if upkeep.vfs.exists(&table).map_err(io_at("look at", &table))? {
                let bytes = upkeep.vfs.read(&table, MAX_TABLE).map_err(io_at("read", &table))?;
                offloaded.copied_bytes += self.copy(&subjects::file_name(number), &bytes, to)?;
            }
            let path = to.join(file_name(number));
            let written = upkeep.vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
            let proved = copy.step(number, &written).map(|segment| segment.end.root);
            if proved != Some(segment.end.root) || !copy.findings.is_empty() {
                return Err(JournalError::CopyDiffers { path });
            }
            offloaded.segments += 1;
            offloaded.records += segment.records.len() as u64;
            copied_to = copied_to.max(number);
        }
        upkeep.vfs.sync_dir(to).map_err(io_at("sync", to))?;
        if copied_to > note.copied_to {
            note.copied_to = copied_to;
            note.write(&*upkeep.vfs, &upkeep.dir, &upkeep.device_key)?;
        }
        if let Some(keep) = keep {
            offloaded.freed = self.retain(keep, open.min(last), true)?;
        }
        Ok(offloaded)
    }

    /// Writes a file of the copy and reads it again from the disk; how many bytes were written.
    fn copy(&self, name: &str, bytes: &[u8], to: &Path) -> Result<u64, JournalError> {
        let (vfs, path) = (&*self.upkeep.vfs, to.join(name));
        if vfs.exists(&path).map_err(io_at("look at", &path))? {
            vfs.forget(&path).map_err(io_at("look at", &path))?;
            if vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))? == bytes {
                return Ok(0);
            }
        }
        write_atomic(vfs, &path, bytes, Access::Group).map_err(io_at("write", &path))?;
        // Not what the system remembers of it.
        vfs.forget(&path).map_err(io_at("look at", &path))?;
        if vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))? != bytes {
            return Err(JournalError::CopyDiffers { path });
        }
        Ok(bytes.len() as u64)
    }

    /// Frees the oldest finished segments that need not stay. `open` is never freed, nor is what comes after it. With
    /// `all`, where neither days nor bytes are set, everything goes of which a copy was verified.
    ///
    /// # Errors
    /// [`JournalError`]; a segment is either there or noted.
    pub fn retain(&self, keep: &Keep, open: u64, all: bool) -> Result<Freed, JournalError> {
        let upkeep = self.upkeep;
        let places = upkeep.places(&upkeep.dir)?;
        let journal = upkeep.journal_of(&places)?;
        let mut note = upkeep.note(&journal)?;
        let due = self.due(keep, &places, note.copied_to, open, all)?;
        let mut walk = Walk::after(places.note.as_ref(), &upkeep.device(), Depth::Last);
        let (mut freed, mut files) = (Freed::default(), Vec::new());
        for (number, folder) in places.segments.iter().take(due) {
            let path = folder.join(file_name(*number));
            let bytes = upkeep.vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
            let segment = walk.step(*number, &bytes);
            // Damage stays where it is, as evidence, and what follows it too.
            let Some(segment) = segment.filter(|s| walk.findings.is_empty() && s.end.tail.bytes == 0) else {
                break;
            };
            let why = if *number <= note.copied_to { Why::Copied } else { Why::Policy };
            note.free(segment.header.first_index, &segment.end, why, upkeep.clock.now().unix_ms);
            freed.segments += 1;
            freed.records += segment.records.len() as u64;
            freed.bytes += bytes.len() as u64;
            files.push(folder.join(subjects::file_name(*number)));
            files.push(path);
        }
        if freed.segments == 0 {
            return Ok(freed);
        }
        note.write(&*upkeep.vfs, &upkeep.dir, &upkeep.device_key)?;
        for path in files {
            if upkeep.vfs.exists(&path).map_err(io_at("look at", &path))? {
                upkeep.vfs.remove(&path).map_err(io_at("remove", &path))?;
            }
        }
        upkeep.vfs.sync_dir(&upkeep.dir).map_err(io_at("sync", &upkeep.dir))?;
        Ok(freed)
    }

    /// How many of the segments, from the oldest on, may go.
    fn due(
        &self,
        keep: &Keep,
        places: &Places,
        copied_to: u64,
        open: u64,
        all: bool,
    ) -> Result<usize, JournalError> {
        let upkeep = self.upkeep;
        let mut sizes = Vec::with_capacity(places.segments.len());
        for (number, folder) in &places.segments {
            let path = folder.join(file_name(*number));
            sizes.push(upkeep.vfs.len(&path).map_err(io_at("look at", &path))?);
        }
        let mut left: u64 = sizes.iter().sum();
        let now = upkeep.clock.now();
        let mut due = 0;
        for (pair, size) in places.segments.windows(2).zip(sizes) {
            let [(number, _), (next, folder)] = pair else { break };
            if *number >= open || (*number > copied_to && !keep.without_copy) {
                break;
            }
            let too_many = keep.bytes.is_some_and(|bytes| left > bytes);
            let too_old = match keep.days {
                // A wrong clock must not free anything.
                Some(days) if now.trusted => {
                    let header = upkeep.header(folder, *next)?;
                    let age = now.unix_ms.saturating_sub(header.unix_ms);
                    header.clock_trusted && age > u64::from(days) * DAY_MS
                }
                _ => false,
            };
            let everything = all && keep.days.is_none() && keep.bytes.is_none() && *number <= copied_to;
            if !(too_many || too_old || everything) {
                break;
            }
            left -= size;
            due += 1;
        }
        Ok(due)
    }
}

/// What lies in the folder of a journal that is nowhere else.
#[derive(Debug, Clone, Default)]
pub struct OnDisk {
    /// Segments with records of which no copy was verified.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Last segment of which a copy was verified.
    pub copied_to: u64,
    /// Ids of all to whom the segments here are sealed.
    pub recipients: Vec<String>,
}

/// Looks at what would be lost with a folder; needs no private key.
///
/// # Errors
/// Files that cannot be read.
pub fn on_disk(vfs: &dyn Vfs, dir: &Path, device: &VerifyingKey) -> Result<OnDisk, JournalError> {
    if !vfs.exists(dir).map_err(io_at("look at", dir))? {
        return Ok(OnDisk::default());
    }
    let places = Places::look(vfs, dir, &[], device)?;
    let copied_to = Note::read(vfs, dir, device)?.and_then(Result::ok).map_or(0, |note| note.copied_to);
    let mut found = OnDisk { copied_to, ..OnDisk::default() };
    for (number, folder) in &places.segments {
        let path = folder.join(file_name(*number));
        let bytes = vfs.read(&path, MAX_SEGMENT).map_err(io_at("read", &path))?;
        let Some(header) = Header::peek(&bytes) else { continue };
        found.recipients.extend(header.recipients.into_iter().map(|sealed| sealed.recipient));
        let mut walk = Walk::behind(number - 1, device, Depth::Last);
        let records = walk.step(*number, &bytes).map_or(0, |segment| segment.records.len() as u64);
        if *number > copied_to && records > 0 {
            found.segments += 1;
            found.records += records;
        }
    }
    Ok(found)
}

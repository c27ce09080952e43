//! The segment that is being written: the only one whose key exists on the box, and only in memory.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    Entry, JournalConfig, JournalError, RequestHash,
    format::{
        COMMIT, Checkpoint, Commit, FORMAT, FRAME, HEADER, Hash, Head, Header, JournalId, Previous, RECORD,
        RECORD_OVERHEAD, associated_data, file_name, leaf_of, put_frame, root_of_header, root_of_leaf,
    },
    merkle::Tree,
    seal::{Purpose, Secret, encrypt_to, new_key, new_keys, seal, wrap},
    subjects,
};
use crate::{
    clock::Now,
    vfs::{Access, VfsFile, write_atomic},
};

/// Where the chain stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) next_index: u64,
    pub(super) root: Hash,
}

#[derive(Debug)]
struct SubjectKey {
    slot: u32,
    key: Secret,
    hash: Hash,
}

/// An open segment. Its keys are overwritten when it is dropped.
pub(super) struct OpenSegment {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) first_index: u64,
    pub(super) opened_ms: u64,
    pub(super) checkpoint: Checkpoint,
    journal: JournalId,
    dir: PathBuf,
    key: Secret,
    file: Box<dyn VfsFile>,
    commits: u64,
    tree: Tree,
    subjects: HashMap<Hash, SubjectKey>,
    slots: u32,
    table: Option<Box<dyn VfsFile>>,
}

impl std::fmt::Debug for OpenSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSegment").field("number", &self.number).finish_non_exhaustive()
    }
}

pub(super) fn io_at(
    operation: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.into();
    move |source| JournalError::Io { operation, path, source }
}

impl OpenSegment {
    /// Makes a key, seals it to every recipient, and puts the header on the disk: durable before any record.
    pub(super) fn start(
        config: &JournalConfig,
        dir: &Path,
        journal: JournalId,
        number: u64,
        position: &mut Position,
        previous: Option<Previous>,
        now: Now,
    ) -> Result<Self, JournalError> {
        let key = new_key()?;
        let recipients = config
            .recipients
            .iter()
            .map(|recipient| seal(recipient, &journal, number, &key))
            .collect::<Result<Vec<_>, _>>()?;
        let header = Header {
            format: FORMAT,
            journal: hex::encode(journal),
            segment: number,
            first_index: position.next_index,
            unix_ms: now.unix_ms,
            clock_trusted: now.trusted,
            previous,
            recipients,
        };
        let payload = header.encode(&config.device_key);
        let mut frame = Vec::new();
        put_frame(&mut frame, HEADER, &[&payload]);
        let path = dir.join(file_name(number));
        write_atomic(&*config.vfs, &path, &frame, Access::Group).map_err(io_at("start segment", &path))?;
        let file = config.vfs.open(&path).map_err(io_at("open", &path))?;
        position.root = root_of_header(&position.root, &payload);
        let tree = Tree::default();
        let commit = Commit {
            commit: 0,
            first: position.next_index,
            records: position.next_index,
            root: position.root,
            tree: tree.head(),
            unix_ms: header.unix_ms,
            closed: false,
        };
        Ok(Self {
            number,
            bytes: frame.len() as u64,
            first_index: position.next_index,
            opened_ms: config.clock.monotonic_ms(),
            checkpoint: commit.sign(&journal, number, &config.device_key).1,
            journal,
            dir: dir.to_owned(),
            key,
            file,
            commits: 0,
            tree,
            subjects: HashMap::new(),
            slots: 0,
            table: None,
        })
    }

    /// Appends a batch and its commit: one write, one `fdatasync`, and another where a subject is new. Gives the
    /// leaf and the root of each record.
    pub(super) fn append(
        &mut self,
        config: &JournalConfig,
        entries: &[Entry],
        position: &mut Position,
        now: Now,
    ) -> Result<Vec<(Hash, Hash)>, JournalError> {
        let tags = self.subjects_of(config, entries)?;
        let keys = new_keys(entries.len())?;
        // All of it at once: a reallocation would leave plaintext behind, and cost a copy.
        let room: usize = entries.iter().map(|entry| entry.plaintext.len() + RECORD_OVERHEAD).sum();
        let mut buffer = Vec::with_capacity(room + RECORD_OVERHEAD);
        let mut hashes = Vec::with_capacity(entries.len());
        for ((entry, tag), data_key) in entries.iter().zip(tags).zip(&keys) {
            let subject = tag.and_then(|tag| self.subjects.get(&tag));
            let head = Head {
                index: position.next_index,
                unix_ms: now.unix_ms,
                request: entry.request.as_ref().map(RequestHash::kept),
                bundle: entry.bundle,
                repeat_of: entry.repeat_of,
                slot: subject.map(|subject| (subject.slot, subject.hash)),
                terminal: entry.terminal,
                clock_trusted: now.trusted,
            };
            let head_bytes = head.encode();
            let aad = associated_data(&self.journal, self.number, &position.root, &head_bytes);
            let outer = subject.map_or(&self.key, |subject| &subject.key);
            let wrapped = wrap(outer, Purpose::DataKey, head.index, data_key, &aad)?;
            let start = buffer.len();
            put_frame(&mut buffer, RECORD, &[&head_bytes, &wrapped]);
            encrypt_to(&mut buffer, data_key, Purpose::Record, head.index, &entry.plaintext, &aad)?;
            let len = (buffer.len() - start - FRAME) as u32;
            buffer[start + 1..start + FRAME].copy_from_slice(&len.to_le_bytes());
            let leaf = leaf_of(&buffer[start + FRAME..]);
            position.root = root_of_leaf(&position.root, &leaf);
            position.next_index += 1;
            self.tree.push(leaf);
            hashes.push((leaf, position.root));
        }
        self.commit(config, buffer, *position, now.unix_ms, false)?;
        Ok(hashes)
    }

    /// Ends the segment.
    pub(super) fn close(
        mut self,
        config: &JournalConfig,
        position: Position,
        unix_ms: u64,
    ) -> Result<Previous, JournalError> {
        self.commit(config, Vec::new(), position, unix_ms, true)?;
        Ok(Previous {
            root: hex::encode(position.root),
            bytes: self.bytes,
            closed: true,
            torn_bytes: 0,
            torn_records: 0,
            damage: Vec::new(),
        })
    }

    fn commit(
        &mut self,
        config: &JournalConfig,
        mut buffer: Vec<u8>,
        position: Position,
        unix_ms: u64,
        closed: bool,
    ) -> Result<(), JournalError> {
        let commit = Commit {
            commit: self.commits + 1,
            first: self.first_index,
            records: position.next_index,
            root: position.root,
            tree: self.tree.head(),
            unix_ms,
            closed,
        };
        let (payload, checkpoint) = commit.sign(&self.journal, self.number, &config.device_key);
        put_frame(&mut buffer, COMMIT, &[&payload]);
        let path = self.dir.join(file_name(self.number));
        self.file.append(&buffer).map_err(io_at("append to", &path))?;
        self.file.sync().map_err(io_at("sync", &path))?;
        self.bytes += buffer.len() as u64;
        self.commits = commit.commit;
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// The tag of each entry's subject; subjects that are new get a key, durable before any record uses it.
    fn subjects_of(
        &mut self,
        config: &JournalConfig,
        entries: &[Entry],
    ) -> Result<Vec<Option<Hash>>, JournalError> {
        let tag = |subject: &String| config.index_key.subject(&self.journal, self.number, subject);
        let tags: Vec<Option<Hash>> = entries.iter().map(|entry| entry.subject.as_ref().map(tag)).collect();
        let mut added = Vec::new();
        for tag in tags.iter().flatten() {
            if self.subjects.contains_key(tag) {
                continue;
            }
            let (slot, key) = (self.slots, new_key()?);
            let (entry, hash) = subjects::live_entry(&self.journal, self.number, slot, tag, &self.key, &key)?;
            added.extend(entry);
            self.slots += 1;
            self.subjects.insert(*tag, SubjectKey { slot, key, hash });
        }
        if added.is_empty() {
            return Ok(tags);
        }
        let path = self.dir.join(subjects::file_name(self.number));
        let fail = |operation| io_at(operation, &path);
        if self.table.is_none() {
            let mut table = config.vfs.create(&path, Access::Group).map_err(fail("create"))?;
            table.append(&subjects::header(&self.journal, self.number)).map_err(fail("append to"))?;
            self.table = Some(table);
            config.vfs.sync_dir(&self.dir).map_err(io_at("sync", &self.dir))?;
        }
        if let Some(table) = &mut self.table {
            table.append(&added).map_err(fail("append to"))?;
            table.sync().map_err(fail("sync"))?;
        }
        Ok(tags)
    }

    /// Forgets the key of a subject: what comes later gets a new one.
    pub(super) fn forget(&mut self, tag: &Hash) {
        self.subjects.remove(tag);
    }
}

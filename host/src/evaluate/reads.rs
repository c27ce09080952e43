//! How often a test split was looked at: one JSON line for every evaluation, written before the first score, so that
//! a look that was broken off counts too. What is chosen after a look is chosen on the test split.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, error::io_at};

/// One look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// The split.
    pub split: String,
    /// SHA-256 of the labelled file.
    pub data: String,
    /// What was evaluated.
    pub model: String,
}

impl Read {
    /// A look that begins now.
    pub fn now(split: &str, data: &str, model: &str) -> Self {
        let now = time::OffsetDateTime::now_utc().replace_nanosecond(0);
        let time = now.ok().and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok());
        Self { time: time.unwrap_or_default(), split: split.into(), data: data.into(), model: model.into() }
    }
}

/// The list of looks.
#[derive(Clone, Debug)]
pub struct Reads(PathBuf);

impl Reads {
    /// The list at a path, which need not be there yet.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Adds a look, and gives how many there now are at this split of this data, by any model.
    ///
    /// # Errors
    /// A list that cannot be written, or that holds anything else.
    pub fn add(&self, read: &Read) -> Result<usize> {
        let before = self.all()?.into_iter().filter(|r| r.split == read.split && r.data == read.data).count();
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder).map_err(io_at(folder))?;
        }
        let mut line = serde_json::to_vec(read).map_err(std::io::Error::from).map_err(io_at(&self.0))?;
        line.push(b'\n');
        let mut file = OpenOptions::new().create(true).append(true).open(&self.0).map_err(io_at(&self.0))?;
        file.write_all(&line).and_then(|()| file.sync_all()).map_err(io_at(&self.0))?;
        Ok(before + 1)
    }

    /// Every look.
    ///
    /// # Errors
    /// A list that holds anything else.
    pub fn all(&self) -> Result<Vec<Read>> {
        let text = match fs::read_to_string(&self.0) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(io_at(&self.0))?,
        };
        let parsed = text.lines().enumerate().map(|(n, line)| {
            serde_json::from_str(line).map_err(|e| Error::Data {
                what: format!("{} line {}", self.0.display(), n + 1),
                got: e.to_string(),
                expected: "a look at a test split, as locus evaluate writes it".into(),
            })
        });
        parsed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_counted_by_split_and_data_and_never_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/test-reads.jsonl");
        let reads = Reads::at(&path);
        assert_eq!(reads.all().unwrap(), []);
        assert_eq!(reads.add(&Read::now("test", "d1", "m1")).unwrap(), 1);
        assert_eq!(reads.add(&Read::now("test", "d2", "m1")).unwrap(), 1);
        assert_eq!(reads.add(&Read::now("test", "d1", "m2")).unwrap(), 2);
        let all = reads.all().unwrap();
        assert!(all.len() == 3 && all[2].model == "m2" && all[0].time.ends_with('Z'), "{all:?}");
        fs::write(&path, "{}\n").unwrap();
        assert!(reads.add(&Read::now("test", "d1", "m1")).unwrap_err().to_string().contains("line 1"));
    }
}

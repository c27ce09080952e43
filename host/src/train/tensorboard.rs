//! TensorBoard event files: records of an `Event` message, each framed by masked CRC-32C sums.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

use crate::{Result, error::io_at};

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// `tensorflow.Event`, the fields that scalars need.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    /// 1 = a session starts.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// One event file.
pub(super) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Begins a file in `folder` for what comes after `step`. Its start tells a reader to forget what a stopped run
    /// wrote from there on.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn create(folder: &Path, step: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io_at(folder))?;
        let path = folder.join(format!("events.out.tfevents.{:.6}.locus", now()));
        let file = File::create(&path).map_err(io_at(&path))?;
        let mut events = Self { file, path };
        events.write(Event { file_version: Some("brain.Event:2".into()), ..Event::default() })?;
        events.write(Event {
            step: step as i64 + 1,
            session_log: Some(SessionLog { status: 1 }),
            ..Event::default()
        })?;
        Ok(events)
    }

    /// Adds scalars of one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn scalars<'a>(
        &mut self,
        step: u64,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let value = |(tag, value): (&str, f64)| Value { tag: tag.to_owned(), simple_value: value as f32 };
        let summary = Some(Summary { value: values.into_iter().map(value).collect() });
        self.write(Event { step: step as i64, summary, ..Event::default() })
    }

    fn write(&mut self, event: Event) -> Result<()> {
        let body = Event { wall_time: now(), ..event }.encode_to_vec();
        let length = (body.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length));
        record.extend(&body);
        record.extend(masked(&body));
        self.file.write_all(&record).map_err(io_at(&self.path))
    }
}

/// The sum as TFRecord stores it: rotated, and moved by a constant.
fn masked(bytes: &[u8]) -> [u8; 4] {
    CRC32C.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

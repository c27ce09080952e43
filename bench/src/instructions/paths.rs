//! The hot paths, each as many times over as is asked for: between admission and answer, everything but the engine.

use anyhow::{Context, Result, ensure};
use locus_edge::{
    journal::{Entry, Journal, RequestHash},
    pipeline,
};
use locus_firmware_config::{
    message::{Outcome, Request},
    wire::{Decoder, FrameType, MAX_FRAME, Reassembler, encode, fragments},
};
use locus_genome::{KmerTokenizer, Tokenizer, VariantEncoder};
use locus_tests::{Fact, facts};
use zeroize::Zeroizing;

use crate::journal::fresh;

/// An answer with everything that one can have.
const ANSWER: &[u8] = include_bytes!("answer.json");
/// Bases that are tokenised at once.
const BASES: usize = 10_000;
/// As the shipped model has it.
const WINDOW: usize = 61;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Path {
    /// 10,000 letters to ids of 3-mers
    Tokenise,
    /// A request in JSON, read and checked
    ReadRequest,
    /// A request with sequence and transcript to what the model reads
    EncodeVariant,
    /// An answer to JSON
    WriteAnswer,
    /// A message of an answer's size to frames on a serial line
    WriteFrames,
    /// The same frames to the message
    ReadFrames,
    /// A record, sealed, chained and signed, in a commit of its own
    KeepRecord,
}

impl Path {
    /// Runs that are counted: so many that a start which is a little longer does not show.
    pub(super) const fn times(self) -> u64 {
        match self {
            Self::Tokenise | Self::EncodeVariant => 200,
            Self::ReadRequest | Self::WriteAnswer | Self::WriteFrames | Self::ReadFrames => 500,
            Self::KeepRecord => 40,
        }
    }

    /// Goes it so many times.
    pub(super) fn go(self, times: u64) -> Result<()> {
        match self {
            Self::Tokenise => tokenise(times),
            Self::ReadRequest => read_request(times),
            Self::EncodeVariant => encode_variant(times),
            Self::WriteAnswer => write_answer(times),
            Self::WriteFrames => write_frames(times),
            Self::ReadFrames => read_frames(times),
            Self::KeepRecord => keep_record(times),
        }
    }
}

fn fact() -> Result<Fact> {
    facts().variants.into_iter().next().context("no variant is drawn")
}

fn tokenise(times: u64) -> Result<()> {
    let tokenizer = Tokenizer::Dna(KmerTokenizer::new(3, 1)?);
    let text: String = fact()?.sequence.chars().cycle().take(BASES).collect();
    for _ in 0..times {
        std::hint::black_box(tokenizer.encode(std::hint::black_box(&text))?);
    }
    Ok(())
}

fn read_request(times: u64) -> Result<()> {
    let body = serde_json::to_vec(&fact()?.request("one"))?;
    for _ in 0..times {
        let read = Request::from_json(std::hint::black_box(&body));
        std::hint::black_box(read.map_err(|fault| anyhow::anyhow!(fault.message))?);
    }
    Ok(())
}

fn encode_variant(times: u64) -> Result<()> {
    let encoder = VariantEncoder::new(KmerTokenizer::new(3, 1)?, WINDOW);
    let request = fact()?.request("one");
    for _ in 0..times {
        let encoded = pipeline::encode(&encoder, None, std::hint::black_box(&request));
        std::hint::black_box(encoded.map_err(|fault| anyhow::anyhow!(fault.message))?);
    }
    Ok(())
}

fn write_answer(times: u64) -> Result<()> {
    let answer = Outcome::from_json(ANSWER)?;
    ensure!(matches!(answer, Outcome::Answer(_)), "answer.json is no answer");
    for _ in 0..times {
        std::hint::black_box(std::hint::black_box(&answer).to_json());
    }
    Ok(())
}

fn framed(message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut one = [0; MAX_FRAME];
    for frame in fragments(FrameType::Answer, 7, 1, message)? {
        let length = encode(&frame, &mut one)?;
        out.extend_from_slice(&one[..length]);
    }
    Ok(())
}

fn write_frames(times: u64) -> Result<()> {
    let mut out = Vec::new();
    for _ in 0..times {
        out.clear();
        framed(std::hint::black_box(ANSWER), &mut out)?;
        std::hint::black_box(&out);
    }
    Ok(())
}

fn read_frames(times: u64) -> Result<()> {
    let mut bytes = Vec::new();
    framed(ANSWER, &mut bytes)?;
    for _ in 0..times {
        let (mut decoder, mut message, mut whole) = (Decoder::new(), Reassembler::new(vec![0; 4_096]), 0);
        decoder.push(std::hint::black_box(&bytes), |frame| {
            let Ok(frame) = frame else { return };
            if let Ok(Some(message)) = message.push(&frame) {
                whole = message.len();
            }
        });
        ensure!(whole == ANSWER.len(), "got a message of {whole} bytes, expected {}", ANSWER.len());
    }
    Ok(())
}

fn keep_record(times: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = fresh(folder.path())?;
    let index_key = config.index_key.clone();
    let (mut journal, _) = Journal::open(&folder.path().join("journal"), config)?;
    for n in 0..times {
        let id = n.to_string();
        let entry = Entry {
            plaintext: Zeroizing::new(ANSWER.to_vec()),
            request: Some(RequestHash {
                id: index_key.request("bed-3", &id),
                body: index_key.body("bed-3", &id, &n.to_le_bytes()),
            }),
            subject: None,
            bundle: [7; 32],
            repeat_of: None,
            terminal: Some(index_key.terminal("bed-3")),
        };
        std::hint::black_box(journal.append(&[entry])?);
    }
    Ok(journal.close()?)
}

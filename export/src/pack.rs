//! Reference packs: the archive of a bundle, written and signed without holding it in memory.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use ed25519_dalek::SigningKey;
use locus_firmware_config::{
    manifest::{MAX_MANIFEST_BYTES, Part},
    pack::PackManifest,
};
use locus_genome::packed::PARTS;
use sha2::{Digest, Sha256};

use crate::{
    ExportError,
    bundle::{MANIFEST, SIGNATURES, header, signed_by},
};

fn at(path: &Path) -> impl Fn(io::Error) -> ExportError + '_ {
    move |source| ExportError::Io { path: path.to_owned(), source }
}

const UNWRITTEN: ExportError =
    ExportError::Bundle { reason: "the pack cannot be written: the disk is full, or gone" };

/// The size and the digest of a file.
fn part(folder: &Path, name: &str) -> Result<Part, ExportError> {
    let path = folder.join(name);
    let mut file = File::open(&path).map_err(at(&path))?;
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        let n = file.read(&mut buffer).map_err(at(&path))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
    Ok(Part { name: name.to_owned(), size, sha256: hex::encode(hash.finalize()) })
}

/// Writes an unsigned pack of the parts in a folder, whose list in the manifest is made here. Gives its digest.
///
/// # Errors
/// A manifest that contradicts itself, a part that is not there, a disk that fails.
pub fn write_pack(
    mut manifest: PackManifest,
    folder: &Path,
    out: &mut dyn Write,
) -> Result<String, ExportError> {
    manifest.parts = PARTS.iter().map(|name| part(folder, name)).collect::<Result<_, _>>()?;
    let bytes = manifest.to_json()?;
    let mut builder = tar::Builder::new(out);
    let mut add = |name: &str, size: u64, from: &mut dyn Read| {
        builder.append_data(&mut header(size), name, from).map_err(|_| UNWRITTEN)
    };
    add(MANIFEST, bytes.len() as u64, &mut bytes.as_slice())?;
    for part in &manifest.parts {
        let path = folder.join(&part.name);
        add(&part.name, part.size, &mut File::open(&path).map_err(at(&path))?)?;
    }
    builder.finish().map_err(|_| UNWRITTEN)?;
    Ok(hex::encode(Sha256::digest(&bytes)))
}

/// Writes a pack with one signature more, or with that of the same key anew. Whether its parts are those of the manifest
/// is for `locus-engine` to check first.
///
/// # Errors
/// No pack, as many signatures of other keys as there may be, a disk that fails.
pub fn sign_pack(pack: &Path, key: &SigningKey, out: &mut dyn Write) -> Result<(), ExportError> {
    let mut file = File::open(pack).map_err(at(pack))?;
    let bad = |reason| ExportError::Bundle { reason };
    let (mut manifest, mut signatures, mut rest) = (None, None, None);
    let mut archive = tar::Archive::new(&mut file);
    for entry in archive.entries().map_err(|_| bad("not an archive"))? {
        let mut entry = entry.map_err(|_| bad("a broken archive"))?;
        let name = entry.path().ok().and_then(|p| p.to_str().map(str::to_owned)).unwrap_or_default();
        if name != MANIFEST && name != SIGNATURES {
            rest = Some(entry.raw_header_position());
            break;
        }
        let mut bytes = Vec::new();
        entry
            .by_ref()
            .take(MAX_MANIFEST_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|_| bad("a part that is cut off"))?;
        if name == MANIFEST { manifest = Some(bytes) } else { signatures = Some(bytes) }
    }
    let (Some(manifest), Some(rest)) = (manifest, rest) else { return Err(bad("no manifest.json in front")) };
    PackManifest::from_json(&manifest)?;
    let hash: [u8; 32] = Sha256::digest(&manifest).into();
    let signatures = signed_by(signatures.as_deref(), &hash, key)?;
    for (name, bytes) in [(MANIFEST, manifest), (SIGNATURES, signatures)] {
        let mut front = header(bytes.len() as u64);
        front.set_path(name).map_err(|_| UNWRITTEN)?;
        front.set_cksum();
        let padding = bytes.len().next_multiple_of(512) - bytes.len();
        let entry = [front.as_bytes().as_slice(), &bytes, &vec![0; padding]].concat();
        out.write_all(&entry).map_err(|_| UNWRITTEN)?;
    }
    // The parts and the end of the archive stay as they are.
    file.seek(SeekFrom::Start(rest)).map_err(at(pack))?;
    io::copy(&mut file, out).map_err(|_| UNWRITTEN)?;
    Ok(())
}

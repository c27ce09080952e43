//! `locus trust`: which keys may sign models, and how many of them have to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus_engine::{Policy, TrustError, TrustedKey};
use locus_firmware_config::trust::{FORMAT, Role, SignedTrust, TrustDocument, TrustFileError};

use crate::{Error, Result, error::io_at, files};

/// What a new trust document says.
#[derive(Clone, Debug, clap::Args)]
pub struct CreateArgs {
    /// Public keys that may replace this document; keep their private halves offline
    #[arg(long, required = true, value_name = "PUB")]
    root: Vec<PathBuf>,
    /// How many of them have to sign the next document
    #[arg(long, default_value_t = 1, value_name = "M")]
    root_threshold: u32,
    /// Public keys that may sign bundles
    #[arg(long, required = true, value_name = "PUB")]
    signing: Vec<PathBuf>,
    /// How many of them have to sign a bundle
    #[arg(long, default_value_t = 1, value_name = "M")]
    signing_threshold: u32,
    /// Last day on which boxes flash under it, YYYY-MM-DD
    #[arg(long, value_name = "DAY")]
    expires: String,
    /// Day of its making, YYYY-MM-DD [default: today, UTC]
    #[arg(long, value_name = "DAY")]
    issued: Option<String>,
    /// The document that it follows: its version is one higher, and what was revoked stays revoked
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// Public keys, or ids of keys, whose signatures no longer count
    #[arg(long, value_name = "PUB")]
    revoke: Vec<String>,
    /// The file to write; what is there is not overwritten
    #[arg(long)]
    out: PathBuf,
}

fn refused(error: TrustError) -> Error {
    locus_engine::Error::from(locus_engine::BundleError::from(error)).into()
}

/// Reads a public key in PEM.
///
/// # Errors
/// No such file, or no key in it.
pub(super) fn public_key(path: &Path) -> Result<TrustedKey> {
    let pem = std::fs::read_to_string(path).map_err(io_at(path))?;
    TrustedKey::from_pem(&pem).map_err(|error| Error::Data {
        what: path.display().to_string(),
        got: error.to_string(),
        expected: "an Ed25519 public key in PEM".into(),
    })
}

fn read(path: &Path) -> Result<SignedTrust> {
    let bytes = std::fs::read(path).map_err(io_at(path))?;
    Ok(SignedTrust::from_json(&bytes).map_err(locus_export::ExportError::from)?)
}

fn role(keys: &mut BTreeMap<String, String>, files: &[PathBuf], threshold: u32) -> Result<Role> {
    let mut ids = Vec::new();
    for path in files {
        let key = public_key(path)?;
        keys.insert(key.id().to_owned(), hex::encode(key.as_bytes()));
        ids.push(key.id().to_owned());
    }
    Ok(Role { keys: ids, threshold })
}

/// Writes a trust document that nobody has signed yet.
///
/// # Errors
/// A key that cannot be read, a document that contradicts itself, or a file that is there already.
pub fn create(args: &CreateArgs) -> Result<()> {
    let before = args.after.as_deref().map(read).transpose()?.map(|signed| signed.trust);
    let mut keys = BTreeMap::new();
    let root = role(&mut keys, &args.root, args.root_threshold)?;
    let signing = role(&mut keys, &args.signing, args.signing_threshold)?;
    let mut revoked = before.as_ref().map(|before| before.revoked.clone()).unwrap_or_default();
    for named in &args.revoke {
        let id = match Path::new(named).is_file() {
            true => public_key(Path::new(named))?.id().to_owned(),
            false => named.clone(),
        };
        if !revoked.contains(&id) {
            revoked.push(id);
        }
    }
    let document = TrustDocument {
        format: FORMAT,
        version: before.map_or(1, |before| before.version.saturating_add(1)),
        issued: args.issued.clone().unwrap_or_else(|| time::OffsetDateTime::now_utc().date().to_string()),
        expires: args.expires.clone(),
        keys,
        root,
        signing,
        revoked,
    };
    let version = document.version;
    let bytes = locus_export::unsigned_trust(document)?;
    if args.out.exists() {
        return Err(io_at(&args.out)(std::io::ErrorKind::AlreadyExists.into()));
    }
    files::write_atomically(&args.out, &bytes)?;
    say!("{}: version {version}, unsigned; `locus trust sign` is for each root", args.out.display());
    Ok(())
}

/// Adds a signature.
///
/// # Errors
/// No private key, or no trust document.
pub fn sign(key: &Path, input: &Path, out: &Path) -> Result<()> {
    let key = locus_export::read_private(key)?;
    let bytes = std::fs::read(input).map_err(io_at(input))?;
    files::write_atomically(out, &locus_export::sign_trust(&bytes, &key)?)
}

/// Prints a trust document, and whether its own roots have signed it.
///
/// # Errors
/// No trust document.
pub fn show(path: &Path) -> Result<()> {
    let signed = read(path)?;
    locus_console::write(format_args!("{}", words(&signed.trust)));
    let ids: Vec<_> = signed.signatures.iter().map(|one| one.key_id.as_str()).collect();
    let verdict = match Policy::open(&signed.to_json()) {
        Ok(_) => "enough of its own roots signed it".to_owned(),
        Err(error) => error.to_string(),
    };
    say!("signed    {}: {verdict}", if ids.is_empty() { "by nobody".to_owned() } else { ids.join(", ") });
    Ok(())
}

/// A trust document in words.
fn words(trust: &TrustDocument) -> String {
    let role = |role: &Role| format!("{} of {}", role.threshold, role.keys.join(", "));
    let revoked = if trust.revoked.is_empty() { "-".to_owned() } else { trust.revoked.join(", ") };
    format!(
        "version   {}\nissued    {}\nexpires   {}\nroot      {}\nsigning   {}\nrevoked   {revoked}\n",
        trust.version,
        trust.issued,
        trust.expires,
        role(&trust.root),
        role(&trust.signing),
    )
}

/// Opens a trust document that says of itself who signed it.
///
/// # Errors
/// One that is refused.
pub(super) fn policy(path: &Path) -> Result<Policy> {
    let bytes = std::fs::read(path).map_err(io_at(path))?;
    if bytes.len() > locus_firmware_config::trust::MAX_TRUST_BYTES {
        return Err(refused(TrustFileError::TooLarge { got: bytes.len() }.into()));
    }
    Policy::open(&bytes).map_err(refused)
}

//! Tokens: a password of 256 bits, of which the registry keeps the SHA-256 alone.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    AccessError,
    authority::{self, AuthorityError},
};
use crate::{
    keys::{self, KeyError},
    state::StateDir,
    vfs::{Access, OsVfs, Vfs as _, write_atomic},
};

/// How a token begins, so that one that was lost is recognised as such.
const TOKEN: &str = "locus-token-";
/// Largest token file, in bytes.
const MAX_TOKEN_BYTES: u64 = 1 << 10;

/// SHA-256 of a token, which has 256 bits by itself: nothing slower is needed.
pub fn token_digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.trim()).into()
}

/// A new token.
///
/// # Errors
/// The machine gives no random numbers.
pub fn new_token() -> Result<Zeroizing<String>, KeyError> {
    let secret = keys::random::<32>()?;
    Ok(Zeroizing::new(format!("{TOKEN}{}", &*Zeroizing::new(hex::encode(*secret)))))
}

/// The token of `locusctl`, made where there is none.
pub(super) fn local_token(state: &StateDir) -> Result<Zeroizing<String>, AccessError> {
    let path = state.local_token();
    if let Some(token) = read_token(&path)? {
        return Ok(token);
    }
    let token = new_token()?;
    write_atomic(&OsVfs, &path, token.as_bytes(), Access::Group).map_err(authority::io_at(&path))?;
    Ok(token)
}

/// Reads a token file.
///
/// # Errors
/// It is there and cannot be read.
pub fn read_token(path: &Path) -> Result<Option<Zeroizing<String>>, AuthorityError> {
    match OsVfs.read(path, MAX_TOKEN_BYTES) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| AuthorityError::Pem {
                path: path.to_owned(),
                detail: "it is not text".into(),
            })?;
            let text = Zeroizing::new(text);
            let token = Zeroizing::new(text.trim().to_owned());
            Ok((!token.is_empty()).then_some(token))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(authority::io_at(path)(error)),
    }
}

//! Device profiles: what the hardware is. TOML, with `inherit` naming the profile it starts from.

use serde::Deserialize;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Not TOML of this shape.
    #[error("profile {name}: {source}")]
    Toml {
        /// The profile.
        name: String,
        /// The cause, with line and column.
        source: Box<toml::de::Error>,
    },
    /// No such profile.
    #[error("got profile {name:?}, expected one of {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Names there are.
        known: String,
    },
    /// A profile that inherits from itself.
    #[error("profile {name} inherits from itself, directly or through others")]
    Cycle {
        /// The profile.
        name: String,
    },
    /// A value that is missing or out of range.
    #[error("profile {name}: got {field} = {got}, expected {expected}")]
    Value {
        /// The profile.
        name: String,
        /// The field.
        field: &'static str,
        /// What it holds.
        got: String,
        /// What it may hold.
        expected: &'static str,
    },
}

/// What a device is, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProfile {
    /// Name of the profile.
    pub name: String,
    /// Whether Locus was run on this hardware.
    pub verified: bool,
    /// Engines in the order to try them.
    pub engines: Vec<String>,
    /// `auto`, `fp32` or `int8`.
    pub precision: String,
    /// Threads inside one operator.
    pub intra_threads: u32,
    /// Rows per batch at most.
    pub max_batch: u32,
    /// CUDA device, where there is one.
    pub cuda_device: Option<u32>,
    /// Memory that TensorRT may use while it builds, in bytes.
    pub tensorrt_workspace_bytes: Option<u64>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    inherit: Option<String>,
    verified: Option<bool>,
    engines: Option<Vec<String>>,
    precision: Option<String>,
    intra_threads: Option<u32>,
    max_batch: Option<u32>,
    cuda_device: Option<u32>,
    tensorrt_workspace_bytes: Option<u64>,
}

/// The profiles that come with Locus.
const SHIPPED: [(&str, &str); 4] = [
    ("base", include_str!("../profiles/base.toml")),
    ("x86-cpu", include_str!("../profiles/x86-cpu.toml")),
    ("jetson-orin-nx", include_str!("../profiles/jetson-orin-nx.toml")),
    ("jetson-agx-orin", include_str!("../profiles/jetson-agx-orin.toml")),
];
const ENGINES: [&str; 5] = ["ort-tensorrt", "ort-cuda", "ort-cpu", "tract", "fake"];

impl DeviceProfile {
    /// Names of the profiles that come with Locus.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A profile that comes with Locus.
    ///
    /// # Errors
    /// No such profile.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        let text = shipped_text(name)?;
        Self::parse(name, text)
    }

    /// Reads TOML; `inherit` names a shipped profile.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let mut chain = vec![raw(name, text)?];
        let mut seen = vec![name.to_owned()];
        while let Some(parent) = chain.last().and_then(|r| r.inherit.clone()) {
            if seen.contains(&parent) {
                return Err(ProfileError::Cycle { name: name.to_owned() });
            }
            chain.push(raw(&parent, shipped_text(&parent)?)?);
            seen.push(parent);
        }
        let pick = |field: &'static str, expected: &'static str| ProfileError::Value {
            name: name.to_owned(),
            field,
            got: "nothing".into(),
            expected,
        };
        macro_rules! first {
            ($field:ident) => {
                chain.iter().find_map(|r| r.$field.clone())
            };
        }
        let profile = Self {
            name: name.to_owned(),
            // Never inherited: that one device was tried says nothing about another.
            verified: chain[0].verified.unwrap_or(false),
            engines: first!(engines).ok_or_else(|| pick("engines", "a list of engines"))?,
            precision: first!(precision).ok_or_else(|| pick("precision", "auto, fp32 or int8"))?,
            intra_threads: first!(intra_threads).ok_or_else(|| pick("intra_threads", "1 to 64"))?,
            max_batch: first!(max_batch).ok_or_else(|| pick("max_batch", "1 to 1,024"))?,
            cuda_device: first!(cuda_device),
            tensorrt_workspace_bytes: first!(tensorrt_workspace_bytes),
        };
        profile.check()
    }

    fn check(self) -> Result<Self, ProfileError> {
        let wrong = |field, got: String, expected| {
            Err(ProfileError::Value { name: self.name.clone(), field, got, expected })
        };
        if self.engines.is_empty() || self.engines.iter().any(|e| !ENGINES.contains(&e.as_str())) {
            return wrong(
                "engines",
                format!("{:?}", self.engines),
                "ort-tensorrt, ort-cuda, ort-cpu, tract or fake",
            );
        }
        if !["auto", "fp32", "int8"].contains(&self.precision.as_str()) {
            return wrong("precision", self.precision.clone(), "auto, fp32 or int8");
        }
        if !(1..=64).contains(&self.intra_threads) {
            return wrong("intra_threads", self.intra_threads.to_string(), "1 to 64");
        }
        if !(1..=1024).contains(&self.max_batch) {
            return wrong("max_batch", self.max_batch.to_string(), "1 to 1,024");
        }
        Ok(self)
    }
}

fn raw(name: &str, text: &str) -> Result<Raw, ProfileError> {
    toml::from_str(text).map_err(|e| ProfileError::Toml { name: name.to_owned(), source: Box::new(e) })
}

fn shipped_text(name: &str) -> Result<&'static str, ProfileError> {
    SHIPPED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text).ok_or_else(|| ProfileError::Unknown {
        name: name.to_owned(),
        known: SHIPPED.map(|(n, _)| n).join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_parses_and_none_claims_a_jetson() {
        for name in DeviceProfile::shipped() {
            let profile = DeviceProfile::named(name).unwrap();
            assert!(!(name.starts_with("jetson") && profile.verified), "{name}");
        }
    }

    #[test]
    fn a_child_overrides_and_unknown_keys_are_refused() {
        let p = DeviceProfile::parse("mine", "inherit = \"base\"\nintra_threads = 7\n").unwrap();
        assert_eq!((p.intra_threads, p.engines), (7, DeviceProfile::named("base").unwrap().engines));
        assert!(matches!(
            DeviceProfile::parse("x", "inherit = \"base\"\nspeed = 1\n"),
            Err(ProfileError::Toml { .. })
        ));
        assert!(matches!(DeviceProfile::parse("x", "inherit = \"x\"\n"), Err(ProfileError::Cycle { .. })));
        assert!(matches!(DeviceProfile::parse("x", "inherit = \"no\"\n"), Err(ProfileError::Unknown { .. })));
        assert!(matches!(
            DeviceProfile::parse("x", "inherit = \"base\"\nengines = [\"magic\"]\n"),
            Err(ProfileError::Value { .. })
        ));
    }
}

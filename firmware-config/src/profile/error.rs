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
        expected: String,
    },
}

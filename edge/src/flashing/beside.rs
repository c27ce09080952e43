//! What serves, opened once more beside the daemon: for reading only.

use locus_engine::{Bundle, LoadOptions, Trust};
use locus_firmware_config::profile::DeviceProfile;

use super::{FlashError, chosen, keys_of, options_of};
use crate::{
    config::Config,
    slots::{FileSlotStore, SlotError},
    state::StateDir,
    trust::TrustStore,
    vfs::OsVfs,
};

/// The active bundle of a model (of the only one without a name), verified, with how the daemon loads it. Takes no lock.
///
/// # Errors
/// No such model, a bundle that is not trusted, settings that the engine does not know.
pub fn serving(
    config: &Config,
    model: Option<&str>,
) -> Result<(Bundle, DeviceProfile, LoadOptions), FlashError> {
    let state = StateDir::new(&config.state);
    let record = FileSlotStore::peek(&OsVfs, &state.slots())?;
    let serves = record.models.iter().filter_map(|(name, slots)| Some((name, slots.active.as_ref()?)));
    let serves: std::collections::BTreeMap<_, _> = serves.collect();
    let name = chosen(model, serves.keys().map(|name| (*name).clone()).collect())?;
    let trust = match &config.models.trust {
        None => keys_of(config)?,
        Some(first) => match TrustStore::peek(&OsVfs, &state.trust())? {
            Some(policy) => Trust::Policy(policy.into()),
            None => Trust::Policy(TrustStore::first(&OsVfs, first)?.into()),
        },
    };
    let path = FileSlotStore::stored(&state.slots(), serves.get(&name).map_or("", |digest| digest.as_str()))?;
    let bundle = Bundle::open(path, &trust).map_err(SlotError::from)?;
    Ok((bundle, config.device_profile()?, options_of(config, &state)?))
}

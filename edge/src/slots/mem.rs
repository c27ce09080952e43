//! Slots in memory that can lose power after any operation.

use std::collections::BTreeMap;

use super::{SlotError, SlotRecord, SlotStore, Slots, check_digest, confirmed, reverted, swapped};

/// Slots in memory.
#[derive(Debug, Clone, Default)]
pub struct MemSlotStore {
    record: SlotRecord,
    bundles: BTreeMap<String, Vec<u8>>,
    operations: u64,
    cut_after: Option<u64>,
}

impl MemSlotStore {
    /// Empty slots.
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations that changed something, so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Cuts the power once this many more operations were done: the last of them has its effect and reports an
    /// error, as everything after it does, until [`MemSlotStore::restart`]. With 0 the next one has no effect.
    pub fn cut_after(&mut self, operations: u64) {
        self.cut_after = Some(self.operations + operations);
    }

    /// Starts again with what was stored.
    pub fn restart(&mut self) {
        self.cut_after = None;
    }

    fn off(&self) -> bool {
        self.cut_after.is_some_and(|cut| self.operations >= cut)
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, SlotError>) -> Result<T, SlotError> {
        if self.off() {
            return Err(SlotError::PowerCut);
        }
        let value = change(self)?;
        self.operations += 1;
        if self.off() { Err(SlotError::PowerCut) } else { Ok(value) }
    }

    fn next(&mut self, model: &str, slots: Slots) {
        let record = std::mem::take(&mut self.record);
        self.record = SlotRecord { sequence: record.sequence + 1, ..record }.with(model, slots);
    }
}

impl SlotStore for MemSlotStore {
    fn state(&self) -> Result<SlotRecord, SlotError> {
        if self.off() { Err(SlotError::PowerCut) } else { Ok(self.record.clone()) }
    }

    fn write_standby(&mut self, digest: &str, bundle: &[u8]) -> Result<(), SlotError> {
        check_digest(digest)?;
        self.change(|store| {
            let used: Vec<&str> = store.record.models.values().flat_map(Slots::digests).collect();
            store.bundles.retain(|name, _| used.contains(&name.as_str()));
            store.bundles.insert(digest.to_owned(), bundle.to_vec());
            Ok(())
        })
    }

    fn write_standby_from(&mut self, digest: &str, from: &mut dyn std::io::Read) -> Result<(), SlotError> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|_| SlotError::PowerCut)?;
        self.write_standby(digest, &bytes)
    }

    fn open(
        &self,
        digest: &str,
    ) -> Result<(std::sync::Arc<dyn locus_genome::packed::ReadAt>, u64), SlotError> {
        let bytes = self.read(digest)?;
        let len = bytes.len() as u64;
        Ok((std::sync::Arc::new(bytes), len))
    }

    fn read(&self, digest: &str) -> Result<Vec<u8>, SlotError> {
        if self.off() {
            return Err(SlotError::PowerCut);
        }
        check_digest(digest)?;
        self.bundles.get(digest).cloned().ok_or_else(|| SlotError::Missing { digest: digest.to_owned() })
    }

    fn stage(&mut self, model: &str, digest: &str) -> Result<(), SlotError> {
        self.read(digest)?;
        self.change(|store| {
            store.next(model, Slots { trial: Some(digest.to_owned()), ..store.record.of(model) });
            Ok(())
        })
    }

    fn confirm(
        &mut self,
        model: &str,
        security_counter: u64,
        previous: Option<&str>,
    ) -> Result<(), SlotError> {
        self.change(|store| {
            store.next(model, confirmed(store.record.of(model), security_counter, previous)?);
            Ok(())
        })
    }

    fn revert(&mut self, model: &str) -> Result<(), SlotError> {
        self.change(|store| {
            store.next(model, reverted(store.record.of(model))?);
            Ok(())
        })
    }

    fn swap_back(&mut self, model: &str) -> Result<(), SlotError> {
        self.change(|store| {
            store.next(model, swapped(store.record.of(model))?);
            Ok(())
        })
    }

    fn put(&mut self, model: &str, slots: Slots) -> Result<(), SlotError> {
        self.change(|store| {
            store.next(model, slots);
            Ok(())
        })
    }
}

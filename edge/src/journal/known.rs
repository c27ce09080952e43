//! Which requests were answered, by keyed hash: recognises a repeat after a restart.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, PoisonError, RwLock},
};

use super::{RequestHash, format::BODY};

/// What is known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    New,
    /// The same question was answered by this record.
    Repeat {
        /// Its index.
        index: u64,
        /// The bundle that answered.
        bundle: [u8; 32],
    },
    /// The id was used for another question.
    Reused {
        /// Index of the record that used it.
        index: u64,
    },
}

#[derive(Debug)]
struct Known {
    body: [u8; BODY],
    index: u64,
    bundle: [u8; 32],
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<[u8; 32], Known>,
    order: VecDeque<[u8; 32]>,
}

/// The latest requests, up to a number; clones share them. Only what is durable is in it.
#[derive(Debug, Clone)]
pub struct KnownRequests {
    table: Arc<RwLock<Table>>,
    most: usize,
}

impl KnownRequests {
    /// Remembers at most `most` requests.
    pub fn new(most: usize) -> Self {
        Self { table: Arc::default(), most }
    }

    /// What is known of a request.
    pub fn find(&self, request: &RequestHash) -> Seen {
        match self.table.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&request.id) {
            None => Seen::New,
            Some(known) if known.body == request.kept().1 => {
                Seen::Repeat { index: known.index, bundle: known.bundle }
            }
            Some(known) => Seen::Reused { index: known.index },
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).order.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first record of an id stays: a repeat points at it.
    pub(super) fn insert(&self, (id, body): ([u8; 32], [u8; BODY]), index: u64, bundle: [u8; 32]) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if self.most == 0 || table.by_id.contains_key(&id) {
            return;
        }
        if table.order.len() == self.most
            && let Some(oldest) = table.order.pop_front()
        {
            table.by_id.remove(&oldest);
        }
        table.order.push_back(id);
        table.by_id.insert(id, Known { body, index, bundle });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_then_a_repeat_and_reused_with_another_body() {
        let known = KnownRequests::new(2);
        let request = |id, body| RequestHash { id: [id; 32], body: [body; 32] };
        assert_eq!(known.find(&request(1, 1)), Seen::New);
        known.insert(request(1, 1).kept(), 7, [9; 32]);
        known.insert(request(1, 1).kept(), 8, [9; 32]);
        assert_eq!(known.find(&request(1, 1)), Seen::Repeat { index: 7, bundle: [9; 32] });
        assert_eq!(known.find(&request(1, 2)), Seen::Reused { index: 7 });
        known.insert(request(2, 1).kept(), 9, [9; 32]);
        known.insert(request(3, 1).kept(), 10, [9; 32]);
        assert_eq!((known.len(), known.find(&request(1, 1))), (2, Seen::New), "the oldest is forgotten");
    }
}

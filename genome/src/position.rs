//! Positions and intervals as types.

use core::num::NonZeroU64;

/// A 1-based position on a sequence, as in VCF, GFF3 and HGVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(NonZeroU64);

impl Position {
    /// The position, or `None` for 0, which no 1-based coordinate system has.
    pub const fn new(position: u64) -> Option<Self> {
        match NonZeroU64::new(position) {
            Some(p) => Some(Self(p)),
            None => None,
        }
    }

    /// The 1-based number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The 0-based offset of the same base.
    pub const fn offset(self) -> u64 {
        self.0.get() - 1
    }
}

/// A half-open, 0-based range of bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    start: u64,
    end: u64,
}

impl Interval {
    /// The interval `start..end`, or `None` where `end < start`.
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if end < start { None } else { Some(Self { start, end }) }
    }

    /// From 1-based inclusive coordinates, as GFF3 and region names write them.
    pub const fn from_inclusive(first: Position, last: Position) -> Option<Self> {
        Self::new(first.offset(), last.get())
    }

    /// First offset.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Offset after the last base.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Number of bases.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether it holds no base.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether the base at `position` lies inside.
    pub const fn contains(self, position: Position) -> bool {
        self.start <= position.offset() && position.offset() < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_zero_does_not_exist() {
        assert_eq!(Position::new(0), None);
    }

    #[test]
    fn inclusive_coordinates_become_half_open() {
        let i = Interval::from_inclusive(Position::new(3).unwrap(), Position::new(5).unwrap()).unwrap();
        assert_eq!((i.start(), i.end(), i.len()), (2, 5, 3));
        assert!(i.contains(Position::new(5).unwrap()) && !i.contains(Position::new(6).unwrap()));
    }
}

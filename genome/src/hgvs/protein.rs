//! What a change of DNA is expected to do to the protein, as HGVS writes it: in parentheses, because nobody measured it.

use alloc::{format, string::String, vec::Vec};

use super::{name::Change, place::Ruler};
use crate::{
    Strand, Transcript, codon,
    consequence::{self, Bases, sense_base},
    transcript::Site,
};

/// Farthest stop that is looked for, in codons.
const MAX_CODONS: i64 = 5_000;
/// The effect is not known.
const UNKNOWN: &str = "p.?";

const NAMES: [(u8, &str); 21] = [
    (b'A', "Ala"),
    (b'R', "Arg"),
    (b'N', "Asn"),
    (b'D', "Asp"),
    (b'C', "Cys"),
    (b'Q', "Gln"),
    (b'E', "Glu"),
    (b'G', "Gly"),
    (b'H', "His"),
    (b'I', "Ile"),
    (b'L', "Leu"),
    (b'K', "Lys"),
    (b'M', "Met"),
    (b'F', "Phe"),
    (b'P', "Pro"),
    (b'S', "Ser"),
    (b'T', "Thr"),
    (b'W', "Trp"),
    (b'Y', "Tyr"),
    (b'V', "Val"),
    (b'*', "Ter"),
];

fn three(residue: u8) -> &'static str {
    NAMES.iter().find(|(code, _)| *code == residue).map_or("Xaa", |(_, name)| name)
}

fn listed(residues: &[u8]) -> String {
    residues.iter().map(|&r| three(r)).collect()
}

/// A residue that a codon gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Residue {
    Known(u8),
    /// Bases of it are not known.
    Unknown,
    /// The transcript has ended.
    End,
}

/// The name of a change, moved as the DNA's name has it.
pub(super) fn named(
    bases: &dyn Bases,
    transcript: &Transcript,
    ruler: &Ruler<'_>,
    change: &Change,
) -> Option<String> {
    if !transcript.standard_code() || !ruler.is_coding() {
        return None;
    }
    let index = match touched(transcript, ruler, change) {
        Touched::Coding(index) => index,
        Touched::Unknown => return Some(UNKNOWN.into()),
        Touched::Nothing => return None,
    };
    let added = change.added_in(transcript.strand);
    let protein = Protein { bases, transcript, ruler, index, removed: change.removed, added: &added };
    if let (1, &[alt]) = (change.removed, change.added.as_slice()) {
        return protein.of_snv(change.first, alt);
    }
    let starts_whole = match transcript.strand {
        Strand::Forward => transcript.cds().first(),
        Strand::Reverse => transcript.cds().last(),
    };
    let whole = starts_whole.is_some_and(|part| part.phase == 0)
        && transcript.phases_agree()
        && ruler.coding_len() == transcript.cds_len();
    if !whole { None } else { protein.of_others() }
}

enum Touched {
    /// Coding bases alone, from this index on.
    Coding(i64),
    /// A splice site, or the border of the coding sequence.
    Unknown,
    /// Nothing that the protein is made of.
    Nothing,
}

fn touched(transcript: &Transcript, ruler: &Ruler<'_>, change: &Change) -> Touched {
    let splice = |p: i64| matches!(transcript.site(p), Site::Intron { from_donor, from_acceptor } if from_donor.min(from_acceptor) <= 2);
    if change.removed == 0 {
        let (left, right) = (change.first - 1, change.first);
        return match (ruler.coding_index(left), ruler.coding_index(right)) {
            (Some(l), Some(r)) => Touched::Coding(l.max(r)),
            (None, None) if splice(left) && splice(right) => Touched::Unknown,
            (None, None) => Touched::Nothing,
            _ => Touched::Unknown,
        };
    }
    let removed = || change.first..change.first + change.removed;
    let coding: Vec<i64> = removed().filter_map(|p| ruler.coding_index(p)).collect();
    match coding.iter().min() {
        Some(&index) if coding.len() as i64 == change.removed => Touched::Coding(index),
        Some(_) => Touched::Unknown,
        None if removed().any(splice) => Touched::Unknown,
        None => Touched::Nothing,
    }
}

/// The coding sequence before and after.
struct Protein<'a> {
    bases: &'a dyn Bases,
    transcript: &'a Transcript,
    ruler: &'a Ruler<'a>,
    /// Coding index of the first base removed, or of the base after an insertion.
    index: i64,
    removed: i64,
    added: &'a [u8],
}

impl Protein<'_> {
    fn residue(&self, n: i64, base: impl Fn(i64) -> Result<u8, Residue>) -> Residue {
        let read = |place: i64| base(3 * n + place);
        match (read(0), read(1), read(2)) {
            (Ok(a), Ok(b), Ok(c)) => codon::translate([a, b, c]).map_or(Residue::Unknown, Residue::Known),
            (Err(why), _, _) | (_, Err(why), _) | (_, _, Err(why)) => why,
        }
    }

    fn old_base(&self, index: i64) -> Result<u8, Residue> {
        let position = self.ruler.coding_at(index).ok_or(Residue::End)?;
        sense_base(self.bases, self.transcript, position).ok_or(Residue::Unknown)
    }

    fn new_base(&self, index: i64) -> Result<u8, Residue> {
        let added = self.added.len() as i64;
        match index - self.index {
            before if before < 0 => self.old_base(index),
            into if into < added => self.added.get(into as usize).copied().ok_or(Residue::Unknown),
            after => self.old_base(self.index + after - added + self.removed),
        }
    }

    fn before(&self, n: i64) -> Residue {
        self.residue(n, |index| self.old_base(index))
    }

    fn after(&self, n: i64) -> Residue {
        self.residue(n, |index| self.new_base(index))
    }

    /// `Arg97`, counted from 1.
    fn at(&self, n: i64) -> Option<String> {
        match self.before(n) {
            Residue::Known(residue) => Some(format!("{}{}", three(residue), n + 1)),
            _ => None,
        }
    }

    /// Codons from `n` to the next stop, at most [`MAX_CODONS`]: its number, or why there is none.
    fn stop_from(&self, n: i64) -> Result<i64, Residue> {
        for i in n..n + MAX_CODONS {
            match self.after(i) {
                Residue::Known(b'*') => return Ok(i),
                Residue::Known(_) => {}
                none => return Err(none),
            }
        }
        Err(Residue::Unknown)
    }

    /// A stop at `n` that reads on as `alt`.
    fn extension(&self, n: i64, alt: u8) -> String {
        match self.stop_from(n) {
            Ok(stop) => format!("p.(Ter{}{}extTer{})", n + 1, three(alt), stop - n),
            Err(_) => format!("p.(Ter{}{}extTer?)", n + 1, three(alt)),
        }
    }

    fn of_snv(&self, position: i64, alt: u8) -> Option<String> {
        let change = consequence::codon_change(self.bases, self.transcript, position, alt)?;
        let at = format!("{}{}", three(change.ref_residue), change.residue);
        Some(match (change.ref_residue, change.alt_residue) {
            (r, a) if r == a => format!("p.({at}=)"),
            (b'M', _) if change.index == 0 => "p.(Met1?)".into(),
            (b'*', a) if change.index % 3 == 0 => self.extension(change.index / 3, a),
            (_, a) => format!("p.({at}{})", three(a)),
        })
    }

    fn of_others(&self) -> Option<String> {
        let first = self.index / 3;
        if self.index < 3 && self.before(0) == Residue::Known(b'M') && self.after(0) != Residue::Known(b'M') {
            return Some("p.(Met1?)".into());
        }
        let shift = self.added.len() as i64 - self.removed;
        if shift % 3 != 0 {
            return self.of_frameshift(first);
        }
        let codons = match (self.removed, self.index % 3) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => (self.index + self.removed + 2) / 3 - first,
        };
        let known = |residue| if let Residue::Known(residue) = residue { Some(residue) } else { None };
        let old = (first..first + codons).map(|n| known(self.before(n))).collect::<Option<Vec<u8>>>()?;
        let new = (first..first + codons + shift / 3).map(|n| known(self.after(n)));
        let mut new = new.collect::<Option<Vec<u8>>>()?;
        if old.contains(&b'*') {
            return self.of_stop(first);
        }
        let stop = new.iter().position(|&r| r == b'*');
        if let Some(stop) = stop {
            new.truncate(stop + 1);
        }
        let prefix = old.iter().zip(&new).take_while(|(o, n)| o == n).count();
        if stop == Some(prefix) {
            return Some(format!("p.({}Ter)", self.at(first + prefix as i64)?));
        }
        let (old, new) = (&old[prefix..], &new[prefix..]);
        let suffix = match stop {
            Some(_) => 0,
            None => old.iter().rev().zip(new.iter().rev()).take_while(|(o, n)| o == n).count(),
        };
        self.in_frame(first + prefix as i64, &old[..old.len() - suffix], &new[..new.len() - suffix], codons)
    }

    /// The first residue that differs, and the stop after it.
    fn of_frameshift(&self, first: i64) -> Option<String> {
        for n in first..first + MAX_CODONS {
            let (Residue::Known(old), new) = (self.before(n), self.after(n)) else { return None };
            let new = match new {
                Residue::Known(new) => new,
                Residue::Unknown => return None,
                Residue::End => return Some(UNKNOWN.into()),
            };
            if old == new && old == b'*' {
                return Some("p.(=)".into());
            }
            if old == new {
                continue;
            }
            if old == b'*' {
                return Some(self.extension(n, new));
            }
            let at = self.at(n)?;
            if new == b'*' {
                return Some(format!("p.({at}Ter)"));
            }
            return Some(match self.stop_from(n) {
                Ok(stop) => format!("p.({at}{}fsTer{})", three(new), stop - n + 1),
                Err(Residue::End) => format!("p.({at}{}fsTer?)", three(new)),
                Err(_) => format!("p.({at}fs)"),
            });
        }
        None
    }

    /// A change of whole codons that takes the stop codon along.
    fn of_stop(&self, first: i64) -> Option<String> {
        for n in first..first + MAX_CODONS {
            let (Residue::Known(old), Residue::Known(new)) = (self.before(n), self.after(n)) else {
                return Some(UNKNOWN.into());
            };
            match (old, new) {
                (b'*', b'*') => return Some("p.(=)".into()),
                (old, new) if old == new => {}
                (b'*', new) => return Some(self.extension(n, new)),
                (_, b'*') => return Some(format!("p.({}Ter)", self.at(n)?)),
                _ => return Some(UNKNOWN.into()),
            }
        }
        None
    }

    /// Residues `old` from number `n` on become `new`.
    fn in_frame(&self, mut n: i64, old: &[u8], new: &[u8], codons: i64) -> Option<String> {
        let range = |from: i64, to: i64| -> Option<String> {
            Some(if from == to { self.at(from)? } else { format!("{}_{}", self.at(from)?, self.at(to)?) })
        };
        let len = old.len() as i64;
        match (old, new) {
            ([], []) if codons == 1 => Some(format!("p.({}=)", self.at(self.index / 3)?)),
            ([], []) => Some("p.(=)".into()),
            (&[_], &[alt]) => Some(format!("p.({}{})", self.at(n)?, three(alt))),
            (_, []) => {
                while self.before(n) == self.before(n + len)
                    && matches!(self.before(n), Residue::Known(r) if r != b'*')
                {
                    n += 1;
                }
                Some(format!("p.({}del)", range(n, n + len - 1)?))
            }
            ([], _) => {
                let mut inserted = new.to_vec();
                while self.before(n) == Residue::Known(inserted[0]) && inserted[0] != b'*' {
                    inserted.rotate_left(1);
                    n += 1;
                }
                let from = n - inserted.len() as i64;
                let twice =
                    from >= 0 && (from..n).zip(&inserted).all(|(i, &r)| self.before(i) == Residue::Known(r));
                match twice {
                    true => Some(format!("p.({}dup)", range(from, n - 1)?)),
                    false => Some(format!("p.({}ins{})", range(n - 1, n)?, listed(&inserted))),
                }
            }
            _ => Some(format!("p.({}delins{})", range(n, n + len - 1)?, listed(new))),
        }
    }
}

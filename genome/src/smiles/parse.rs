//! The grammar of OpenSMILES, in one pass without recursion.

use alloc::{collections::BTreeMap, vec::Vec};

use super::{AROMATIC, Atom, Bond, ELEMENTS, Molecule, Order};
use crate::TokenizerError;

const MARK: &str = "an atom, a bond, a branch, a ring closure or a dot";

impl Molecule {
    /// Reads SMILES, and its parts in the order of writing: joined, they are the text.
    pub(crate) fn parse_parts(text: &str) -> Result<(Self, Vec<&str>), TokenizerError> {
        let mut parser = Parser {
            text,
            at: 0,
            parts: Vec::new(),
            molecule: Self::default(),
            last: None,
            bond: None,
            branches: Vec::new(),
            rings: BTreeMap::new(),
            needs_atom: None,
        };
        while parser.at < text.len() {
            parser.step()?;
        }
        parser.end()?;
        Ok((parser.molecule, parser.parts))
    }
}

/// A ring closure that waits for its other end.
struct Open {
    atom: usize,
    bond: Option<Order>,
    offset: usize,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    parts: Vec<&'a str>,
    molecule: Molecule,
    /// The atom that the next one is bonded to.
    last: Option<usize>,
    /// A bond that waits for its atom.
    bond: Option<Order>,
    branches: Vec<(Option<usize>, usize)>,
    rings: BTreeMap<u8, Open>,
    /// Where the bracket, bond or dot stands that only an atom may follow.
    needs_atom: Option<usize>,
}

const fn syntax(offset: usize, reason: &'static str) -> TokenizerError {
    TokenizerError::Syntax { offset, reason }
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, len: usize) -> &'a str {
        let part = &self.text[self.at..self.at + len];
        self.parts.push(part);
        self.at += len;
        part
    }

    fn take_if(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.take(prefix.len());
        }
        found
    }

    fn unexpected(&self, expected: &'static str) -> TokenizerError {
        match self.rest().chars().next() {
            Some(got) => TokenizerError::Symbol { got, offset: self.at, expected },
            None => syntax(self.at, "got the end inside a bracket atom, expected ]"),
        }
    }

    /// Up to `most` digits as a number, `None` without any.
    fn number(&mut self, most: usize) -> Option<u32> {
        let mut number = None;
        for _ in 0..most {
            let Some(digit) = self.peek().filter(u8::is_ascii_digit) else { break };
            self.take(1);
            number = Some(number.unwrap_or(0) * 10 + u32::from(digit - b'0'));
        }
        number
    }

    fn step(&mut self) -> Result<(), TokenizerError> {
        let offset = self.at;
        match self.text.as_bytes()[offset] {
            b'[' => self.bracket_atom(),
            b'(' => {
                self.follows_atom("got a branch that follows no atom")?;
                self.take(1);
                self.branches.push((self.last, offset));
                self.needs_atom = Some(offset);
                Ok(())
            }
            b')' => {
                let before =
                    self.branches.pop().ok_or(syntax(offset, "got ) without its (")).map(|(atom, _)| atom)?;
                self.complete(offset)?;
                self.take(1);
                self.last = before;
                Ok(())
            }
            b'.' => {
                // A branch may begin with a dot.
                if self.bond.is_some() || self.last.is_none() {
                    return Err(syntax(offset, "got a dot that follows no atom"));
                }
                self.take(1);
                self.last = None;
                self.needs_atom = Some(offset);
                Ok(())
            }
            b'-' | b'/' | b'\\' => self.bond(Order::Single),
            b'=' => self.bond(Order::Double),
            b'#' => self.bond(Order::Triple),
            b'$' => self.bond(Order::Quadruple),
            b':' => self.bond(Order::Aromatic),
            b'~' => self.bond(Order::Any),
            b'0'..=b'9' | b'%' => self.ring_closure(),
            _ => self.bare_atom(),
        }
    }

    fn follows_atom(&self, reason: &'static str) -> Result<(), TokenizerError> {
        if self.needs_atom.is_some() || self.last.is_none() { Err(syntax(self.at, reason)) } else { Ok(()) }
    }

    fn complete(&self, offset: usize) -> Result<(), TokenizerError> {
        match self.needs_atom {
            Some(_) => Err(syntax(offset, "got the end of a chain, expected an atom")),
            None => Ok(()),
        }
    }

    fn bond(&mut self, order: Order) -> Result<(), TokenizerError> {
        // Escaped once too often, as some files are, and as RDKit reads it.
        if self.bond.is_some() && self.text[..self.at].ends_with('\\') && self.peek() == Some(b'\\') {
            self.take(1);
            return Ok(());
        }
        if self.last.is_none() || self.bond.is_some() {
            return Err(syntax(self.at, "got a bond that follows no atom"));
        }
        self.needs_atom = Some(self.at);
        self.bond = Some(order);
        self.take(1);
        Ok(())
    }

    fn bare_atom(&mut self) -> Result<(), TokenizerError> {
        const TWO: [&str; 2] = ["Cl", "Br"];
        const ONE: [&str; 9] = ["B", "C", "N", "O", "P", "S", "F", "I", "*"];
        let symbol = TWO.iter().chain(&ONE).chain(&AROMATIC[..6]).find(|s| self.rest().starts_with(**s));
        let symbol = symbol.ok_or_else(|| self.unexpected(MARK))?;
        self.take(symbol.len());
        self.add(atom_of(symbol));
        Ok(())
    }

    fn bracket_atom(&mut self) -> Result<(), TokenizerError> {
        self.take(1);
        self.number(3); // isotope
        let symbols = ELEMENTS.iter().chain(&AROMATIC).chain(&["*"]);
        let symbol = symbols.filter(|s| self.rest().starts_with(**s)).max_by_key(|s| s.len());
        let symbol = symbol.ok_or_else(|| self.unexpected("the symbol of an element"))?;
        self.take(symbol.len());
        if ["@TH", "@AL", "@SP", "@TB", "@OH"].into_iter().any(|class| self.take_if(class)) {
            self.number(2).ok_or_else(|| self.unexpected("the number of a stereo class"))?;
        } else if !self.take_if("@@") {
            self.take_if("@");
        }
        let hydrogens = if self.take_if("H") { self.number(1).unwrap_or(1) as u8 } else { 0 };
        let charge = self.charge()?;
        if self.take_if(":") {
            self.number(9).ok_or_else(|| self.unexpected("the number of an atom class"))?;
        }
        if !self.take_if("]") {
            return Err(self.unexpected("the next part of a bracket atom or ]"));
        }
        self.add(Atom { charge, hydrogens: Some(hydrogens), ..atom_of(symbol) });
        Ok(())
    }

    fn charge(&mut self) -> Result<i8, TokenizerError> {
        for (sign, unit) in [("+", 1), ("-", -1)] {
            if !self.take_if(sign) {
                continue;
            }
            let mut size = 1;
            while self.rest().starts_with(sign) {
                if size == 15 {
                    return Err(syntax(self.at, "got a charge beyond 15"));
                }
                self.take(1);
                size += 1;
            }
            if size == 1
                && let Some(number) = self.number(2)
            {
                size = number as i8;
            }
            return Ok(unit * size);
        }
        Ok(0)
    }

    fn add(&mut self, atom: Atom) {
        let index = self.molecule.atoms.len();
        self.molecule.atoms.push(atom);
        if let Some(last) = self.last {
            let order = self.bond.take().unwrap_or_else(|| self.implied(last, index));
            self.molecule.bonds.push(Bond { from: last, to: index, order });
        }
        self.last = Some(index);
        self.needs_atom = None;
    }

    fn implied(&self, a: usize, b: usize) -> Order {
        let aromatic = |i: usize| self.molecule.atoms[i].aromatic;
        if aromatic(a) && aromatic(b) { Order::Aromatic } else { Order::Single }
    }

    fn ring_closure(&mut self) -> Result<(), TokenizerError> {
        let offset = self.at;
        let reason = "got a ring closure that follows no atom";
        // A bond before it is the ring's; a bracket before it is not.
        let atom = match (self.last, self.needs_atom) {
            (Some(atom), None) => atom,
            (Some(atom), Some(_)) if self.bond.is_some() && !self.text[..offset - 1].ends_with('(') => atom,
            _ => return Err(syntax(offset, reason)),
        };
        let number = if self.take_if("%") {
            let start = self.at;
            let number = self.number(2);
            number
                .filter(|_| self.at == start + 2)
                .ok_or_else(|| syntax(offset, "got %, expected two digits after it"))?
        } else {
            self.number(1).unwrap_or(0)
        };
        let bond = self.bond.take();
        self.needs_atom = None;
        let Some(open) = self.rings.remove(&(number as u8)) else {
            self.rings.insert(number as u8, Open { atom, bond, offset });
            return Ok(());
        };
        let order = match (open.bond, bond) {
            (Some(a), Some(b)) if a != b => {
                return Err(syntax(offset, "got another bond than at the other end of the ring closure"));
            }
            (Some(order), _) | (None, Some(order)) => order,
            (None, None) => self.implied(open.atom, atom),
        };
        let bonded = |b: &Bond| (b.from, b.to) == (open.atom, atom) || (b.from, b.to) == (atom, open.atom);
        if open.atom == atom || self.molecule.bonds.iter().any(bonded) {
            return Err(syntax(offset, "got a ring closure between atoms that are bonded already"));
        }
        self.molecule.bonds.push(Bond { from: open.atom, to: atom, order });
        Ok(())
    }

    fn end(&self) -> Result<(), TokenizerError> {
        self.complete(self.at)?;
        if let Some((_, offset)) = self.branches.last() {
            return Err(syntax(*offset, "got ( without its )"));
        }
        match self.rings.values().next() {
            Some(open) => Err(syntax(open.offset, "got a ring closure without its other end")),
            None => Ok(()),
        }
    }
}

fn atom_of(symbol: &str) -> Atom {
    let element =
        |s: &str| ELEMENTS.iter().position(|e| e.eq_ignore_ascii_case(s)).map_or(0, |i| i as u8 + 1);
    let aromatic = symbol.starts_with(|c: char| c.is_ascii_lowercase());
    Atom { number: element(symbol), aromatic, charge: 0, hydrogens: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset_of(text: &str) -> usize {
        match Molecule::parse(text).unwrap_err() {
            TokenizerError::Syntax { offset, .. } | TokenizerError::Symbol { offset, .. } => offset,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn atoms_bonds_branches_and_rings_make_the_graph() {
        let m = Molecule::parse("CC(=O)Oc1ccccc1C(=O)O").unwrap();
        assert_eq!((m.atoms.len(), m.bonds.len()), (13, 13));
        assert_eq!(m.bonds.iter().filter(|b| b.order == Order::Aromatic).count(), 6);
        assert_eq!(m.bonds.iter().filter(|b| b.order == Order::Double).count(), 2);
        let ring = Molecule::parse("C=1CCCCC=1").unwrap();
        assert_eq!(ring.bonds[5], Bond { from: 0, to: 5, order: Order::Double });
        let salt = Molecule::parse("[Na+].[O-2].C(.C)C").unwrap();
        assert_eq!((salt.atoms[0].charge, salt.atoms[1].charge, salt.bonds.len()), (1, -2, 1));
        assert_eq!(
            Molecule::parse("[Fe+++]").unwrap().atoms[0],
            Atom { number: 26, aromatic: false, charge: 3, hydrogens: Some(0) }
        );
        assert_eq!(Molecule::parse("[nH]1cccc1").unwrap().atoms[0].hydrogens, Some(1));
        assert_eq!(Molecule::parse(r"F/C=C\\F").unwrap(), Molecule::parse(r"F/C=C\F").unwrap());
        assert_eq!(Molecule::parse("").unwrap(), Molecule::default());
    }

    #[test]
    fn what_is_not_smiles_is_refused_at_its_offset() {
        for (text, offset) in [
            ("CC(C", 2),
            ("CC)C", 2),
            ("C()C", 2),
            ("(C)C", 0),
            ("C((C))C", 2),
            ("C1CC", 1),
            ("1CC1", 0),
            ("C(1)C1", 2),
            ("C(=1)CC1", 3),
            ("C11", 2),
            ("C12CC12", 6),
            ("C=1CCCC#1", 8),
            ("C%1CC%1", 1),
            ("C==C", 2),
            ("=CC", 0),
            ("CC=", 3),
            ("CC-)", 3),
            ("C..C", 2),
            (".C", 0),
            ("CC.", 3),
            ("C=.C", 2),
            ("C[Xx]C", 2),
            ("C[CH3", 5),
            ("C[C+-]", 4),
            ("[C@TH]", 5),
            ("[CH2:]", 5),
            ("[]", 1),
            ("C>>C", 1),
            ("C C", 1),
            ("Cé", 1),
            ("[Cé]", 2),
            ("[C++++++++++++++++]", 17),
        ] {
            assert_eq!(offset_of(text), offset, "{text}");
        }
    }

    #[test]
    fn a_million_brackets_end_in_an_error_and_not_in_the_stack() {
        assert_eq!(offset_of(&"C(".repeat(1_000_000)), 2_000_000);
        assert!(Molecule::parse(&"C(C".repeat(100_000)).is_err());
    }
}

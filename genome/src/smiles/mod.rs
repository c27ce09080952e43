//! Molecules written as SMILES (Weininger 1988; OpenSMILES 1.0): atoms, bonds, branches, ring closures, stereo marks,
//! and scaffolds.

mod parse;

use alloc::{vec, vec::Vec};

use crate::TokenizerError;

/// Symbols of the elements, by atomic number from 1.
pub const ELEMENTS: [&str; 118] = [
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K",
    "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe",
    "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu",
    "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra",
    "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db",
    "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
];

/// Symbols of aromatic atoms.
pub const AROMATIC: [&str; 9] = ["b", "c", "n", "o", "p", "s", "se", "as", "te"];

/// One atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Atom {
    /// Atomic number; 0 for `*`.
    pub number: u8,
    /// Written in lower case.
    pub aromatic: bool,
    /// Formal charge.
    pub charge: i8,
    /// Hydrogens that brackets state; `None` outside brackets, where valence implies them.
    pub hydrogens: Option<u8>,
}

/// What holds two atoms together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// `-`, `/`, `\` or nothing.
    Single,
    /// `=`
    Double,
    /// `#`
    Triple,
    /// `$`
    Quadruple,
    /// `:`, or nothing between aromatic atoms.
    Aromatic,
    /// `~`
    Any,
}

/// One bond, by the indices of its atoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// The atom that was written first.
    pub from: usize,
    /// The other.
    pub to: usize,
    /// Its order.
    pub order: Order,
}

/// The graph of one or several molecules, without their stereochemistry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Molecule {
    /// Atoms in the order of writing.
    pub atoms: Vec<Atom>,
    /// Bonds in the order in which they became known.
    pub bonds: Vec<Bond>,
}

impl Molecule {
    /// Reads SMILES.
    ///
    /// # Errors
    /// What is not SMILES, with its offset.
    pub fn parse(text: &str) -> Result<Self, TokenizerError> {
        Ok(Self::parse_parts(text)?.0)
    }

    /// Bonded atoms and bond indices, by atom.
    pub fn neighbours(&self) -> Vec<Vec<(usize, usize)>> {
        let mut all = vec![Vec::new(); self.atoms.len()];
        for (index, bond) in self.bonds.iter().enumerate() {
            all[bond.from].push((bond.to, index));
            all[bond.to].push((bond.from, index));
        }
        all
    }
}

//! The alpha carbons of a PDB file.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use pdbtbx::{Format, ReadOptions, StrictnessLevel};

use super::Point;
use crate::{Error, Result, error::io_at};

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Columns up to the coordinates.
const COORDINATES: usize = 54;

/// A residue by its alpha carbon.
#[derive(Clone, Debug, PartialEq)]
pub struct Residue {
    /// Its number in the file.
    pub number: isize,
    /// Tells residues of one number apart.
    pub insertion: Option<String>,
    /// One-letter code; X where it is not one of the 20 or selenomethionine.
    pub code: u8,
    /// Alpha carbon, in ångström.
    pub at: Point,
}

/// The first chain of the first model.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// Residues with an alpha carbon, in their order.
    pub residues: Vec<Residue>,
}

impl Chain {
    /// Reads a PDB file.
    ///
    /// # Errors
    /// No such file, one of over 256 MiB, or one without an alpha carbon.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(io_at(path))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io_at(path))?;
        let refused = |got: String| Error::Data {
            what: path.display().to_string(),
            got,
            expected: "a PDB file of one protein chain or more, of 256 MiB at most".into(),
        };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(refused("a larger file".into()));
        }
        Self::parse(&String::from_utf8_lossy(&bytes)).map_err(refused)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let atoms = atoms(text)?;
        let mut options = ReadOptions::new();
        options.set_format(Format::Pdb).set_level(StrictnessLevel::Loose).set_only_first_model(true);
        let (pdb, _) = options.read_raw(BufReader::new(atoms.as_bytes())).map_err(|errors| {
            errors.first().map_or_else(String::new, |e| e.short_description().to_owned())
        })?;
        let chain = pdb.chains().next().ok_or("no atom")?;
        let residue = |r: &pdbtbx::Residue| {
            let at = r.atoms().find(|a| a.name() == "CA")?.pos();
            Some(Residue {
                number: r.serial_number(),
                insertion: r.insertion_code().map(str::to_owned),
                code: one_letter(r.conformers().next()?.name()),
                at: at.into(),
            })
        };
        let residues: Vec<Residue> = chain.residues().filter_map(residue).collect();
        if residues.is_empty() { Err("no alpha carbon".into()) } else { Ok(Self { residues }) }
    }

    /// One-letter codes.
    pub fn sequence(&self) -> Vec<u8> {
        self.residues.iter().map(|r| r.code).collect()
    }
}

/// The alpha carbons up to the end of the first chain, with what stands after the coordinates filled in: nothing of
/// it is used, and programs that write models leave it blank. What the parser would stumble over is refused.
fn atoms(text: &str) -> Result<String, String> {
    let mut out = String::new();
    for (n, line) in text.lines().enumerate() {
        if !out.is_empty() && (line.starts_with("TER") || line.starts_with("ENDMDL")) {
            break;
        }
        if !line.starts_with("ATOM") || line.get(12..16) != Some(" CA ") {
            continue;
        }
        let good = |columns: std::ops::Range<usize>, is: fn(u8) -> bool| {
            line.as_bytes().get(columns).is_some_and(|c| c.iter().all(|&b| is(b)))
        };
        if !good(0..COORDINATES, |b| (b' '..=b'~').contains(&b))
            || !good(30..COORDINATES, |b| b" +-.0123456789".contains(&b))
            || line[17..20].trim().is_empty()
        {
            return Err(format!("an alpha carbon that cannot be read in line {}", n + 1));
        }
        out.push_str(&line[..COORDINATES]);
        out.push_str("  1.00  0.00           C  \n");
    }
    Ok(out)
}

fn one_letter(name: &str) -> u8 {
    const NAMES: [(&str, u8); 21] = [
        ("ALA", b'A'),
        ("ARG", b'R'),
        ("ASN", b'N'),
        ("ASP", b'D'),
        ("CYS", b'C'),
        ("GLN", b'Q'),
        ("GLU", b'E'),
        ("GLY", b'G'),
        ("HIS", b'H'),
        ("ILE", b'I'),
        ("LEU", b'L'),
        ("LYS", b'K'),
        ("MET", b'M'),
        ("MSE", b'M'),
        ("PHE", b'F'),
        ("PRO", b'P'),
        ("SER", b'S'),
        ("THR", b'T'),
        ("TRP", b'W'),
        ("TYR", b'Y'),
        ("VAL", b'V'),
    ];
    NAMES.iter().find(|(n, _)| *n == name).map_or(b'X', |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "REMARK nothing\n\
        ATOM      1  N   ASP A   1       2.115   0.000  -1.232  1.00  1.00           N  \n\
        ATOM      2  CA  ASP A   1       2.115   0.000  -1.232  1.00  1.00           C  \n\
        ATOM     14  CA  TYR A   2       5.008  -2.464  -1.352  1.00\n\
        TER\n\
        ATOM     35  CA  LYS B   3       6.630  -3.310   2.007  1.00  1.00           C  \n";

    #[test]
    fn alpha_carbons_of_the_first_chain_are_read_even_where_columns_are_blank() {
        let chain = Chain::parse(TWO).unwrap();
        assert_eq!((chain.sequence(), chain.residues[1].number), (b"DY".to_vec(), 2));
        assert_eq!(chain.residues[1].at, [5.008, -2.464, -1.352]);
    }

    #[test]
    fn what_is_no_structure_is_refused_and_no_cut_or_changed_byte_ends_the_program() {
        for text in
            ["", "ATOM", "not a structure\n", "ATOM      2  CA  ASP A   1       x.115   0.000  -1.232"]
        {
            assert!(Chain::parse(text).is_err(), "{text}");
        }
        for at in 0..TWO.len() {
            let _ = Chain::parse(&TWO[..at]);
            for byte in ["\0", "é", " ", "-", "9", "Z"] {
                let mut changed = TWO.to_owned();
                changed.replace_range(at..=at, byte);
                let _ = Chain::parse(&changed);
            }
        }
    }
}

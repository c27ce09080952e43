//! Scores of simple baselines: what a model has to beat.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use crate::{Error, Result, error::io_at};

type Key = (String, u64, String, String);

/// Baseline scores by variant.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    names: Vec<String>,
    scores: HashMap<Key, Vec<f64>>,
}

impl Floors {
    /// Reads a table with columns chrom, pos, ref, alt, split, label and one column a baseline; plain or
    /// gzip.
    ///
    /// # Errors
    /// The file cannot be read, or is another table.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(io_at(path))?;
        let mut start = BufReader::new(file);
        let gzip = start.fill_buf().map_err(io_at(path))?.starts_with(&[0x1f, 0x8b]);
        let inner: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(start)) } else { Box::new(start) };
        let mut lines = BufReader::new(inner).lines();
        let wrong = |line: usize, got: &str| Error::Data {
            what: format!("{} line {line}", path.display()),
            got: got.chars().take(60).collect(),
            expected: "chrom, pos, ref, alt, split, label and a number per baseline, separated by tabs"
                .into(),
        };
        let header = lines.next().transpose().map_err(io_at(path))?.unwrap_or_default();
        let names: Vec<String> = header.split('\t').skip(6).map(str::to_owned).collect();
        if !header.starts_with("chrom\tpos\tref\talt\tsplit\tlabel\t") {
            return Err(wrong(1, &header));
        }
        let mut scores = HashMap::new();
        for (n, line) in lines.enumerate() {
            let line = line.map_err(io_at(path))?;
            let fields: Vec<&str> = line.split('\t').collect();
            let values: Option<Vec<f64>> =
                fields.get(6..).and_then(|v| v.iter().map(|f| f.parse().ok()).collect());
            match (values, fields.get(1).and_then(|p| p.parse().ok())) {
                (Some(values), Some(position)) if values.len() == names.len() => {
                    scores.insert(
                        (fields[0].to_owned(), position, fields[2].to_owned(), fields[3].to_owned()),
                        values,
                    );
                }
                _ => return Err(wrong(n + 2, &line)),
            }
        }
        Ok(Self { names, scores })
    }

    /// Names of the baselines.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Scores of a variant, one a baseline.
    pub fn of(&self, contig: &str, position: u64, ref_allele: &str, alt_allele: &str) -> Option<&[f64]> {
        let key = (contig.to_owned(), position, ref_allele.to_owned(), alt_allele.to_owned());
        self.scores.get(&key).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_and_another_one_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floors.tsv");
        let good = "chrom\tpos\tref\talt\tsplit\tlabel\ta\tb\nchr1\t5\tC\tT\tval\t1\t0.5\t0.25\n";
        std::fs::write(&path, good).unwrap();
        let floors = Floors::read(&path).unwrap();
        assert_eq!(floors.of("chr1", 5, "C", "T"), Some([0.5, 0.25].as_slice()));
        assert_eq!((floors.of("chr1", 5, "C", "A"), floors.names().len()), (None, 2));
        std::fs::write(&path, format!("{good}chr1\tx\tC\tT\tval\t1\t0.5\t0.25\n")).unwrap();
        assert!(Floors::read(&path).unwrap_err().to_string().contains("line 3"));
        std::fs::write(&path, "something else\n").unwrap();
        assert!(Floors::read(&path).is_err());
    }
}

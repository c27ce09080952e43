//! A generated panel.

use crate::{Result, commands::SourceFiles};

/// A generated panel: three files as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// FASTA.
    pub fasta: String,
    /// GFF3.
    pub gff3: String,
    /// VCF.
    pub vcf: String,
}

impl Panel {
    /// Writes the files.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, files: &SourceFiles) -> Result<()> {
        for (path, text) in [(&files.fasta, &self.fasta), (&files.gff3, &self.gff3), (&files.vcf, &self.vcf)] {
            crate::files::write_atomically(path, text.as_bytes())?;
        }
        Ok(())
    }
}

/// A panel.
pub fn generate(_genes: usize, _seed: u64) -> Panel {
    Panel { fasta: String::new(), gff3: String::new(), vcf: String::new() }
}

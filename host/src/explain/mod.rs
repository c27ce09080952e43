//! Why a model gives its answer: attributions, attention, in-silico mutagenesis, a picture, and a test of whether
//! the attributions are faithful.
//!
//! Everything is computed with the checkpoint's weights in f32 by candle, from the same rows and features that are
//! served.

mod attention;
mod deletion;
mod faithful;
mod gradients;
mod model;
mod mutagenesis;
mod picture;
mod quadrature;
mod subject;

use locus_genome::{InputMode, ReferencePack, Variant};

use crate::Result;

pub use attention::{Attention, attention, rollout};
pub use deletion::{Curves, deletion};
pub use faithful::{Faithfulness, ModeFaithfulness, test};
pub use gradients::{Attribution, integrated_gradients};
pub use model::Model;
pub use mutagenesis::{Scan, scan};
pub use picture::{Explanation, draw};
pub use subject::Subject;

/// Explains one variant in one mode.
///
/// # Errors
/// A variant that cannot be encoded or is outside of what the model can read.
pub fn explain<'a>(
    model: &Model,
    reference: &'a ReferencePack,
    variant: Variant,
    mode: InputMode,
) -> Result<Explanation<'a>> {
    let subject = Subject::new(model, reference, variant, mode)?;
    let pair = subject.pair();
    let attribution = integrated_gradients(model, &pair)?;
    let verdict = model.judge(mode, subject.encoded.consequence, attribution.logit as f32)?;
    Ok(Explanation {
        attention: attention(model, &pair)?,
        scan: scan(model, reference, &subject)?,
        attribution,
        verdict,
        subject,
    })
}

#[cfg(test)]
mod tests;

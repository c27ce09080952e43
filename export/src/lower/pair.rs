//! The pair model: reference and alternate rows are joined on the batch axis, so that one set of weights reads
//! both in one pass.

use locus_onnx::ModelProto;

use super::Lowering;
use crate::{ExportError, draft::int};

const INPUTS: [&str; 6] = ["ref_ids", "alt_ids", "ref_track", "alt_track", "ref_mask", "alt_mask"];

impl Lowering<'_> {
    pub(super) fn pair(mut self) -> Result<ModelProto, ExportError> {
        let [ids, track, mask] = ["ids", "track", "mask"].map(|what| {
            let both = [format!("ref_{what}"), format!("alt_{what}")];
            self.draft.node("Concat", &[&both[0], &both[1]], what, vec![int("axis", 0)])
        });
        let hidden = self.encoder([&ids, &track, &mask], "ref_ids")?;
        let logits = self.pair_head(&hidden)?;
        let features = self.config.n_features;
        self.finish("pair", &logits, &INPUTS, Some(features))
    }

    fn pair_head(&mut self, hidden: &str) -> Result<String, ExportError> {
        let c = self.config;
        let d = &mut self.draft;
        // Slices, not a Split: tract cannot tell that half of twice the batch is the batch.
        let (zero, one, end) =
            (d.longs("axis.0", &[0]), d.longs("axis.1", &[1]), d.longs("slice.end", &[i64::MAX]));
        let rows = d.node("Slice", &["shape", &zero, &one, &zero], "rows", vec![]);
        d.node("Slice", &[hidden, &zero, &rows, &zero], "head.ref", vec![]);
        d.node("Slice", &[hidden, &rows, &end, &zero], "head.alt", vec![]);
        let same = d.node("Equal", &["ref_ids", "alt_ids"], "head.same", vec![]);
        let differs = d.node("Not", &[&same], "head.differs", vec![]);
        let differs = d.cast(&differs, "head.differs.float");
        let attended = d.cast("ref_mask", "head.attended.float");
        let change = d.node("Sub", &["head.ref", "head.alt"], "head.change", vec![]);
        let size = d.node("Abs", &[&change], "head.change.size", vec![]);
        let differs = self.share(&differs, "head.differs.share");
        let attended = self.share(&attended, "head.attended.share");
        let pooled = [
            self.pool_row(&differs, "head.alt", "head.alt_at"),
            self.pool_row(&differs, &change, "head.change_at"),
            self.pool_row(&attended, &size, "head.mean_change"),
            self.pool_row(&attended, "head.ref", "head.mean_ref"),
        ];
        let dense = |n: &str| [format!("head.{n}")];
        // Rows of one token: ONNX Runtime makes a product of two axes and its bias one Gemm before it looks for codes,
        // and then writes the weights' floats out again for every answer.
        let features = self.draft.entered("features");
        let one = self.draft.longs("axis.1", &[1]);
        let features = self.draft.node("Unsqueeze", &[&features, &one], "head.features.row", vec![]);
        let y = self.linear(
            &features,
            &dense("features.dense1"),
            c.n_features,
            128,
            "head.features.dense1_input",
            "head.features.1",
        )?;
        let y = self.gelu(&y, "head.features.1.gelu", "head.features.2");
        let y = self.linear(
            &y,
            &dense("features.dense2"),
            128,
            64,
            "head.features.dense2_input",
            "head.features.2",
        )?;
        let features = self.gelu(&y, "head.features.2.gelu", "head.inner");
        let [a, b, m, r] = &pooled;
        let x = self.draft.node("Concat", &[a, b, m, r, &features], "head.input", vec![int("axis", -1)]);
        let x =
            self.linear(&x, &dense("dense"), 4 * c.hidden_size + 64, 128, "head.dense_input", "head.inner")?;
        let x = self.gelu_in_float(&x, "head.inner.gelu");
        // The last product is tiny and sets the logit: it stays float in every graph.
        let row = self.linear(&x, &dense("out"), 128, c.labels.len(), "", "head.logits")?;
        Ok(self.draft.node("Squeeze", &[&row, &one], "head.logits.of_row", vec![]))
    }
}

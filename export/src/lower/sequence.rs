//! The sequence model: one row a sequence, its reading frames pooled apart and read in every rotation.

use locus_onnx::{ModelProto, tensor_proto::DataType};

use super::Lowering;
use crate::{
    ExportError,
    draft::{int, ints},
};

const INPUTS: [&str; 3] = ["ids", "track", "mask"];
/// Width of the head's hidden layer.
const WIDTH: usize = 128;

impl Lowering<'_> {
    pub(super) fn sequence(mut self) -> Result<ModelProto, ExportError> {
        let hidden = self.encoder(INPUTS, "ids")?;
        let logits = self.sequence_head(&hidden)?;
        Ok(self.finish("sequence", &logits, &INPUTS, None))
    }

    fn sequence_head(&mut self, hidden: &str) -> Result<String, ExportError> {
        let c = self.config;
        let frames = c.frames.max(1);
        let means: Vec<String> = (1..=frames).map(|frame| self.frame_mean(hidden, frame, frames)).collect();
        let d = &mut self.draft;
        let (one, two) = (d.longs("axis.1", &[1]), d.longs("axis.2", &[2]));
        // The additive mask of attention, over the tokens instead of the keys.
        let padding = d.node("Unsqueeze", &["mask.scores", &two], "head.padding", vec![]);
        let shown = d.node("Add", &[hidden, &padding], "head.shown", vec![]);
        let keep = |axis: i64, keep: i64| vec![ints("axes", &[axis]), int("keepdims", keep)];
        let most = d.node("ReduceMax", &[&shown], "head.most", keep(1, 0));
        let zero = d.longs("axis.0", &[0]);
        let first = d.node("Slice", &[hidden, &zero, &one, &one], "head.first.row", vec![]);
        let first = d.node("Squeeze", &[&first, &one], "head.first", vec![]);
        let rotations: Vec<String> = (0..frames)
            .map(|by| {
                let pooled = (0..frames).map(|f| means[(f + by) % frames].as_str());
                let pooled: Vec<&str> = pooled.chain([most.as_str(), first.as_str()]).collect();
                let row = d.node("Concat", &pooled, &format!("head.rotation.{by}"), vec![int("axis", -1)]);
                d.node("Unsqueeze", &[&row, &one], &format!("{row}.row"), vec![])
            })
            .collect();
        let rotations: Vec<&str> = rotations.iter().map(String::as_str).collect();
        let x = d.node("Concat", &rotations, "head.input", vec![int("axis", 1)]);
        let dense = ["head.dense".to_owned()];
        let x =
            self.linear(&x, &dense, (frames + 2) * c.hidden_size, WIDTH, "head.dense_input", "head.inner")?;
        let x = self.gelu(&x, "head.inner.gelu");
        let x = self.draft.node("ReduceMax", &[&x], "head.best", keep(1, 0));
        // The last product is tiny and sets the logits: it stays float in every graph.
        let (table, labels) = (self.table.take(), c.labels.len());
        let logits = self.linear(&x, &["head.out".to_owned()], WIDTH, labels, "", "head.logits");
        self.table = table;
        logits
    }

    /// Mean hidden state [batch, H] over the attended tokens whose track code is `frame`; over all of them where
    /// there is one frame only.
    fn frame_mean(&mut self, hidden: &str, frame: usize, frames: usize) -> String {
        let name = format!("head.frame.{frame}");
        let d = &mut self.draft;
        let counted = if frames == 1 {
            "mask.float".to_owned()
        } else {
            let code = d.longs(&format!("{name}.code"), &[frame as i64]);
            let here = d.node("Equal", &["track", &code], &format!("{name}.here"), vec![]);
            let to_float = vec![int("to", DataType::Float as i64)];
            let here = d.node("Cast", &[&here], &format!("{name}.float"), to_float);
            d.node("Mul", &[&here, "mask.float"], &format!("{name}.attended"), vec![])
        };
        let share = self.share(&counted, &format!("{name}.share"));
        self.pool(&share, hidden, &name)
    }
}

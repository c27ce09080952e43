//! The sequence model: one row a sequence, its reading frames pooled apart and read in every rotation.

use locus_onnx::{ModelProto, tensor_proto::DataType};

use super::Lowering;
use crate::{
    ExportError,
    draft::{int, ints},
};

const INPUTS: [&str; 3] = ["ids", "track", "mask"];
/// What is pooled beside the frames.
const POOLED: usize = 4;
/// The token id that ends a sequence, fixed by the vocabulary ([SEP] = 3).
const SEP: i64 = 3;
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
        let mut token = |name: &str, from: &str, to: &str| {
            let row = d.node("Slice", &[hidden, from, to, &one], &format!("{name}.row"), vec![]);
            d.node("Squeeze", &[&row, &one], name, vec![])
        };
        let (class, first) = (token("head.class", &zero, &one), token("head.first", &one, &two));
        let last = self.last(hidden);
        let d = &mut self.draft;
        let rotations: Vec<String> = (0..frames)
            .map(|by| {
                let pooled = (0..frames).map(|f| means[(f + by) % frames].as_str());
                let pooled: Vec<&str> =
                    pooled.chain([&most, &class, &first, &last].map(String::as_str)).collect();
                let row = d.node("Concat", &pooled, &format!("head.rotation.{by}"), vec![int("axis", -1)]);
                d.node("Unsqueeze", &[&row, &one], &format!("{row}.row"), vec![])
            })
            .collect();
        let rotations: Vec<&str> = rotations.iter().map(String::as_str).collect();
        let x = d.node("Concat", &rotations, "head.input", vec![int("axis", 1)]);
        let dense = ["head.dense".to_owned()];
        let x = self.linear(
            &x,
            &dense,
            (frames + POOLED) * c.hidden_size,
            WIDTH,
            "head.dense_input",
            "head.inner",
        )?;
        let x = self.gelu(&x, "head.inner.gelu");
        let x = self.draft.node("ReduceMax", &[&x], "head.best", keep(1, 0));
        // The last product is tiny and sets the logits: it stays float in every graph.
        let (table, labels) = (self.table.take(), c.labels.len());
        let logits = self.linear(&x, &["head.out".to_owned()], WIDTH, labels, "", "head.logits");
        self.table = table;
        logits
    }

    /// Hidden state [batch, H] of the token before [SEP].
    fn last(&mut self, hidden: &str) -> String {
        let d = &mut self.draft;
        let (zero, one) = (d.longs("axis.0", &[0]), d.longs("axis.1", &[1]));
        let (less_one, end) = (d.longs("slice.less_one", &[-1]), d.longs("slice.end", &[i64::MAX]));
        let sep = d.longs("head.sep", &[SEP]);
        let next = d.node("Slice", &["ids", &one, &end, &one], "head.last.next", vec![]);
        let here = d.node("Equal", &[&next, &sep], "head.last.here", vec![]);
        let to_float = vec![int("to", DataType::Float as i64)];
        let here = d.node("Cast", &[&here], "head.last.float", to_float);
        let tokens = d.node("Slice", &[hidden, &zero, &less_one, &one], "head.last.tokens", vec![]);
        let share = self.share(&here, "head.last.share");
        self.pool(&share, &tokens, "head.last")
    }

    /// Mean hidden state [batch, H] over the attended tokens whose track code is `frame`; where there are no
    /// frames over the marked ones, and over all of them where the track says nothing.
    fn frame_mean(&mut self, hidden: &str, frame: usize, frames: usize) -> String {
        let name = format!("head.frame.{frame}");
        let d = &mut self.draft;
        let counted = if self.config.type_vocab_size == 1 {
            "mask.float".to_owned()
        } else {
            let marked = frames == 1;
            let code = d.longs(&format!("{name}.code"), &[if marked { 0 } else { frame as i64 }]);
            let mut here = d.node("Equal", &["track", &code], &format!("{name}.here"), vec![]);
            if marked {
                here = d.node("Not", &[&here], &format!("{name}.marked"), vec![]);
            }
            let to_float = vec![int("to", DataType::Float as i64)];
            let here = d.node("Cast", &[&here], &format!("{name}.float"), to_float);
            d.node("Mul", &[&here, "mask.float"], &format!("{name}.attended"), vec![])
        };
        let share = self.share(&counted, &format!("{name}.share"));
        self.pool(&share, hidden, &name)
    }
}

//! The sequence model: one row a sequence, its reading frames pooled apart and read in every rotation.

use locus_onnx::ModelProto;

use super::Lowering;
use crate::{ExportError, draft::int};

const INPUTS: [&str; 3] = ["ids", "track", "mask"];
/// What is pooled beside the frames.
const POOLED: usize = 4;
/// The token id that ends a sequence, fixed by the vocabulary ([SEP] = 3).
const SEP: i64 = 3;
/// Width of the head's hidden layer.
const WIDTH: usize = 128;
/// Totals over tokens are given in this many.
const TOTAL: f32 = 64.0;

impl Lowering<'_> {
    pub(super) fn sequence(mut self) -> Result<ModelProto, ExportError> {
        let hidden = self.encoder(INPUTS, "ids")?;
        let logits = self.sequence_head(&hidden)?;
        self.finish("sequence", &logits, &INPUTS, None)
    }

    fn sequence_head(&mut self, hidden: &str) -> Result<String, ExportError> {
        let c = self.config;
        let frames = c.frames.max(1);
        let counts: Vec<String> = (1..=frames).map(|frame| self.frame(frame, frames)).collect();
        let shares: Vec<String> =
            (1..=frames).zip(&counts).map(|(f, n)| self.share(n, &format!("head.frame.{f}.share"))).collect();
        let means: Vec<String> = (1..=frames)
            .zip(&shares)
            .map(|(frame, share)| self.pool(share, hidden, &format!("head.frame.{frame}")))
            .collect();
        let d = &mut self.draft;
        let two = d.longs("axis.2", &[2]);
        // The additive mask of attention, over the tokens instead of the keys.
        let padding = d.node("Unsqueeze", &["mask.scores", &two], "head.padding", vec![]);
        let shown = d.node("Add", &[hidden, &padding], "head.shown", vec![]);
        let most = d.over_tokens("ReduceMax", &shown, "head.most");
        let class = self.token(hidden, 0, "head.class");
        let first = self.token(hidden, 1, "head.first");
        let last_share = self.last_share();
        let last = self.last(&last_share, hidden, "head.last");
        let x = self.rotations(&means, &[&most, &class, &first, &last], "head.input");
        let dense = ["head.dense".to_owned()];
        let mut x = self.linear(
            &x,
            &dense,
            (frames + POOLED) * c.hidden_size,
            WIDTH,
            "head.dense_input",
            "head.inner",
        )?;
        if c.counted > 0 {
            let wide = self.wide(&counts, &shares, &last_share)?;
            x = self.draft.node("Add", &[&x, &wide], "head.inner.both", vec![]);
        }
        let x = self.gelu_in_float(&x, "head.inner.gelu");
        let x = self.draft.over_tokens("ReduceMax", &x, "head.best");
        // The last product is tiny and sets the logits: it stays float in every graph.
        let deep = self.linear(&x, &["head.out".to_owned()], WIDTH, c.labels.len(), "", "head.logits")?;
        let Some(path) = &c.wide else { return Ok(deep) };
        let wide = self.wide_path(path, &shares)?;
        Ok(self.draft.node("Add", &[&deep, &wide], "head.logits.both", vec![]))
    }

    /// The wide path's share [batch, frames, width] of the head's hidden layer. Its features have scales of their own,
    /// so it stays float in every graph.
    fn wide(&mut self, counts: &[String], shares: &[String], last: &str) -> Result<String, ExportError> {
        let c = self.config;
        let (table, features) = ("head.counted.table", c.wide_features());
        let values = self.get(table, &[c.vocab_size, c.counted])?;
        self.draft.floats(table, &[c.vocab_size, c.counted], &values);
        let known = self.draft.node("Gather", &[table, "ids"], "head.counted", vec![int("axis", 0)]);
        let mut pooled = Vec::new();
        for (f, (count, share)) in counts.iter().zip(shares).enumerate() {
            let name = format!("head.counted.{f}");
            let mean = self.pool(share, &known, &format!("{name}.mean"));
            let sum = self.pool(count, &known, &format!("{name}.whole"));
            let d = &mut self.draft;
            let (unit, two) = (d.floats("head.counted.unit", &[], &[TOTAL]), d.longs("axis.2", &[2]));
            let total = d.node("Div", &[&sum, &unit], &format!("{name}.total"), vec![]);
            let inside = d.node("Unsqueeze", &[count, &two], &format!("{name}.inside"), vec![]);
            let only = d.node("Mul", &[&known, &inside], &format!("{name}.only"), vec![]);
            let least = d.over_tokens("ReduceMin", &only, &format!("{name}.least"));
            pooled.push(d.node("Concat", &[&mean, &total, &least], &name, vec![int("axis", -1)]));
        }
        let first = self.token(&known, 1, "head.counted.first");
        let last = self.last(last, &known, "head.counted.last");
        let x = self.rotations(&pooled, &[&first, &last], "head.counted.input");
        let scale = self.vector("head.counted.scale", features)?;
        let shift = self.vector("head.counted.shift", features)?;
        let x = self.draft.node("Mul", &[&x, &scale], "head.counted.scaled", vec![]);
        let x = self.draft.node("Add", &[&x, &shift], "head.counted.features", vec![]);
        let wide = ["head.wide".to_owned()];
        self.linear(&x, &wide, features, WIDTH, "", "head.wide.product_and_bias")
    }

    /// `frames` [batch, H], and after them the `others`, joined in every rotation: [batch, frames, all].
    fn rotations(&mut self, frames: &[String], others: &[&str], output: &str) -> String {
        let d = &mut self.draft;
        let one = d.longs("axis.1", &[1]);
        let rotations: Vec<String> = (0..frames.len())
            .map(|by| {
                let pooled = (0..frames.len()).map(|f| frames[(f + by) % frames.len()].as_str());
                let pooled: Vec<&str> = pooled.chain(others.iter().copied()).collect();
                let row =
                    d.node("Concat", &pooled, &format!("{output}.rotation.{by}"), vec![int("axis", -1)]);
                d.node("Unsqueeze", &[&row, &one], &format!("{row}.row"), vec![])
            })
            .collect();
        let rotations: Vec<&str> = rotations.iter().map(String::as_str).collect();
        d.node("Concat", &rotations, output, vec![int("axis", 1)])
    }

    /// The token [batch, H] at place `at`.
    fn token(&mut self, x: &str, at: i64, output: &str) -> String {
        let d = &mut self.draft;
        let [from, to] = [at, at + 1].map(|n| d.longs(&format!("axis.{n}"), &[n]));
        let one = d.longs("axis.1", &[1]);
        let row = d.node("Slice", &[x, &from, &to, &one], &format!("{output}.row"), vec![]);
        d.node("Squeeze", &[&row, &one], output, vec![])
    }

    /// Weights [batch, tokens - 1] that are 1 at the token before [SEP].
    fn last_share(&mut self) -> String {
        let d = &mut self.draft;
        let one = d.longs("axis.1", &[1]);
        let end = d.longs("slice.end", &[i64::MAX]);
        let sep = d.longs("head.sep", &[SEP]);
        let next = d.node("Slice", &["ids", &one, &end, &one], "head.last.next", vec![]);
        let here = d.node("Equal", &[&next, &sep], "head.last.here", vec![]);
        let here = d.cast(&here, "head.last.float");
        self.share(&here, "head.last.share")
    }

    /// `x` [batch, H] at the token before [SEP].
    fn last(&mut self, share: &str, x: &str, output: &str) -> String {
        let d = &mut self.draft;
        let (zero, one) = (d.longs("axis.0", &[0]), d.longs("axis.1", &[1]));
        let less_one = d.longs("slice.less_one", &[-1]);
        let tokens = d.node("Slice", &[x, &zero, &less_one, &one], &format!("{output}.tokens"), vec![]);
        self.pool(share, &tokens, output)
    }

    /// 1 [batch, tokens] for the attended tokens whose track code is `frame`, 0 elsewhere; where there are no frames,
    /// for the marked ones, and for all of them where the track says nothing.
    fn frame(&mut self, frame: usize, frames: usize) -> String {
        let name = format!("head.frame.{frame}");
        let d = &mut self.draft;
        if self.config.type_vocab_size == 1 {
            return "mask.float".to_owned();
        }
        let marked = frames == 1;
        let code = d.longs(&format!("{name}.code"), &[if marked { 0 } else { frame as i64 }]);
        let mut here = d.node("Equal", &["track", &code], &format!("{name}.here"), vec![]);
        if marked {
            here = d.node("Not", &[&here], &format!("{name}.marked"), vec![]);
        }
        let here = d.cast(&here, &format!("{name}.float"));
        d.node("Mul", &[&here, "mask.float"], &format!("{name}.attended"), vec![])
    }
}

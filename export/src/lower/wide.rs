//! What a sequence head adds to its logits: the tables of a linear model, read by integer arithmetic on the ids. All of
//! it stays float in every graph.

use locus_onnx::tensor_proto::DataType;

use super::Lowering;
use crate::{ExportError, WidePath, draft::int};

impl Lowering<'_> {
    /// The wide path's logits [batch, labels]; `shares` are those of the marked tokens, of one frame.
    pub(super) fn wide_path(&mut self, path: &WidePath, shares: &[String]) -> Result<String, ExportError> {
        let (c, labels) = (self.config, self.config.labels.len());
        let Some(rows) = path.gram_rows() else {
            return Err(ExportError::Config {
                field: "wide",
                got: format!("{path:?}"),
                expected: "runs of 1 to 3 tokens, of 1 to 255 kinds",
            });
        };
        let mut sum = self.vector("head.linear.bias", labels)?;
        let parts = match path {
            WidePath::Grams { kinds, .. } => self.grams(&rows, *kinds + 1)?,
            WidePath::Substitutions => {
                let [share] = shares else {
                    return Err(ExportError::Config {
                        field: "frames",
                        got: c.frames.to_string(),
                        expected: "1 beside a wide path of substitutions",
                    });
                };
                vec![self.substitutions(share)?]
            }
        };
        for (n, part) in parts.iter().enumerate() {
            sum = self.draft.node("Add", &[part, &sum], &format!("head.linear.sum.{n}"), vec![]);
        }
        Ok(sum)
    }

    /// ln(1 + count) of each run of tokens, times its weights: of each length [batch, labels]. Runs with a token of kind
    /// 0, padding among them, have weights of 0.
    fn grams(&mut self, rows: &[usize], base: usize) -> Result<Vec<String>, ExportError> {
        let (vocabulary, labels) = (self.config.vocab_size, self.config.labels.len());
        let values = self.get("head.linear.kinds", &[vocabulary])?;
        let d = &mut self.draft;
        let table = d.floats("head.linear.kinds", &[vocabulary], &values);
        let kinds = d.node("Gather", &[&table, "ids"], "head.linear.kind", vec![int("axis", 0)]);
        let to_long = vec![int("to", DataType::Int64 as i64)];
        let kinds = d.node("Cast", &[&kinds], "head.linear.kind.number", to_long);
        let (mut runs, mut parts) = (kinds.clone(), Vec::new());
        for (shorter, &rows) in rows.iter().enumerate() {
            let name = format!("head.linear.grams.{}", shorter + 1);
            let values = self.get(&name, &[rows, labels])?;
            let d = &mut self.draft;
            let weights = d.floats(&name, &[rows, labels], &values);
            let (one, two) = (d.longs("axis.1", &[1]), d.longs("axis.2", &[2]));
            if shorter > 0 {
                let (zero, end) = (d.longs("axis.0", &[0]), d.longs("slice.end", &[i64::MAX]));
                let less_one = d.longs("slice.less_one", &[-1]);
                let from = d.longs(&format!("axis.{shorter}"), &[shorter as i64]);
                let base = d.longs("head.linear.base", &[base as i64]);
                let begun =
                    d.node("Slice", &[&runs, &zero, &less_one, &one], &format!("{name}.begun"), vec![]);
                let begun = d.node("Mul", &[&begun, &base], &format!("{name}.shifted"), vec![]);
                let next = d.node("Slice", &[&kinds, &from, &end, &one], &format!("{name}.next"), vec![]);
                runs = d.node("Add", &[&begun, &next], &format!("{name}.number"), vec![]);
            }
            let across = d.node("Unsqueeze", &[&runs, &one], &format!("{name}.across"), vec![]);
            let along = d.node("Unsqueeze", &[&runs, &two], &format!("{name}.along"), vec![]);
            let same = d.node("Equal", &[&along, &across], &format!("{name}.same"), vec![]);
            let same = d.cast(&same, &format!("{name}.same.float"));
            let count =
                d.node("ReduceSum", &[&same, &two], &format!("{name}.count"), vec![int("keepdims", 0)]);
            let unit = d.floats("mask.one", &[], &[1.0]);
            let more = d.node("Add", &[&count, &unit], &format!("{name}.more"), vec![]);
            let log = d.node("Log", &[&more], &format!("{name}.log"), vec![]);
            // Each of the equal runs brings its part of what all of them bring.
            let part = d.node("Div", &[&log, &count], &format!("{name}.part"), vec![]);
            let found =
                d.node("Gather", &[&weights, &runs], &format!("{name}.weights"), vec![int("axis", 0)]);
            parts.push(self.pool(&part, &found, &format!("{name}.logits")));
        }
        Ok(parts)
    }

    /// Mean over the marked tokens of what their track and id say together, and their place: [batch, labels].
    fn substitutions(&mut self, share: &str) -> Result<String, ExportError> {
        let (c, labels) = (self.config, self.config.labels.len());
        let pairs = c.type_vocab_size * c.vocab_size;
        let of_pairs = self.get("head.linear.pairs", &[pairs, labels])?;
        let of_places = self.get("head.linear.places", &[c.max_position_embeddings, labels])?;
        let d = &mut self.draft;
        let table = d.floats("head.linear.pairs", &[pairs, labels], &of_pairs);
        let places = d.floats("head.linear.places", &[c.max_position_embeddings, labels], &of_places);
        let base = d.longs("head.linear.base", &[c.vocab_size as i64]);
        let first = d.node("Mul", &["track", &base], "head.linear.replaced", vec![]);
        let pair = d.node("Add", &[&first, "ids"], "head.linear.pair", vec![]);
        let pair = d.node("Gather", &[&table, &pair], "head.linear.of_pair", vec![int("axis", 0)]);
        let zero = d.longs("axis.0", &[0]);
        let place = d.node("Slice", &[&places, &zero, "tokens", &zero], "head.linear.of_place", vec![]);
        let both = d.node("Add", &[&pair, &place], "head.linear.of_both", vec![]);
        Ok(self.pool(share, &both, "head.linear.logits"))
    }
}

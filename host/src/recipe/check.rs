//! What a recipe may say.

use super::{ModelPlan, PretrainPlan, Recipe};
use crate::{Error, Result, calibrate::Method};

impl Recipe {
    /// Refuses values with which a stage would fail, perhaps hours later, or do nothing.
    pub(super) fn check(&self) -> Result<()> {
        let (w, m, p, f) = (&self.window, &self.model, &self.pretrain, &self.finetune);
        let (c, e) = (&self.calibrate, &self.export);
        for (key, count) in [
            ("data.keep_one_in", self.data.keep_one_in),
            ("data.generated_genes", self.data.generated_genes.unwrap_or(1)),
            ("window.k", w.k),
            ("window.stride", w.stride),
            ("window.kmers", w.kmers),
            ("finetune.epochs", f.epochs as usize),
            ("finetune.validations", f.validations as usize),
            ("calibrate.range_records", c.range_records),
            ("export.parity_windows", e.parity_windows),
        ] {
            if count == 0 {
                return wrong(key, 0, "1 or more");
            }
        }
        for (key, value) in [("export.parity_tolerance", e.parity_tolerance)] {
            if !value.is_finite() || value <= 0.0 {
                return wrong(key, value.to_string(), "a number over 0");
            }
        }
        for (key, value) in [
            ("finetune.augment.track_dropout", f.augment.track_dropout),
            ("finetune.augment.crop_share", f.augment.crop_share),
            ("export.int8_budget", e.int8_budget),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return wrong(key, value.to_string(), "a share from 0 to 1");
            }
        }
        if let Some(d) = &f.distill
            && (d.teachers.is_empty() || !(d.share > 0.0 && d.share <= 1.0))
        {
            let got = format!("{} teachers, share {}", d.teachers.len(), d.share);
            return wrong("finetune.distill", got, "one teacher or more, and a share over 0, to 1");
        }
        if !(0.0..1.0).contains(&f.augment.feature_dropout) {
            let got = f.augment.feature_dropout.to_string();
            return wrong("finetune.augment.feature_dropout", got, "a share from 0 to under 1");
        }
        for (key, value) in [("calibrate.prior", c.prior)] {
            if value.is_nan() || value <= 0.0 || value >= 1.0 {
                return wrong(key, value.to_string(), "a share between 0 and 1, neither of them");
            }
        }
        check_name(&self.name, &self.version)?;
        check_buckets(&w.buckets, w.kmers)?;
        if w.crop_flank[0] > w.crop_flank[1] {
            return wrong("window.crop_flank", format!("{:?}", w.crop_flank), "fewest, then most bases");
        }
        m.check()?;
        p.check((w.k, w.stride))?;
        self.quantise.check()?;
        self.prune.as_ref().map_or(Ok(()), super::PrunePlan::check)?;
        f.train.check("finetune.train")?;
        if !(locus_engine::MIN_ANSWERED_ACCURACY..1.0).contains(&c.answered_accuracy) {
            let expected = "from 0.9, under which a box does not answer, to under 1";
            return wrong("calibrate.answered_accuracy", c.answered_accuracy.to_string(), expected);
        }
        if c.method == Method::Isotonic {
            let expected = "platt or temperature: a manifest holds no steps";
            return wrong("calibrate.method", c.method.to_string(), expected);
        }
        if !u32::try_from(e.golden).is_ok_and(|n| locus_engine::bundle::GOLDEN_VECTORS.contains(&n)) {
            return wrong("export.golden", e.golden.to_string(), "8 to 4,096, as a bundle may have");
        }
        Ok(())
    }
}

/// A value that cannot be.
pub(super) fn wrong<T>(key: &str, got: impl ToString, expected: &str) -> Result<T> {
    Err(Error::Recipe { key: key.into(), got: got.to_string(), expected: expected.into() })
}

/// Name and version of a model.
pub(super) fn check_name(name: &str, version: &str) -> Result<()> {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    if name.is_empty() || !name.bytes().all(letters) {
        return wrong("name", name, "letters, digits, hyphens and underscores");
    }
    if semver_like(version) { Ok(()) } else { wrong("version", version, "a semantic version such as 1.0.0") }
}

/// Padded lengths for rows of `kmers` tokens.
pub(super) fn check_buckets(buckets: &[usize], kmers: usize) -> Result<()> {
    let ascending = buckets.windows(2).all(|b| b[0] < b[1]);
    if ascending && buckets.last().is_some_and(|&b| b >= kmers.saturating_add(2)) {
        return Ok(());
    }
    let expected = "ascending lengths, the last at least window.kmers + 2";
    wrong("window.buckets", format!("{buckets:?}"), expected)
}

impl ModelPlan {
    pub(super) fn check(&self) -> Result<()> {
        let counts =
            [("hidden", self.hidden), ("layers", self.layers), ("heads", self.heads), ("ffn", self.ffn)];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return wrong(&format!("model.{key}"), 0, "1 or more");
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return wrong("model.hidden", self.hidden, "a width that model.heads divides");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("model.dropout", self.dropout, "from 0 to under 1");
        }
        Ok(())
    }
}

impl PretrainPlan {
    /// `k` and `stride` are those of the tokens.
    pub(super) fn check(&self, (k, stride): (usize, usize)) -> Result<()> {
        if self.mask_share.is_nan() || self.mask_share <= 0.0 || self.mask_share >= 1.0 {
            return wrong("pretrain.mask_share", self.mask_share, "a share between 0 and 1, neither of them");
        }
        if !(0.0..=1.0).contains(&self.track_dropout) {
            return wrong("pretrain.track_dropout", self.track_dropout, "a share from 0 to 1");
        }
        let shortest = if stride == 1 { k } else { 1 };
        if self.span[0] < shortest || self.span[0] > self.span[1] {
            let expected = format!(
                "shortest, then longest; a span of under {shortest} tokens of this stride hides no base"
            );
            return wrong("pretrain.span", format!("{:?}", self.span), &expected);
        }
        let o = &self.objectives;
        let weights = [o.mlm, o.next_segment, o.order];
        if weights.iter().any(|w| !w.is_finite() || *w < 0.0) || weights.iter().sum::<f64>() <= 0.0 {
            let expected = "weights of 0 or more, one of them over 0";
            return wrong("pretrain.objectives", format!("{weights:?}"), expected);
        }
        self.train.check("pretrain.train")?;
        if self.steps > 0 && self.train.warmup >= self.steps {
            return wrong("pretrain.train.warmup", self.train.warmup, "fewer than pretrain.steps");
        }
        Ok(())
    }
}

/// Whether a text begins with three numbers as a semantic version does; the manifest checks the rest.
fn semver_like(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u64>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn shipped(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
        fs::read_to_string(folder.join(name)).unwrap()
    }

    fn read(text: &str) -> Result<Recipe> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Recipe::read(file.path())
    }

    #[test]
    fn the_shipped_recipes_are_good() {
        read(&shipped("smoke.toml")).unwrap();
        read(&shipped("variant-effect.toml")).unwrap();
        read(&shipped("variant-effect-pruned.toml")).unwrap();
    }

    #[test]
    fn what_cannot_be_is_named_by_its_key() {
        // Key, the line that says it, and what it is changed to.
        for (key, line, wrong) in [
            ("name", "name = \"smoke\"", "name = \"a/b\""),
            ("version", "version = \"0.0.1\"", "version = \"1\""),
            ("window.stride", "stride = 1", "stride = 0"),
            ("window.buckets", "buckets = [32, 64]", "buckets = [64, 32]"),
            ("window.buckets", "buckets = [32, 64]", "buckets = [32, 62]"),
            ("model.hidden", "hidden = 32", "hidden = 33"),
            ("model.ffn", "ffn = 64", "ffn = 0"),
            ("model.dropout", "dropout = 0.1\n", "dropout = 1.0\n"),
            ("pretrain.train.warmup", "warmup = 10", "warmup = 40"),
            ("pretrain.train.learning_rate", "learning_rate = 1e-3", "learning_rate = 0.0"),
            ("pretrain.train.batch", "batch = 64", "batch = 0"),
            ("pretrain.train.accumulate", "clip = 1.0", "clip = 1.0\naccumulate = 65"),
            ("pretrain.train.layer_decay", "clip = 1.0", "clip = 1.0\nlayer_decay = 1.5"),
            ("pretrain.train.clip", "clip = 1.0", "clip = 0.0"),
            ("pretrain.mask_share", "mask_share = 0.2", "mask_share = 0.0"),
            ("pretrain.span", "span = [5, 9]", "span = [9, 5]"),
            ("finetune.train.learning_rate", "learning_rate = 2e-3", "learning_rate = nan"),
            ("finetune.validations", "validations = 1", "validations = 0"),
            ("finetune.augment.crop_share", "crop_share = 0.08", "crop_share = 1.5"),
            (
                "finetune.augment.feature_dropout",
                "crop_share = 0.08",
                "crop_share = 0.08\nfeature_dropout = 1.0",
            ),
            ("calibrate.prior", "prior = 0.35", "prior = 0.0"),
            ("calibrate.prior", "prior = 0.35", "prior = 1.0"),
            ("calibrate.answered_accuracy", "answered_accuracy = 0.90", "answered_accuracy = 0.5"),
            ("calibrate.method", "prior = 0.35", "prior = 0.35\nmethod = \"isotonic\""),
            ("export.golden", "golden = 32", "golden = 7"),
        ] {
            let recipe = shipped("smoke.toml");
            assert!(recipe.contains(line), "{line}");
            let error = read(&recipe.replacen(line, wrong, 1)).unwrap_err();
            assert!(matches!(&error, Error::Recipe { key: got, .. } if got == key), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_is_shown_with_its_line() {
        let text = shipped("smoke.toml").replacen("dropout = 0.1", "dropoot = 0.1", 1);
        let line = text.lines().position(|l| l.starts_with("dropoot")).unwrap() + 1;
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}")) && error.contains("dropoot"), "{error}");
    }
}

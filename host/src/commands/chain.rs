//! The chain of stages: what each is made from, what it leaves, and whether that still holds. A stage starts
//! only where every one before it is done for the same recipe and the same files, so that nothing is ever
//! trained, calibrated or bundled from what an older recipe left behind.

use std::{collections::BTreeMap, path::Path};

use super::Stage;
use crate::{
    Error, Recipe, Result,
    data::Encoding,
    distill::{self, DistillPlan},
    files,
    stage::{Run, StageRecord},
};

/// A stage that leaves files in the output folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Prepare,
    Pretrain,
    Finetune,
    Prune,
    Calibrate,
    Export,
}

const DATASET: (&str, &str) = ("dataset", "dataset.bin");
const MODEL: (&str, &str) = ("model", "best/model.safetensors");

impl Link {
    /// In the order in which they run.
    const ALL: [Self; 6] =
        [Self::Prepare, Self::Pretrain, Self::Finetune, Self::Prune, Self::Calibrate, Self::Export];

    /// The name of the command.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
            Self::Prune => "prune",
            Self::Calibrate => "calibrate",
            Self::Export => "export",
        }
    }

    /// Files of the output folder that it is made from, by role.
    const fn reads(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Prepare => &[],
            Self::Pretrain => &[DATASET],
            Self::Finetune => &[DATASET, ("pretrained", "pretrained/model.safetensors")],
            // What is pruned may lie elsewhere.
            Self::Prune => &[DATASET],
            Self::Calibrate => &[DATASET, MODEL],
            Self::Export => {
                &[DATASET, MODEL, ("ranges", "calibration.json"), ("probability", "probability.json")]
            }
        }
    }

    /// Files that it leaves there, beside what [`ChainRecipe::prepared`] says.
    const fn leaves(self) -> &'static [&'static str] {
        match self {
            Self::Prepare => &[],
            Self::Pretrain => &[
                "pretrained/model.safetensors",
                "pretrained/config.json",
                "pretrained/tokenizer.json",
                "pretrained/window.json",
            ],
            Self::Finetune | Self::Prune => {
                &["best/model.safetensors", "best/config.json", "best/tokenizer.json", "best/window.json"]
            }
            Self::Calibrate => &["probability.json", "calibration.json"],
            Self::Export => &["fp32.onnx", "int8.onnx", "int8-fp16.onnx", "export.json"],
        }
    }
}

/// A recipe whose stages form a chain.
pub(crate) trait ChainRecipe: Sized {
    /// Digests of the part of the recipe and of the files that a stage rests on, beside what it reads of the output
    /// folder.
    fn own_inputs(stage: &Stage<Self>, link: Link) -> Result<BTreeMap<String, String>>;

    /// Whether a stage belongs to the chain.
    fn has(&self, link: Link) -> bool {
        link != Link::Prune
    }

    /// Files that preparation leaves.
    fn prepared(&self) -> &'static [&'static str] {
        &["dataset.bin"]
    }
}

/// What fine-tuning leaves in a recipe whose best model is a pruned one.
const UNPRUNED: [&str; 4] =
    ["unpruned/model.safetensors", "unpruned/config.json", "unpruned/tokenizer.json", "unpruned/window.json"];

impl ChainRecipe for Recipe {
    fn has(&self, link: Link) -> bool {
        match link {
            Link::Pretrain | Link::Finetune => self.prune.as_ref().is_none_or(|plan| plan.from.is_none()),
            Link::Prune => self.prune.is_some(),
            _ => true,
        }
    }

    fn own_inputs(stage: &Stage, link: Link) -> Result<BTreeMap<String, String>> {
        let r = &stage.recipe;
        let part = match link {
            Link::Prepare => r.digest_of(&(&r.data.keep_one_in, r.data.generated_genes)),
            Link::Pretrain => r.digest_of(&(&r.pretrain, &r.model)),
            Link::Finetune => r.digest_of(&(&r.finetune, &r.model)),
            Link::Prune => r.digest_of(&(&r.prune, r.finetune.augment, &r.model)),
            // Ranges are measured on batches as training draws them.
            Link::Calibrate => {
                let budget = r.export.int8_budget;
                r.digest_of(&(&r.calibrate, &r.quantise, budget, r.finetune.train.batch, r.finetune.augment))
            }
            Link::Export => r.digest_of(&(&r.export, r.quantise.flips_budget)),
        };
        let mut all = BTreeMap::from([("recipe".to_owned(), part)]);
        if link == Link::Prepare {
            let encoding = Encoding::of(&r.window);
            all.insert("encoding".into(), encoding.version.to_string());
            all.insert("features".into(), encoding.features_sha256);
            let sources = stage.sources();
            for (role, path) in [("fasta", sources.fasta), ("gff3", sources.gff3), ("vcf", sources.vcf)] {
                all.insert(role.into(), files::sha256(&path)?);
            }
        }
        if let (Link::Finetune, Some(distill)) = (link, &r.finetune.distill) {
            all.extend(distill.digests()?);
        }
        if let (Link::Prune, Some(plan)) = (link, &r.prune) {
            let start = match &plan.from {
                Some(path) => distill::digest(path)?,
                None => files::sha256(&stage.run.at(UNPRUNED[0]))?,
            };
            all.insert("start".into(), start);
            all.extend(plan.distill.as_ref().map_or_else(|| Ok(Vec::new()), DistillPlan::digests)?);
        }
        if let (Link::Pretrain, Some(from)) = (link, &r.pretrain.from) {
            all.insert("from".into(), files::sha256(&from.join(super::pretrain::MODEL))?);
        }
        Ok(all)
    }
}

#[allow(private_bounds, reason = "the recipes of the chain are these")]
impl<R: ChainRecipe> Stage<R> {
    /// Digests of everything that a stage is made from, as it is now.
    pub(crate) fn made_from(&self, link: Link) -> Result<BTreeMap<String, String>> {
        let mut all = R::own_inputs(self, link)?;
        for (role, name) in link.reads() {
            all.insert((*role).to_owned(), files::sha256(&self.run.at(name))?);
        }
        Ok(all)
    }

    /// Files that a stage leaves.
    fn leaves(&self, link: Link) -> &'static [&'static str] {
        match link {
            Link::Prepare => self.recipe.prepared(),
            Link::Finetune if self.recipe.has(Link::Prune) => &UNPRUNED,
            _ => link.leaves(),
        }
    }

    /// Why a stage is not done for this recipe and these files; `None` where it is.
    pub(crate) fn undone(&self, link: Link) -> Result<Option<String>> {
        undone(&self.run, link.name(), self.leaves(link), || self.made_from(link))
    }

    /// Whether a stage has nothing to do; then says so. Only a stage that trains runs over several ranks.
    pub(crate) fn done_before(&self, link: Link) -> Result<bool> {
        if !matches!(link, Link::Pretrain | Link::Finetune) {
            self.run.ranks().expect_alone(link.name())?;
        }
        let done = self.undone(link)?.is_none();
        if done {
            complain!("{}: done before", link.name());
        }
        Ok(done)
    }

    /// Refuses to let `asking` start unless every stage before it is done; one that is no stage comes last.
    pub(crate) fn require_before(&self, asking: &'static str) -> Result<()> {
        let before = Link::ALL.into_iter().take_while(|link| link.name() != asking);
        for link in before.filter(|link| self.recipe.has(*link)) {
            if let Some(reason) = self.undone(link)? {
                return Err(Error::Undone { stage: asking, needs: link.name(), reason });
            }
        }
        Ok(())
    }

    /// Says that a stage ended; of several ranks the first one does.
    pub(crate) fn finish(
        &self,
        link: Link,
        inputs: BTreeMap<String, String>,
        figures: BTreeMap<String, f64>,
    ) -> Result<()> {
        finish(&self.run, link.name(), self.leaves(link), inputs, figures)
    }
}

/// Why the stage `name` is not done for what it is made from now; `None` where it is.
pub(crate) fn undone(
    run: &Run,
    name: &str,
    leaves: &[&str],
    made_from: impl FnOnce() -> Result<BTreeMap<String, String>>,
) -> Result<Option<String>> {
    let Some(record) = run.record(name) else {
        return Ok(Some("it has not ended".into()));
    };
    let now = made_from()?;
    let other = |role: &&String| record.inputs.get(*role) != now.get(*role);
    if let Some(role) = now.keys().chain(record.inputs.keys()).find(other) {
        return Ok(Some(format!("its {role} is another one by now")));
    }
    for name in leaves {
        if record.outputs.get(*name) != digest(&run.at(name))?.as_ref() {
            return Ok(Some(format!("{name} is not what it left")));
        }
    }
    Ok(None)
}

/// Says that the stage `name` ended.
pub(crate) fn finish(
    run: &Run,
    name: &str,
    leaves: &[&str],
    inputs: BTreeMap<String, String>,
    figures: BTreeMap<String, f64>,
) -> Result<()> {
    if !run.ranks().is_first() {
        return Ok(());
    }
    let digest_of = |name: &&str| Ok(((*name).to_owned(), files::sha256(&run.at(name))?));
    let outputs = leaves.iter().map(digest_of).collect::<Result<_>>()?;
    run.finish(name, &StageRecord { inputs, outputs, figures })
}

/// SHA-256 of a file; `None` without one.
fn digest(path: &Path) -> Result<Option<String>> {
    path.exists().then(|| files::sha256(path)).transpose()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn smoke() -> Recipe {
        Recipe::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml")).unwrap()
    }

    /// A folder in which every stage is done, without any training.
    fn done(folder: &Path) -> Stage {
        done_for(smoke(), folder)
    }

    fn done_for(recipe: Recipe, folder: &Path) -> Stage {
        let stage = Stage { recipe, run: Run::open(folder).unwrap(), onnxruntime: None };
        let sources = stage.sources();
        for path in [sources.fasta, sources.gff3, sources.vcf] {
            files::write_atomically(&path, b"source").unwrap();
        }
        for link in Link::ALL.into_iter().filter(|link| stage.recipe.has(*link)) {
            let inputs = stage.made_from(link).unwrap();
            for name in stage.leaves(link) {
                files::write_atomically(&stage.run.at(name), name.as_bytes()).unwrap();
            }
            stage.finish(link, inputs, BTreeMap::new()).unwrap();
        }
        stage
    }

    fn refusal(stage: &Stage) -> String {
        stage.require_before("bundle create").unwrap_err().to_string()
    }

    #[test]
    fn what_another_recipe_left_is_never_bundled() {
        let folder = tempfile::tempdir().unwrap();
        let mut stage = done(folder.path());
        stage.require_before("bundle create").unwrap();
        stage.recipe.finetune.epochs += 1;
        assert!(refusal(&stage).contains("run locus finetune"), "{}", refusal(&stage));
        stage.require_before("finetune").unwrap();
        stage.recipe.finetune.epochs -= 1;
        stage.recipe.pretrain.steps += 1;
        assert!(refusal(&stage).contains("run locus pretrain"), "{}", refusal(&stage));
        stage.recipe.pretrain.steps -= 1;
        stage.recipe.seed += 1;
        assert!(refusal(&stage).contains("run locus prepare"), "{}", refusal(&stage));
    }

    #[test]
    fn files_that_changed_since_undo_the_stages_that_read_or_left_them() {
        for (name, needs) in [
            ("panel/panel.fa", "prepare"),
            ("dataset.bin", "prepare"),
            ("pretrained/config.json", "pretrain"),
            ("best/model.safetensors", "finetune"),
            ("calibration.json", "calibrate"),
            ("fp32.onnx", "export"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let stage = done(folder.path());
            fs::write(stage.run.at(name), b"cut").unwrap();
            assert!(refusal(&stage).contains(&format!("run locus {needs}")), "{name}: {}", refusal(&stage));
            if name != "panel/panel.fa" {
                fs::remove_file(stage.run.at(name)).unwrap();
                assert!(refusal(&stage).contains(&format!("run locus {needs}")), "{name}");
            }
        }
    }

    #[test]
    fn a_recipe_that_prunes_has_a_stage_more_and_nothing_else_is_another_one() {
        let plan: crate::recipe::PrunePlan = toml::from_str(
            "epochs = 1\nsteps = [{ heads = 0.5, ffn = 0.5 }]\n[train]\nbatch = 8\nlearning_rate = 1e-3\n\
             warmup = 1\nweight_decay = 0.0\nclip = 1.0",
        )
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let plain = done(folder.path());
        let before: Vec<_> = Link::ALL[..3].iter().map(|l| plain.made_from(*l).unwrap()).collect();
        assert!(!serde_json::to_string(&plain.recipe).unwrap().contains("prune"));
        drop(plain);
        let mut stage = done_for(Recipe { prune: Some(plan), ..smoke() }, folder.path());
        let after: Vec<_> = Link::ALL[..3].iter().map(|l| stage.made_from(*l).unwrap()).collect();
        assert_eq!(before, after);
        stage.require_before("bundle create").unwrap();
        fs::write(stage.run.at("unpruned/model.safetensors"), b"cut").unwrap();
        assert!(refusal(&stage).contains("run locus finetune"), "{}", refusal(&stage));
        fs::write(stage.run.at("unpruned/model.safetensors"), b"unpruned/model.safetensors").unwrap();
        stage.recipe.prune.as_mut().unwrap().epochs = 2;
        assert!(refusal(&stage).contains("run locus prune"), "{}", refusal(&stage));
        // A model from elsewhere is not trained here.
        let start = folder.path().join("start.locus");
        fs::write(&start, b"a bundle").unwrap();
        stage.recipe.prune.as_mut().unwrap().from = Some(start.clone());
        fs::remove_file(stage.run.at("finetune.stage.json")).unwrap();
        assert!(refusal(&stage).contains("run locus prune"), "{}", refusal(&stage));
        let made_from = stage.made_from(Link::Prune).unwrap();
        stage.finish(Link::Prune, made_from, BTreeMap::new()).unwrap();
        stage.require_before("bundle create").unwrap();
        fs::write(&start, b"another").unwrap();
        assert!(refusal(&stage).contains("its start is another one"), "{}", refusal(&stage));
    }

    #[test]
    fn an_encoding_of_another_version_is_another_dataset() {
        let folder = tempfile::tempdir().unwrap();
        let stage = done(folder.path());
        for role in ["encoding", "features"] {
            let mut older = stage.made_from(Link::Prepare).unwrap();
            older.insert(role.into(), "older".into());
            stage.finish(Link::Prepare, older, BTreeMap::new()).unwrap();
            assert!(refusal(&stage).contains(role), "{}", refusal(&stage));
        }
    }
}

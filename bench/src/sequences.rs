//! Quality of the sequence models: each recipe trained with several seeds, on validation and, asked for, on test, with
//! the floors beside.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use locus_host::{
    recipe::SequenceRecipe,
    sequence::{
        Target, prepare,
        split::{Unit, folds},
    },
};
use locus_tests::{program, root};
use serde_json::Value;

use crate::figures::{Figure, Machine, Results};

/// Seed of the first run; the others follow it.
const FIRST_SEED: u64 = 20_261_125;
/// Seeds where nothing is said.
const SEEDS: u64 = 3;
const STAGES: [&str; 4] = ["prepare", "pretrain", "finetune", "calibrate"];

/// What is reported of a recipe.
struct Task {
    name: &'static str,
    title: &'static str,
    /// Figure, its bar, and the published or given floor beside it.
    figures: &'static [(&'static str, &'static str)],
    about: &'static str,
    /// Folds of a cross-validation beside the split of the recipe, whole groups together; 0 for none.
    folds: usize,
}

const TASKS: [Task; 7] = [
    Task {
        name: "coding",
        title: "Human exon against non-coding",
        figures: &[
            ("auroc", "bar 0.975; 4-mer logistic regression 0.950 on test"),
            ("accuracy", "bar 0.93; 4-mer logistic regression 0.888 on test"),
            ("mcc", "4-mer logistic regression 0.777 on test"),
            ("ece", "no bar"),
        ],
        about: "Coding parts of exons against introns and flanks of the same length, split by chromosome.",
        folds: 0,
    },
    Task {
        name: "human-cds",
        title: "Human CDS against non-coding transcript",
        figures: &[
            ("auroc", "bar 0.975; 4-mer logistic regression 0.946 on test"),
            ("accuracy", "bar 0.93; 4-mer logistic regression 0.876 on test"),
            ("mcc", "4-mer logistic regression 0.752 on test"),
            ("ece", "no bar"),
        ],
        about: "Coding parts of transcripts against untranslated ends and long non-coding RNA of the same length, split by chromosome.",
        folds: 0,
    },
    Task {
        name: "bacteria",
        title: "Bacterial CDS against intergenic",
        figures: &[
            ("auroc", "bar 0.96; 4-mer logistic regression 0.925 on test"),
            ("accuracy", "4-mer logistic regression 0.854 on test"),
        ],
        about: "Trained and validated on one species, tested on others.",
        folds: 0,
    },
    Task {
        name: "uci-splice",
        title: "UCI splice junctions",
        figures: &[
            ("error", "bar 0.045; KBANN 0.063 (mean of 10-fold cross-validation)"),
            ("auroc", "no bar"),
        ],
        about: "Donor, acceptor or neither in the middle of 60 bases; split by the first part of a record's name, its gene.",
        folds: 10,
    },
    Task {
        name: "bace",
        title: "BACE",
        figures: &[("auroc", "bar: above logistic regression on token 3-grams")],
        about: "Inhibition of beta-secretase 1 from SMILES; scaffolds are split whole. Tried on validation, in this order: the encoder alone (0.61), token counts in its head (0.66), and n-grams of 1 to 3 tokens beside it (0.708 to 0.713 with rates of 1e-4 to 5e-4; chosen). The encoder alone had been read on test before (0.717).",
        folds: 0,
    },
    Task {
        name: "bbbp",
        title: "BBBP",
        figures: &[("auroc", "bar: above logistic regression on token 3-grams")],
        about: "Passage of the blood-brain barrier from SMILES; scaffolds are split whole. Tried on validation, in this order: the encoder alone (0.96), token counts in its head (0.97), and n-grams of 1 to 3 tokens beside it (0.975 to 0.976 with rates of 1e-4 to 5e-4; chosen). The encoder alone had been read on test before (0.667).",
        folds: 0,
    },
    Task {
        name: "tem1",
        title: "TEM-1 scan",
        figures: &[("spearman", "bar: above BLOSUM62")],
        about: "Fitness of single changes of TEM-1 beta-lactamase; positions are split whole. Tried on validation, in this order: the encoder alone (0.42), and substitutions beside it with a rate of 2e-3 (0.55), 3e-4 (0.63, one epoch) and 1e-4 (0.62; chosen). Features were chosen in cross-validation by position on train, and on validation. The encoder alone had been read on test before (0.250).",
        folds: 0,
    },
];

/// `locus-bench sequences`
#[derive(Args)]
pub(crate) struct SequencesArguments {
    /// Recipes by name, such as `coding`; all of them where none is named
    #[arg(long = "task")]
    tasks: Vec<String>,
    /// Trainings of each, with following seeds
    #[arg(long, default_value_t = SEEDS)]
    seeds: u64,
    /// Reads the test split too: once per trained model, written down in the run's test-reads.jsonl
    #[arg(long)]
    test: bool,
    /// Folder of the trainings, which go on where they stopped
    #[arg(long, default_value = "runs/sequences")]
    runs: PathBuf,
    /// Folder of the results, one file per task
    #[arg(long, default_value = "bench/results")]
    out: PathBuf,
}

impl SequencesArguments {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.seeds > 0, "--seeds: got 0, expected 1 or more");
        if let Some(name) = self.tasks.iter().find(|name| TASKS.iter().all(|t| t.name != **name)) {
            let names = TASKS.map(|t| t.name).join(", ");
            bail!("--task: got {name}, expected one of {names}");
        }
        for task in TASKS.iter().filter(|t| self.tasks.is_empty() || self.tasks.iter().any(|n| n == t.name)) {
            self.task(task)?;
        }
        Ok(())
    }

    fn task(&self, task: &Task) -> Result<()> {
        let mut reports: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for seed in (FIRST_SEED..).take(self.seeds as usize) {
            let run = root().join(&self.runs).join(format!("{}-{seed}", task.name));
            let recipe = recipe(task.name, seed, &run, |_| ())?;
            train(&recipe, &run)?;
            reports.entry("validation").or_default().push(evaluate(&recipe, &run, "val")?);
            if self.test {
                reports.entry("test").or_default().push(evaluate(&recipe, &run, "test")?);
            }
        }
        let (date, machine) = (time::OffsetDateTime::now_utc().date().to_string(), Machine::this());
        let mut command = format!("cargo run -p locus-bench -- sequences --task {}", task.name);
        if self.seeds != SEEDS {
            write!(command, " --seeds {}", self.seeds)?;
        }
        if self.test {
            command += " --test";
        }
        let mut figures = Vec::new();
        for (split, reports) in &reports {
            let records = reports[0]["records"].as_u64().unwrap_or(0);
            let mut add = |name: &str, values: &[f64], beside: &str| {
                let (value, spread) = mean_and_spread(values);
                figures.push(Figure {
                    name: name.to_owned(),
                    value,
                    unit: "",
                    spread: format!("{spread}; {records} records"),
                    command: command.clone(),
                    seed: Some(FIRST_SEED),
                    date: date.clone(),
                    machine: machine.clone(),
                    beside: Some(beside.to_owned()),
                });
            };
            for (figure, beside) in task.figures {
                add(&format!("{figure}, {split}"), &values(reports, &["figures", figure])?, beside);
                let floors = reports[0]["floors"].as_object().context("floors of a report")?;
                for floor in floors.iter().filter(|(_, f)| f.get(figure).is_some()).map(|(name, _)| name) {
                    let values = values(reports, &["floors", floor, figure])?;
                    add(&format!("{figure}, {split}, floor: {floor}"), &values, "a floor");
                }
            }
        }
        if self.test && task.folds > 0 {
            let shares = cross_validate(task, &self.runs)?;
            let (value, _) = mean_and_spread(&shares);
            let (low, high) = range(&shares);
            figures.push(Figure {
                name: format!("error, {}-fold cross-validation by gene", task.folds),
                value,
                unit: "",
                spread: format!("{low:.4} to {high:.4} in {} folds, one seed", shares.len()),
                command: command.clone(),
                seed: Some(FIRST_SEED),
                date,
                machine,
                beside: Some("bar 0.045; KBANN 0.063 in 10 folds".into()),
            });
        }
        let looks: u64 = reports
            .get("test")
            .map_or(0, |all| all.iter().map(|r| r["test_reads"].as_u64().unwrap_or(0)).sum());
        let about = format!(
            "{} Validation chose checkpoint and settings and fitted the probabilities; test was read {looks} times, once for each model that its folder holds. Seeds {FIRST_SEED} and following.",
            task.about
        );
        let path = root().join(&self.out).join(format!("{}.json", task.name));
        Results { title: task.title, about, figures }.write(&path)
    }
}

/// Writes the recipe of a task with a seed of its own, changed; gives its place.
fn recipe(task: &str, seed: u64, run: &Path, change: impl Fn(&mut toml::Table)) -> Result<PathBuf> {
    fs::create_dir_all(run)?;
    let text = fs::read_to_string(root().join(format!("recipes/{task}.toml")))?;
    let mut table: toml::Table = toml::from_str(&text)?;
    table.insert("seed".into(), toml::Value::Integer(i64::try_from(seed)?));
    if let Some(data) = table.get_mut("data").and_then(toml::Value::as_table_mut) {
        change(data);
    }
    let recipe = run.join("recipe.toml");
    fs::write(&recipe, toml::to_string(&table)?)?;
    Ok(recipe)
}

/// Trains a recipe, or goes on with it.
fn train(recipe: &Path, run: &Path) -> Result<()> {
    for stage in STAGES {
        let status =
            program("locus").current_dir(root()).arg(stage).arg(recipe).arg("--out").arg(run).status()?;
        ensure!(status.success(), "locus {stage} {} failed", recipe.display());
    }
    Ok(())
}

/// Share of each fold's records that are answered wrongly by the model that did not see the fold; validation is the
/// fold after it. The folds hold the records of every split.
fn cross_validate(task: &Task, runs: &Path) -> Result<Vec<f64>> {
    let whole = SequenceRecipe::read(&root().join(format!("recipes/{}.toml", task.name)))?;
    let folder =
        if whole.data_root().is_absolute() { whole.data_root() } else { root().join(whole.data_root()) };
    let set = prepare(&whole.data, &folder)?;
    let texts =
        (0..set.records.len()).map(|i| Ok(set.sequence(i)?.into_owned())).collect::<Result<Vec<_>>>()?;
    let units: Vec<Unit<'_>> = set
        .records
        .iter()
        .zip(&texts)
        .map(|(r, text)| Unit { text, class: 0, group: r.group.as_deref().unwrap_or(&r.name) })
        .collect();
    let folds = folds(&units, task.folds, whole.data.split.seed);
    let mut errors = Vec::new();
    for fold in 0..task.folds {
        let run = root().join(runs).join(format!("{}-fold-{fold}", task.name));
        fs::create_dir_all(&run)?;
        let mut table = String::from("label\tinstance\tsequence\tsplit\n");
        for ((record, unit), &of) in set.records.iter().zip(&units).zip(&folds) {
            let Target::Class(class) = record.target else { bail!("{}: expected classes", task.name) };
            let split = match of {
                _ if of == fold => "test",
                _ if of == (fold + 1) % task.folds => "val",
                _ => "train",
            };
            let class = &set.classes[usize::from(class)];
            writeln!(table, "{class}\t{}\t{}\t{split}", unit.group, unit.text)?;
        }
        let file = run.join("records.tsv");
        fs::write(&file, table)?;
        let recipe = recipe(task.name, FIRST_SEED, &run, |data| {
            let path = toml::Table::from_iter([("path".into(), file.display().to_string().into())]);
            data.insert("files".into(), toml::Value::Array(vec![path.into()]));
            let field = toml::Table::from_iter([("field".into(), "split".into())]);
            let split = [("field".into(), field.into()), ("halve_validation".into(), false.into())];
            data.insert("split".into(), toml::Table::from_iter(split).into());
        })?;
        train(&recipe, &run)?;
        errors.push(evaluate(&recipe, &run, "test")?);
    }
    let counts =
        errors.iter().map(|r| r["records"].as_f64().context("records")).collect::<Result<Vec<_>>>()?;
    let shares = values(&errors, &["figures", "error"])?;
    ensure!(counts.iter().sum::<f64>() as usize == set.records.len(), "the folds lack records of the set");
    Ok(shares)
}

/// The report of a split. One that was made of the same checkpoint is read back, so that test is not read again.
fn evaluate(recipe: &Path, run: &Path, split: &str) -> Result<Value> {
    let json = run.join(format!("{split}.json"));
    let read = || -> Result<Value> { Ok(serde_json::from_str(&fs::read_to_string(&json)?)?) };
    let stage: Value = serde_json::from_str(&fs::read_to_string(run.join("finetune.stage.json"))?)?;
    let weights = stage["outputs"]["best/model.safetensors"].as_str().context("digest of the checkpoint")?;
    let same = |report: &Value| report["model"].as_str().is_some_and(|m| m.ends_with(weights));
    if let Some(report) = read().ok().filter(same) {
        return Ok(report);
    }
    let status = program("locus")
        .current_dir(root())
        .args(["evaluate", "--split", split, "--recipe"])
        .arg(recipe)
        .arg("--run")
        .arg(run)
        .arg("--json")
        .arg(&json)
        .status()?;
    ensure!(status.success(), "locus evaluate --split {split} of {} failed", run.display());
    read()
}

/// One value a report, at this place.
fn values(reports: &[Value], place: &[&str]) -> Result<Vec<f64>> {
    let value = |report: &Value| {
        let at = place.iter().fold(report, |value, key| &value[*key]);
        at["value"].as_f64().with_context(|| format!("{} of a report", place.join(", ")))
    };
    reports.iter().map(value).collect()
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)))
}

/// Mean, and smallest to largest value with the standard deviation between seeds.
fn mean_and_spread(values: &[f64]) -> (f64, String) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let (low, high) = range(values);
    if values.len() < 2 {
        return (mean, "one seed".into());
    }
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    (mean, format!("{low:.4} to {high:.4}, SD {deviation:.4}, {} seeds", values.len()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_between_seeds() {
        let (mean, spread) = mean_and_spread(&[0.90, 0.92, 0.94]);
        assert!((mean - 0.92).abs() < 1e-12);
        assert_eq!(spread, "0.9000 to 0.9400, SD 0.0200, 3 seeds");
        assert_eq!(mean_and_spread(&[0.5]), (0.5, "one seed".to_owned()));
    }

    #[test]
    fn a_report_without_a_figure_is_an_error_that_names_it() {
        let reports = [serde_json::json!({"figures": {"auroc": {"value": 0.5}}})];
        assert_eq!(values(&reports, &["figures", "auroc"]).unwrap(), [0.5]);
        let error = values(&reports, &["figures", "error"]).unwrap_err().to_string();
        assert!(error.contains("figures, error"), "{error}");
    }

    #[test]
    fn every_task_has_a_recipe() {
        for task in TASKS {
            assert!(root().join(format!("recipes/{}.toml", task.name)).is_file(), "{}", task.name);
        }
    }
}

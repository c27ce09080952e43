//! The box beside the services that people would build otherwise: the reference's FastAPI on PyTorch and on onnxruntime, as
//! it runs them and tuned, with the same weights, questions and clients.

mod bare;
mod load;
mod model;
mod service;
mod shown;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use locus_edge::client::{Credentials, HttpTerminal};
use locus_engine::Precision;
use locus_firmware_config::message::Outcome;
use locus_tests::{Rig, python};

use self::{
    load::{NUMBER, Seen, closed},
    model::{Model, Which},
    service::{Service, Settings},
    shown::Shown,
};

/// The environment of `training`, with what services need; PyTorch is large, so there is one.
const PACKAGES: [&str; 11] = [
    "torch==2.9.1",
    "transformers==4.57.3",
    "numpy==2.3.5",
    "onnx==1.20.1",
    "onnxruntime==1.24.4",
    "fastapi==0.165.0",
    "uvicorn==0.54.0",
    "uvloop==0.23.0",
    "httptools==0.9.0",
    "orjson==3.13.0",
    "tokenizers==0.22.2",
];
/// Each peer: what it is called, and its program.
const PEERS: [(&str, &str); 2] =
    [("FastAPI + onnxruntime", "service_onnxruntime.py"), ("FastAPI + PyTorch", "service_torch.py")];
/// Largest difference of a peer's probability from that of Locus in FP32: more, and it is another model.
const SAME: f64 = 1e-4;
/// Length of the runs that a tuning is chosen by.
const TRIAL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct PeersArguments {
    /// The model
    #[arg(long, value_enum)]
    model: Which,
    /// Length of each run, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rounds in which all run, one after the other
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Clients at once, of each run
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    clients: Vec<usize>,
    /// A TOML file whose lines are added to the box's configuration, to try another one
    #[arg(long)]
    configuration: Option<PathBuf>,
    /// File to write [default: bench/results/peers-MODEL.json]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Python with everything that a peer is made of; `None`, with a line that says why, where it cannot be had.
pub(crate) fn environment() -> Option<PathBuf> {
    python("transformers", &PACKAGES, "import torch, fastapi, onnxruntime, orjson, tokenizers, uvloop")
}

/// One that is asked.
struct Contender<'a> {
    name: String,
    how: Settings,
    program: &'a str,
    clients: Vec<usize>,
}

impl PeersArguments {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(
            self.repeats > 0 && !self.clients.is_empty(),
            "got no rounds or no clients, expected 1 or more"
        );
        let python = environment().context("the peers' Python packages cannot be installed")?;
        let (model, lasting) = (Model::of(self.model)?, Duration::from_secs(self.seconds));
        let rig = self.rig(&model)?;
        let authority = rig.start()?.authority()?;
        let mut contenders = Vec::new();
        for (name, program) in PEERS {
            contenders.push(Contender {
                name: format!("{name}, as the reference runs it"),
                how: Settings::reference(model.padded),
                program,
                clients: self.clients.clone(),
            });
            contenders.extend(self.tuned(&python, name, program, &model, &authority)?);
        }
        let mut shown = Shown::new(self.model, self.command());
        for round in 1..=self.repeats {
            for (clients, seen) in self.of_box(&rig, &model, lasting)? {
                shown.add("Locus, INT8, HTTPS, journal durable", clients, seen);
            }
            for contender in &contenders {
                let service = Service::start(&python, contender.program, &contender.how, &model.reads)?;
                agrees(&service, &authority, &model)?;
                for &clients in &contender.clients {
                    let seen = of_service(&service, &authority, &model, clients, lasting)?;
                    shown.add(&contender.name, clients, seen);
                }
            }
            shown.add("onnxruntime in a loop of Python, FP32", 1, bare::python(&python, &model, lasting)?);
            for (name, precision, threads) in [
                ("ONNX Runtime in a loop of Rust over its C interface, FP32", Precision::Fp32, 0),
                ("ONNX Runtime in a loop of Rust over its C interface, INT8", Precision::Int8, 0),
                ("the same, one thread", Precision::Int8, 1),
            ] {
                shown.add(name, 1, bare::native(&model, precision, threads, lasting)?);
            }
            println!("round {round} of {}", self.repeats);
        }
        shown.write(&self.out())
    }

    fn out(&self) -> PathBuf {
        let default = match self.model {
            Which::Edge => "bench/results/peers-edge.json",
            Which::BertBase => "bench/results/peers-bert-base.json",
        };
        self.out.clone().unwrap_or_else(|| default.into())
    }

    fn command(&self) -> String {
        let model = match self.model {
            Which::Edge => "edge",
            Which::BertBase => "bert-base",
        };
        let clients: Vec<String> = self.clients.iter().map(usize::to_string).collect();
        let configuration =
            self.configuration.as_ref().map(|path| format!(" --configuration {}", path.display()));
        format!(
            "peers --model {model} --seconds {} --repeats {} --clients {}{}",
            self.seconds,
            self.repeats,
            clients.join(","),
            configuration.unwrap_or_default()
        )
    }

    /// A box with the model.
    fn rig(&self, model: &Model) -> Result<Rig> {
        let extra = match &self.configuration {
            Some(path) => std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
            None => String::new(),
        };
        let rig = Rig::new(&extra)?;
        rig.sign(&model.bundle, &rig.path("signed.locus"))?;
        rig.flash()?;
        Ok(rig)
    }

    /// What the box does for each number of clients.
    fn of_box(&self, rig: &Rig, model: &Model, lasting: Duration) -> Result<Vec<(usize, Seen)>> {
        let daemon = rig.start()?;
        let terminal = daemon.http("client-0")?;
        let mut bodies = Vec::new();
        for (n, question) in model.questions.iter().enumerate() {
            let mut request = question.request.clone();
            request.id = Some(NUMBER.into());
            let value = serde_json::to_value(&request)?;
            let present = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
            let present = present.map(|(key, value)| (key.clone(), value.clone()));
            let body = serde_json::Value::Object(present.collect()).to_string();
            let one = body.replace(NUMBER, &format!("look-{n}"));
            if let Outcome::Fault(fault) = Outcome::from_json(&terminal.post(one.as_bytes(), PATIENCE)?.1)? {
                bail!("the box: {}: {}", fault.code.as_str(), fault.message);
            }
            bodies.push(body);
        }
        let mut all = Vec::new();
        for &clients in &self.clients {
            let terminals =
                (0..clients).map(|n| daemon.http(&format!("client-{n}"))).collect::<Result<_>>()?;
            all.push((clients, closed(terminals, &bodies, lasting)?));
        }
        daemon.terminate()?;
        Ok(all)
    }

    /// Of a few tunings the one with most answers a second, for each number of clients.
    fn tuned<'a>(
        &self,
        python: &Path,
        name: &str,
        program: &'a str,
        model: &Model,
        authority: &Credentials,
    ) -> Result<Vec<Contender<'a>>> {
        let mut best: Vec<(f64, Settings)> = Vec::new();
        for how in Settings::tunings(model.padded) {
            let service = Service::start(python, program, &how, &model.reads)?;
            agrees(&service, authority, model)?;
            for (n, &clients) in self.clients.iter().enumerate() {
                let seen = of_service(&service, authority, model, clients, TRIAL)?;
                println!("{name}, {}, by {clients}: {:.1}/s, p50 {:.2} ms", how.words(), seen.rate, seen.p50);
                match best.get_mut(n) {
                    Some(best) if best.0 >= seen.rate => {}
                    Some(best) => *best = (seen.rate, how.clone()),
                    None => best.push((seen.rate, how.clone())),
                }
            }
        }
        let contender = |(&clients, (_, how)): (&usize, (f64, Settings))| Contender {
            name: format!("{name}, tuned ({})", how.words()),
            how,
            program,
            clients: vec![clients],
        };
        Ok(self.clients.iter().zip(best).map(contender).collect())
    }
}

fn of_service(
    service: &Service,
    authority: &Credentials,
    model: &Model,
    clients: usize,
    lasting: Duration,
) -> Result<Seen> {
    let terminals: Result<Vec<_>, _> =
        (0..clients).map(|_| HttpTerminal::new(&service.base, authority)).collect();
    let bodies: Vec<String> = model.questions.iter().map(|question| question.body.to_string()).collect();
    closed(terminals?, &bodies, lasting)
}

/// Nobody times another model than the box's.
fn agrees(service: &Service, authority: &Credentials, model: &Model) -> Result<()> {
    let terminal = HttpTerminal::new(&service.base, authority)?;
    for (n, question) in model.questions.iter().enumerate() {
        let (status, said) = terminal.post(question.body.to_string().as_bytes(), PATIENCE)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let answer: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let got = answer["pathogenic_probability"].as_f64();
        ensure!(
            status == 200 && got.is_some_and(|got| (got - question.expected).abs() <= SAME),
            "question {n}: got {status} {said}, expected a probability of {} within {SAME}",
            question.expected
        );
    }
    Ok(())
}

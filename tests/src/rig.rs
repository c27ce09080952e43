//! A whole box in a folder of its own: keys, a signed model, a serial cable, and the real programs.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use locus_edge::{
    client::{Credentials, HttpTerminal, MqttTerminal, SerialTerminal},
    state::{Endpoints, StateDir},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::root;

/// Where the boxes of the tests stand.
pub const SITE: &str = "ward";

/// Time in which a program says its first line.
const FIRST_LINE: Duration = Duration::from_secs(60);

/// The ONNX Runtime library that the programs here load; without one they run on tract.
pub fn onnxruntime() -> Option<PathBuf> {
    if let Some(set) = std::env::var_os("LOCUS_ONNXRUNTIME") {
        return Some(set.into());
    }
    let versions = fs::read_dir(root().join(".locus/onnxruntime")).ok()?;
    let files =
        versions.flatten().filter_map(|version| fs::read_dir(version.path()).ok()).flatten().flatten();
    files.map(|file| file.path()).find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so"))
    })
}

/// A program of this project, as the workspace's build left it beside the tests; those of a box from the folder that
/// `LOCUS_PROGRAMS` names: of another machine (`cargo xtask cross`), or a release's.
pub fn program(name: &str) -> Command {
    if name != "locus"
        && let Some(folder) = std::env::var_os("LOCUS_PROGRAMS")
    {
        return started(&PathBuf::from(folder).join(name));
    }
    let this = std::env::current_exe().expect("a program has a path");
    let mut folder = this.parent().expect("it lies in target/<profile>");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("and a test in deps below it");
    }
    started(&folder.join(name))
}

/// An example of this project, built beside its programs.
pub fn example(name: &str) -> Command {
    let this = std::env::current_exe().expect("a program has a path");
    let deps = this.parent().expect("a test lies in target/<profile>/deps");
    started(&deps.with_file_name("examples").join(name))
}

fn started(path: &Path) -> Command {
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --all-targets` first",
        path.display()
    );
    let mut command = Command::new(path);
    if let Some(library) = onnxruntime() {
        command.env("LOCUS_ONNXRUNTIME", library);
    }
    command
}

/// A folder with everything that a box needs.
#[derive(Debug)]
pub struct Rig {
    dir: TempDir,
    cable: Option<Child>,
}

/// A running `locusd`.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Where it listens.
    pub endpoints: Endpoints,
    state: StateDir,
    config: PathBuf,
    issued: PathBuf,
}

fn succeeded(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?} ended with {}: {out}{err}", output.status);
    Ok(out.into_owned())
}

impl Rig {
    /// Makes keys, a signed copy of the shipped model, a cable and a configuration with `extra` TOML at its end.
    ///
    /// # Errors
    /// A program fails.
    pub fn new(extra: &str) -> Result<Self> {
        Self::with_cable(extra, &[])
    }

    /// As [`Rig::new`], with arguments for the cable.
    ///
    /// # Errors
    /// A program fails.
    pub fn with_cable(extra: &str, cable: &[&str]) -> Result<Self> {
        Self::build(tempfile::tempdir()?, extra, cable)
    }

    /// As [`Rig::new`], with its folder in `parent`: what a box keeps there is as fast as that file system.
    ///
    /// # Errors
    /// As [`Rig::new`].
    pub fn below(parent: &Path, extra: &str) -> Result<Self> {
        Self::build(tempfile::tempdir_in(parent)?, extra, &[])
    }

    fn build(dir: TempDir, extra: &str, cable: &[&str]) -> Result<Self> {
        let mut rig = Self { dir, cable: None };
        succeeded(program("locus").args(["keygen", "--out"]).arg(rig.path("publisher")))?;
        succeeded(program("locusctl").args(["keygen", "--out"]).arg(rig.path("hospital")))?;
        rig.sign(&root().join("models/variant-effect.locus"), &rig.path("signed.locus"))?;
        let mqtt = if extra.contains("[mqtt]") { "" } else { "[mqtt]\ntls_port = 0\nport = 0\n" };
        fs::write(
            rig.config(),
            format!(
                "site = \"{SITE}\"\nbox = \"box-1\"\nstate = \"state\"\n[models]\ntrusted_keys = [\"publisher.pub\"]\n\
                 [journal]\nrecipients = [\"hospital.pub\"]\n{mqtt}[http]\nport = 0\n[[serial]]\npath = \"serial-box\"\nterminal = \"ward-3\"\n{extra}"
            ),
        )?;
        let mut cable = program("locusctl")
            .arg("cable")
            .args([rig.path("serial-box"), rig.path("serial-terminal")])
            .args(cable)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        first_line(&mut cable)?;
        rig.cable = Some(cable);
        Ok(rig)
    }

    /// A file of the rig.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.path("locusd.toml")
    }

    /// Changes the text of the configuration.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn configure(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        Ok(fs::write(self.config(), change(text))?)
    }

    /// Answers by the fake engine, each batch of at most `rows` taking so many milliseconds.
    ///
    /// # Errors
    /// As [`Rig::configure`].
    pub fn fake(&self, batch_ms: u32, rows: u32) -> Result<()> {
        let profile = format!(
            "inherit = \"cpu-x86\"\nengines = [\"fake\"]\nfake_batch_ms = {batch_ms}\nmax_batch = {rows}\n"
        );
        fs::write(self.path("fake.toml"), profile)?;
        self.configure(|text| format!("profile = \"fake.toml\"\n{text}\n[engine]\norder = [\"fake\"]\n"))
    }

    /// Signs a bundle with the key that the box trusts.
    ///
    /// # Errors
    /// `locus bundle sign` fails.
    pub fn sign(&self, from: &Path, to: &Path) -> Result<String> {
        succeeded(
            program("locus")
                .args(["bundle", "sign", "--key"])
                .arg(self.path("publisher.key"))
                .args([from, to]),
        )
    }

    /// Runs `locusctl` whatever comes of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ctl_output(&self, arguments: &[&str]) -> Result<Output> {
        Ok(program("locusctl").arg("--config").arg(self.config()).args(arguments).output()?)
    }

    /// Runs `locusctl`; its standard output.
    ///
    /// # Errors
    /// It fails.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        succeeded(program("locusctl").arg("--config").arg(self.config()).args(arguments))
    }

    /// Sets the box up and flashes the shipped model.
    ///
    /// # Errors
    /// It is refused.
    pub fn flash(&self) -> Result<()> {
        self.ctl(&["init"])?;
        self.ctl(&["flash", &self.path("signed.locus").display().to_string()])?;
        Ok(())
    }

    /// Starts the daemon and waits until it is ready; its log is `locusd.log`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(&self) -> Result<Daemon> {
        self.start_with(&[])
    }

    /// As [`Rig::start`], with variables of the environment.
    ///
    /// # Errors
    /// As [`Rig::start`].
    pub fn start_with(&self, environment: &[(&str, &str)]) -> Result<Daemon> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("locusd.log"))?;
        let mut child = program("locusd")
            .arg("--config")
            .arg(self.config())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let line = first_line(&mut child)?;
        let Some(endpoints) = line.strip_prefix("ready ") else {
            let _ = child.wait();
            bail!("got {line:?} instead of a ready line: {}", fs::read_to_string(self.path("locusd.log"))?);
        };
        let endpoints = serde_json::from_str(endpoints)?;
        let (state, issued) = (StateDir::new(&self.path("state")), self.path("issued"));
        Ok(Daemon { child, endpoints, state, config: self.config(), issued })
    }

    /// Enrols somebody with a certificate, unless that was done before: the files, without their ends.
    ///
    /// # Errors
    /// It is refused.
    pub fn enrolled(&self, name: &str, role: &str) -> Result<PathBuf> {
        enrolled(&self.config(), &self.path("issued"), name, role, false)
    }

    /// Enrols somebody with a token, unless that was done before: the token.
    ///
    /// # Errors
    /// It is refused.
    pub fn token(&self, name: &str, role: &str) -> Result<String> {
        let base = enrolled(&self.config(), &self.path("issued"), name, role, true)?;
        Ok(fs::read_to_string(base.with_added_extension("token"))?)
    }

    /// What somebody shows who is enrolled with a certificate here, trusting this box.
    ///
    /// # Errors
    /// It is refused.
    pub fn certificate(&self, name: &str, role: &str) -> Result<Credentials> {
        let base = self.enrolled(name, role)?;
        let (certificate, key) = (base.with_added_extension("crt"), base.with_added_extension("key"));
        Ok(Credentials::trusting(&self.path("state/access/ca.crt"))?.with_certificate(&certificate, &key)?)
    }

    /// A terminal on the serial cable.
    ///
    /// # Errors
    /// The line cannot be opened.
    pub fn serial(&self) -> Result<SerialTerminal> {
        Ok(SerialTerminal::open(&self.path("serial-terminal"), 115_200)?)
    }

    /// Writes `r.fa` and `r.gff3`: a region of 400 bases of chr1 from 1001 on, T at 1201, with the transcript `t1` of GENE.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn small_genome(&self) -> Result<()> {
        let mut bases: Vec<char> = "ACGGTCATTGCA".repeat(40).chars().take(400).collect();
        bases[200] = 'T';
        fs::write(self.path("r.fa"), format!(">chr1:1001-1400\n{}\n", bases.iter().collect::<String>()))?;
        let transcript = "##gff-version 3\nchr1\t.\tmRNA\t1100\t1300\t.\t+\t.\tID=t1;Parent=GENE\n\
            chr1\t.\texon\t1100\t1300\t.\t+\t.\tParent=t1\nchr1\t.\tCDS\t1190\t1249\t.\t+\t0\tParent=t1\n";
        Ok(fs::write(self.path("r.gff3"), transcript)?)
    }

    /// What the hospital reads: one JSON value a record.
    ///
    /// # Errors
    /// The journal is damaged or cannot be opened.
    pub fn exported(&self) -> Result<Vec<serde_json::Value>> {
        let key = self.path("hospital.key").display().to_string();
        let lines = self.ctl(&["journal", "export", "--identity", &key])?;
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(cable) = &mut self.cable {
            let _ = cable.kill();
            let _ = cable.wait();
        }
    }
}

/// `locusctl enroll`, once for each name and kind.
fn enrolled(config: &Path, folder: &Path, name: &str, role: &str, token: bool) -> Result<PathBuf> {
    let base = folder.join(name);
    if !base.with_added_extension(if token { "token" } else { "crt" }).exists() {
        let mut enroll = program("locusctl");
        enroll.arg("--config").arg(config).args(["enroll", name, "--role", role, "--out"]).arg(folder);
        if token {
            enroll.arg("--token");
        }
        succeeded(&mut enroll)?;
    }
    Ok(base)
}

/// The first line of a program; one that says nothing in time is ended.
fn first_line(child: &mut Child) -> Result<String> {
    let output = child.stdout.take().context("no output")?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line).map(|_| line.trim_end().to_owned());
        let _ = tell.send(read);
    });
    let Ok(line) = told.recv_timeout(FIRST_LINE) else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("the program says nothing within {FIRST_LINE:?}");
    };
    Ok(line?)
}

impl Daemon {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A terminal over HTTPS, with a certificate of its own.
    ///
    /// # Errors
    /// It cannot be enrolled.
    pub fn http(&self, terminal: &str) -> Result<HttpTerminal> {
        self.http_as(terminal, "terminal")
    }

    /// An operator over HTTPS.
    ///
    /// # Errors
    /// It cannot be enrolled.
    pub fn operator(&self) -> Result<HttpTerminal> {
        self.http_as("operator", "operator")
    }

    /// Somebody of a role over HTTPS, with a certificate.
    ///
    /// # Errors
    /// It cannot be enrolled.
    pub fn http_as(&self, name: &str, role: &str) -> Result<HttpTerminal> {
        let base = enrolled(&self.config, &self.issued, name, role, false)?;
        let credentials = self
            .authority()?
            .with_certificate(&base.with_added_extension("crt"), &base.with_added_extension("key"))?;
        self.http_with(&credentials)
    }

    /// Whoever these credentials are of, over HTTPS.
    ///
    /// # Errors
    /// They hold no certificate or key.
    pub fn http_with(&self, credentials: &Credentials) -> Result<HttpTerminal> {
        let base = self.endpoints.http.as_deref().context("no HTTPS")?;
        Ok(HttpTerminal::new(base, credentials)?)
    }

    /// What trusts the box and shows nothing.
    ///
    /// # Errors
    /// The authority's certificate cannot be read.
    pub fn authority(&self) -> Result<Credentials> {
        Ok(Credentials::trusting(&self.state.authority())?)
    }

    /// Host and port of the broker.
    ///
    /// # Errors
    /// MQTT is off.
    pub fn broker(&self) -> Result<(String, u16)> {
        let address = self.endpoints.mqtt.as_deref().context("no MQTT")?;
        let (host, port) = address.rsplit_once(':').context("no port")?;
        Ok((host.to_owned(), port.parse()?))
    }

    /// A terminal over MQTT: with a token at the embedded broker, with nothing at another one.
    ///
    /// # Errors
    /// It cannot be enrolled, or the broker cannot be reached.
    pub async fn mqtt(&self, terminal: &str) -> Result<MqttTerminal> {
        let (host, port) = self.broker()?;
        let shown = match &self.endpoints.mqtts {
            Some(_) => Some(Credentials::default().with_token(&self.token(terminal)?)),
            None => None,
        };
        let (shown, patience) = (shown.as_ref(), Duration::from_secs(10));
        Ok(MqttTerminal::connect_as(&host, port, SITE, terminal, shown, patience).await?)
    }

    /// The token of a terminal, which is enrolled where it was not.
    ///
    /// # Errors
    /// It cannot be enrolled.
    pub fn token(&self, terminal: &str) -> Result<String> {
        let base = enrolled(&self.config, &self.issued, terminal, "terminal", true)?;
        Ok(fs::read_to_string(base.with_added_extension("token"))?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// SIGTERM, and how it ended.
    ///
    /// # Errors
    /// It is gone.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        Ok(self.child.wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The system cannot wait.
    pub fn wait(mut self) -> Result<ExitStatus> {
        Ok(self.child.wait()?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

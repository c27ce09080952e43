//! `locusctl enroll`, `locusctl access`: who may use the box over a network.

mod mosquitto;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, value_parser};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    access::{
        self, Authority, Credential, Kind, Registry, Role, Use, is_reserved, new_token, token_digest,
        write_revocations,
    },
    audit::What,
    clock::{Clock as _, SystemClock},
    config::Config,
    control::{Order, order},
    flashing::Flasher,
    names::is_name,
    state::StateDir,
    vfs::{Access, OsVfs, Vfs, write_atomic, write_new},
};

/// Whom to enrol.
#[derive(Clone, Debug, Args)]
pub struct EnrollArgs {
    /// Name; it is the terminal's on every transport
    pub name: String,
    /// What it may do
    #[arg(long, value_enum)]
    pub role: Role,
    /// Issues a token instead of a certificate: a bearer token of HTTPS, a password of MQTT
    #[arg(long, conflicts_with = "csr")]
    pub token: bool,
    /// What is issued
    #[command(flatten)]
    pub issue: IssueArgs,
}

/// What is issued, and where it goes.
#[derive(Clone, Debug, Args)]
pub struct IssueArgs {
    /// A signing request (PEM) of a terminal that made its own key
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
    /// Days until it ends
    #[arg(long, default_value_t = 365, value_parser = value_parser!(u32).range(1..=3650))]
    pub days: u32,
    /// Folder for NAME.crt and NAME.key, or NAME.token, and ca.crt
    #[arg(long, default_value = ".")]
    pub out: PathBuf,
}

/// What to do with it.
#[derive(Clone, Debug, Subcommand)]
pub enum AccessCommand {
    /// Shows the box's own authority: its SHA-256 is what a person compares
    Ca {
        /// Prints the certificate
        #[arg(long)]
        pem: bool,
    },
    /// Shows who is enrolled
    List {
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Issues anew what somebody has; the old one ends after the overlap
    Renew {
        /// Name
        name: String,
        /// What is issued
        #[command(flatten)]
        issue: IssueArgs,
        /// Days for which the old one still counts
        #[arg(long, default_value_t = 7)]
        overlap: u32,
    },
    /// Revokes: whoever is connected with it is cut off at once
    Revoke {
        /// Name
        name: String,
        /// Only what begins with these digits in the list
        #[arg(long, value_name = "DIGITS")]
        credential: Option<String>,
    },
    /// Writes what mosquitto needs to be this site's broker: configuration, access list, certificates
    Mosquitto(mosquitto::MosquittoArgs),
}

/// Enrols somebody.
///
/// # Errors
/// A name that cannot be, or files that cannot be written.
pub fn enroll(config: &Config, args: &EnrollArgs) -> Result<ExitCode> {
    ensure!(
        is_name(&args.name),
        "got a name that is none, expected 1 to 64 letters, digits, dots, dashes or underscores"
    );
    ensure!(
        !is_reserved(&args.name, &config.r#box),
        "{} is the box's own name or one that nobody is enrolled under, expected another one",
        args.name
    );
    let kind = if args.token { Kind::Token } else { Kind::Certificate };
    let (credential, files) = issue(config, &args.name, kind, &args.issue)?;
    write(&args.issue.out, &files, false)?;
    let state = StateDir::new(&config.state);
    let now_s = now_s();
    let (registry, ()) =
        Registry::change(&state, now_s, |registry| registry.add(&args.name, args.role, credential, now_s))?;
    settle(config, &registry, &args.name, &format!("enrolled as {}", args.role))?;
    say(&args.issue.out, &files);
    Ok(ExitCode::SUCCESS)
}

/// Runs it.
///
/// # Errors
/// What cannot be read, written or found.
pub fn run(config: &Config, command: &AccessCommand) -> Result<ExitCode> {
    let state = StateDir::new(&config.state);
    match command {
        AccessCommand::Ca { pem } => {
            let authority = access::prepare(config, now_s())?;
            if *pem {
                locus_console::write(format_args!("{}", authority.pem()));
            } else {
                show_authority(&state, &authority);
            }
        }
        AccessCommand::List { json } => list(&Registry::read(&state)?, *json)?,
        AccessCommand::Renew { name, issue, overlap } => renew(config, name, issue, *overlap)?,
        AccessCommand::Revoke { name, credential } => {
            let now_s = now_s();
            let digits = credential.as_deref();
            let (registry, revoked) =
                Registry::change(&state, now_s, |registry| registry.revoke(name, digits, now_s))?;
            settle(config, &registry, name, &format!("{revoked} revoked"))?;
            say!("{revoked} of {name} revoked");
        }
        AccessCommand::Mosquitto(args) => mosquitto::run(config, args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Says whose certificates the box shows.
pub fn show_authority(state: &StateDir, authority: &Authority) {
    say!("authority {}", state.authority().display());
    say!("  SHA-256 {}", authority.fingerprint());
}

fn now_s() -> u64 {
    SystemClock::new().unix_ms() / 1_000
}

/// A file that is handed over: its name, what is in it, who may read it.
type Handed = (String, zeroize::Zeroizing<Vec<u8>>, Access);

fn issue(config: &Config, name: &str, kind: Kind, args: &IssueArgs) -> Result<(Credential, Vec<Handed>)> {
    let now_s = now_s();
    let authority = access::prepare(config, now_s)?;
    let handed = |end: &str, bytes: &[u8], access| (format!("{name}.{end}"), bytes.to_vec().into(), access);
    let ca: Handed = ("ca.crt".to_owned(), authority.pem().as_bytes().to_vec().into(), Access::Public);
    let days = i64::from(args.days);
    if kind == Kind::Token {
        ensure!(args.csr.is_none(), "got a signing request for {name}, who has a token");
        let token = new_token()?;
        let credential = Credential {
            kind,
            sha256: hex::encode(token_digest(&token)),
            serial: None,
            issued_s: now_s,
            expires_s: now_s + u64::from(args.days) * 86_400,
            revoked_s: None,
        };
        return Ok((credential, vec![handed("token", token.as_bytes(), Access::Private), ca]));
    }
    let request = match &args.csr {
        Some(path) => {
            let bytes = OsVfs.read(path, 1 << 20).with_context(|| path.display().to_string())?;
            Some(String::from_utf8(bytes).with_context(|| format!("{} is no PEM", path.display()))?)
        }
        None => None,
    };
    let issued = authority.issue(name, &[], Use::Client, request.as_deref(), now_s, days)?;
    let mut files = vec![handed("crt", issued.certificate.as_bytes(), Access::Public)];
    files.extend(issued.key.as_ref().map(|key| handed("key", key.as_bytes(), Access::Private)));
    files.push(ca);
    let credential = Credential {
        kind,
        sha256: hex::encode(issued.digest),
        serial: Some(issued.serial),
        issued_s: now_s,
        expires_s: issued.expires_s,
        revoked_s: None,
    };
    Ok((credential, files))
}

/// Writes what is handed over, before it is worth anything; the authority's certificate may lie there already.
fn write(folder: &Path, files: &[Handed], over: bool) -> Result<()> {
    OsVfs.create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let free = |name: &str| over || name == "ca.crt" || !folder.join(name).exists();
    if let Some((name, ..)) = files.iter().find(|(name, ..)| !free(name)) {
        bail!(
            "{} is there already: take another --out, or `locusctl access renew`",
            folder.join(name).display()
        );
    }
    for (name, bytes, access) in files {
        let path = folder.join(name);
        let written = if over || name == "ca.crt" {
            write_atomic(&OsVfs, &path, bytes, *access)
        } else {
            write_new(&OsVfs, &path, bytes, *access)
        };
        written.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn say(folder: &Path, files: &[Handed]) {
    for (name, _, access) in files {
        let secret = if *access == Access::Private {
            " (secret: hand it over safely, then delete it here)"
        } else {
            ""
        };
        say!("{}{secret}", folder.join(name).display());
    }
}

/// Makes a change count: for a broker of the site, in the daemon that runs, and in the audit trail.
fn settle(config: &Config, registry: &Registry, subject: &str, reason: &str) -> Result<()> {
    let state = StateDir::new(&config.state);
    let now_s = now_s();
    let authority = Authority::load_or_create(&state, &config.r#box, now_s)?;
    write_revocations(&state, &authority, registry, now_s)?;
    let (subject, reason) = (subject.to_owned(), reason.to_owned());
    let change = Order::Access { subject: subject.clone(), reason: reason.clone() };
    match order(&state, &change, &|_| {}) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            let written = Flasher::open(config).map_err(anyhow::Error::from);
            let written = written.and_then(|mut flasher| Ok(flasher.note(What::Access, subject, reason)?));
            if let Err(error) = written {
                complain!(
                    "locusctl: it counts, but is not in the audit trail: {}",
                    locus_console::whole(&error)
                );
            }
            Ok(())
        }
        Err(error) => {
            bail!("the registry is changed, but the daemon did not take it: {error}; send it SIGHUP")
        }
    }
}

fn renew(config: &Config, name: &str, args: &IssueArgs, overlap: u32) -> Result<()> {
    let state = StateDir::new(&config.state);
    let now_s = now_s();
    let newest = |registry: &mut Registry| {
        let one = registry.find_mut(name)?;
        let alive = one.credentials.iter().filter(|credential| credential.revoked_s.is_none());
        let kind = alive.max_by_key(|credential| credential.issued_s).map(|credential| credential.kind);
        Ok::<_, access::RegistryError>(kind)
    };
    let kind = newest(&mut Registry::read(&state)?)?
        .with_context(|| format!("everything of {name} is revoked; enrol it anew"))?;
    let (credential, files) = issue(config, name, kind, args)?;
    write(&args.out, &files, true)?;
    let ends_s = now_s + u64::from(overlap) * 86_400;
    let (registry, ()) = Registry::change(&state, now_s, |registry| {
        let one = registry.find_mut(name)?;
        let role = one.role;
        for old in one.credentials.iter_mut().filter(|old| old.kind == kind) {
            old.expires_s = old.expires_s.min(ends_s);
        }
        registry.add(name, role, credential, now_s)
    })?;
    settle(config, &registry, name, "renewed")?;
    say(&args.out, &files);
    Ok(())
}

fn list(registry: &Registry, as_json: bool) -> Result<()> {
    let now_s = now_s();
    let state = |credential: &Credential| match () {
        () if credential.revoked_s.is_some() => "revoked",
        () if credential.expires_s <= now_s => "expired",
        () => "good",
    };
    if as_json {
        let all = registry.enrolled.iter().map(|one| {
            let shown = one.credentials.iter().map(|c| json!({ "kind": c.kind, "sha256": c.sha256, "expires_s": c.expires_s, "state": state(c) }));
            json!({ "name": one.name, "role": one.role, "credentials": shown.collect::<Vec<_>>() })
        });
        say!("{}", serde_json::to_string(&all.collect::<Vec<_>>())?);
        return Ok(());
    }
    for one in &registry.enrolled {
        for credential in &one.credentials {
            let kind = if credential.kind == Kind::Token { "token" } else { "certificate" };
            let ends = OffsetDateTime::from_unix_timestamp(credential.expires_s as i64).ok();
            let ends = ends.and_then(|ends| ends.format(&Rfc3339).ok()).unwrap_or_default();
            let (day, id) = (ends.get(..10).unwrap_or("-"), &credential.sha256[..16]);
            say!(
                "{:<20} {:<9} {kind:<12} {id} until {day} {}",
                one.name,
                one.role.as_str(),
                state(credential)
            );
        }
    }
    Ok(())
}

//! `locusctl access mosquitto`: the site's broker, held to the same rules as the embedded one.

use std::{net::IpAddr, path::PathBuf};

use anyhow::Result;
use clap::Args;

use super::{Handed, now_s, say, write};
use crate::{
    access::{self, Use},
    config::Config,
    state::StateDir,
    vfs::{Access, OsVfs, Vfs},
};

const CONFIGURATION: &str = include_str!("mosquitto.conf");
const LIST: &str = include_str!("mosquitto.acl");
/// Life of the broker's certificate.
const DAYS: i64 = 397;

/// Of which broker.
#[derive(Clone, Debug, Args)]
pub struct MosquittoArgs {
    /// Host name or address by which box and terminals reach it; may be given more than once
    #[arg(long, required = true)]
    pub host: Vec<String>,
    /// Port on which it speaks TLS
    #[arg(long, default_value_t = 8883)]
    pub port: u16,
    /// Address on which it listens
    #[arg(long, default_value = "0.0.0.0")]
    pub listen: IpAddr,
    /// Folder for the files
    #[arg(long)]
    pub out: PathBuf,
}

pub(super) fn run(config: &Config, args: &MosquittoArgs) -> Result<()> {
    let now_s = now_s();
    let authority = access::prepare(config, now_s)?;
    let broker = authority.issue(&args.host[0], &args.host, Use::Server, None, now_s, DAYS)?;
    let own = authority.issue(&config.r#box, &[], Use::Client, None, now_s, DAYS)?;
    let folder = std::path::absolute(&args.out)?;
    let filled = |text: &str| {
        text.replace("{site}", &config.site)
            .replace("{box}", &config.r#box)
            .replace("{port}", &args.port.to_string())
            .replace("{listen}", &args.listen.to_string())
            .replace("{folder}", &folder.display().to_string())
    };
    let list = OsVfs.read(&StateDir::new(&config.state).revoked(), 16 << 20)?;
    let file =
        |name: &str, bytes: &[u8], access| -> Handed { (name.to_owned(), bytes.to_vec().into(), access) };
    let secret = |key: Option<zeroize::Zeroizing<String>>| key.unwrap_or_default();
    let (broker_key, own_key) = (secret(broker.key), secret(own.key));
    let files = vec![
        file("mosquitto.conf", filled(CONFIGURATION).as_bytes(), Access::Public),
        file("mosquitto.acl", filled(LIST).as_bytes(), Access::Public),
        file("ca.crt", authority.pem().as_bytes(), Access::Public),
        file("revoked.crl", &list, Access::Public),
        file("broker.crt", broker.certificate.as_bytes(), Access::Public),
        file("broker.key", broker_key.as_bytes(), Access::Private),
        file("box.crt", own.certificate.as_bytes(), Access::Public),
        file("box.key", own_key.as_bytes(), Access::Private),
    ];
    write(&folder, &files, true)?;
    say(&folder, &files);
    say!(
        "in locusd.toml: [mqtt] mode = \"external\", host = \"{}\", port = {}, and ca, certificate and key with ca.crt, box.crt and box.key",
        args.host[0],
        args.port
    );
    Ok(())
}

//! Whole boxes, asked over each transport; and what each way takes without them.

use std::{cell::RefCell, path::Path, time::Duration};

use anyhow::{Context, Result};
use locus_edge::client::Terminal;
use locus_measure::Stage;
use locus_tests::{Daemon, Mosquitto, Rig, peer};
use tempfile::TempDir;

use super::{
    CONNECTIONS,
    ask::{Echoed, Ready, measured},
    plan::Book,
};
use crate::{
    echo::{self, Responder},
    transports::pty,
};

/// A box with its own broker, and one at mosquitto where that is installed.
pub(super) struct Boxes {
    own: Rig,
    at_mosquitto: Option<(Mosquitto, u16, Rig)>,
    /// What the configuration says of the serial line.
    line: RefCell<String>,
    _folder: TempDir,
}

impl Boxes {
    /// Sets them up with a model; their state is below a folder.
    pub(super) fn new(below: &Path, model: &Path) -> Result<Self> {
        let ready = |extra: &str| {
            let rig = Rig::below(below, extra)?;
            rig.sign(model, &rig.path("model.locus"))?;
            rig.ctl(&["init"])?;
            rig.ctl(&["flash", &rig.path("model.locus").display().to_string()])?;
            anyhow::Ok(rig)
        };
        let folder = tempfile::tempdir()?;
        let at_mosquitto = match peer("mosquitto's latency", "mosquitto") {
            None => None,
            Some(program) => {
                let (broker, port) = Mosquitto::start_anywhere(&program, folder.path())?;
                let rig = ready(&format!("[mqtt]\nmode = \"external\"\nport = {port}\n"))?;
                Some((broker, port, rig))
            }
        };
        let line = RefCell::new("serial-box".to_owned());
        Ok(Self { own: ready("")?, at_mosquitto, line, _folder: folder })
    }

    /// Every way, with boxes that are started anew.
    pub(super) async fn measure(&self, book: &mut Book) -> Result<()> {
        let name = "MQTT over the embedded broker";
        way(book, name, echo::at_embedded(&self.own, Duration::ZERO).await?).await?;
        way(book, "serial (pty)", echo::on_line(&pty, Duration::ZERO)?).await?;
        let (line, end) = pty()?;
        let before = self.line.replace(end.clone());
        self.own.configure(|text| text.replace(&format!("\"{before}\""), &format!("\"{end}\"")))?;
        let daemon = self.own.start()?;
        let ready = vec![Ready(daemon.http("http-0")?)];
        book.closed("HTTPS, the way alone (GET /ready)", Stage::Transport, ready, 1).await?;
        let terminals =
            (0..CONNECTIONS).map(|n| Ok(measured(Terminal::Http(daemon.http(&format!("http-{n}"))?))));
        book.loads("HTTPS", Stage::EndToEnd, terminals.collect::<Result<_>>()?).await?;
        over_mqtt(book, name, &daemon).await?;
        book.loads("serial (pty)", Stage::EndToEnd, vec![measured(line)]).await?;
        daemon.terminate()?;
        if let Some((_, port, rig)) = &self.at_mosquitto {
            let name = "MQTT over mosquitto";
            way(book, name, echo::at_broker(*port, Duration::ZERO).await?).await?;
            let daemon = rig.start()?;
            over_mqtt(book, name, &daemon).await?;
            daemon.terminate()?;
        }
        Ok(())
    }
}

/// What a way takes where an echo answers at once.
async fn way(book: &mut Book, name: &str, (_responder, terminal): (Responder, Terminal)) -> Result<()> {
    let name = format!("{name}, the way alone (echo)");
    book.closed(&name, Stage::Transport, vec![Echoed(measured(terminal))], 1).await.context(name)?;
    Ok(())
}

async fn over_mqtt(book: &mut Book, name: &str, daemon: &Daemon) -> Result<()> {
    let mut terminals = Vec::new();
    for n in 0..CONNECTIONS {
        terminals.push(measured(Terminal::Mqtt(Box::new(daemon.mqtt(&format!("mqtt-{n}")).await?))));
    }
    book.loads(name, Stage::EndToEnd, terminals).await?;
    Ok(())
}

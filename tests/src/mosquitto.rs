//! The broker that a site is likely to have.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

/// A running mosquitto with `set_tcp_nodelay true`, which ends when it is dropped.
#[derive(Debug)]
pub struct Mosquitto(Child);

/// Ports to try: between finding a free one and listening on it another program may take it.
const PORTS: u32 = 5;

impl Mosquitto {
    /// Starts one on a free port, which it gives as well.
    ///
    /// # Errors
    /// It does not listen.
    pub fn start_anywhere(program: &Path, folder: &Path) -> Result<(Self, u16)> {
        for _ in 1..PORTS {
            let port = free_port();
            if let Ok(broker) = Self::start(program, folder, port) {
                return Ok((broker, port));
            }
        }
        let port = free_port();
        Ok((Self::start(program, folder, port)?, port))
    }

    /// Starts one on a port of loopback; its configuration lies in `folder`.
    ///
    /// # Errors
    /// It does not listen.
    pub fn start(program: &Path, folder: &Path, port: u16) -> Result<Self> {
        let config = folder.join("mosquitto.conf");
        fs::write(
            &config,
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"),
        )?;
        Self::start_with(program, &config, port)
    }

    /// Starts one with a configuration, which names the port.
    ///
    /// # Errors
    /// It does not listen.
    pub fn start_with(program: &Path, config: &Path, port: u16) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let mut broker = Self(command.spawn()?);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(started.elapsed() < Duration::from_secs(20), "mosquitto does not listen on {port}");
            std::thread::sleep(Duration::from_millis(10));
        }
        // What answers may be another program, which took the port first.
        if let Some(status) = broker.0.try_wait()? {
            bail!("mosquitto ended with {status}: port {port} is taken");
        }
        Ok(broker)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on.
///
/// # Panics
/// Loopback has no free port.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("loopback has a free port").port()
}

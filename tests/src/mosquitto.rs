//! The broker that a site is likely to have.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

/// A running mosquitto with `set_tcp_nodelay true`, which ends when it is dropped.
#[derive(Debug)]
pub struct Mosquitto(Child);

impl Mosquitto {
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
        let mut command = Command::new(program);
        command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = Self(command.spawn()?);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(started.elapsed() < Duration::from_secs(20), "mosquitto does not listen on {port}");
            std::thread::sleep(Duration::from_millis(10));
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

//! A terminal as a microcontroller is one, run on a workstation: asks a box one request over a serial line.
//!
//! `cargo run -p locus-firmware-config --example terminal -- /dev/ttyUSB0 request.json`
//!
//! The request is JSON as in docs/operating.md, with an `id`; the answer is printed as JSON. All that a microcontroller
//! would do otherwise is in `main`: its UART instead of a port, its timer instead of `Instant`, its noise instead of the
//! clock for the session number.

use std::{
    env, fs,
    io::{ErrorKind, Read as _, Write as _},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use locus_firmware_config::{
    message::Request,
    terminal::{ANSWER_BYTES, Event, Patience, RequestRef, Terminal},
    wire::MAX_FRAME,
};

/// A request with a sequence and its transcript; one by `variant` needs `REQUEST_BYTES` only.
const ROOM: usize = 8_192;
/// How long a read waits at most, so that the time is looked at.
const TICK: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [port, request] = &arguments[..] else {
        return Err("expected the serial port and a file with the request".into());
    };
    let request = Request::from_json(&fs::read(request)?).map_err(|fault| fault.message)?;
    let port = fs::canonicalize(port)?;
    let mut port = tokio_serial::new(port.to_string_lossy(), 115_200).timeout(TICK).open()?;
    let started = Instant::now();
    let now_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);

    let session = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos() ^ std::process::id();
    let mut terminal = Terminal::new(session, [0; ROOM], [0; ANSWER_BYTES]);
    terminal.ask(&RequestRef::from(&request), Patience::default(), now_ms())?;
    let (mut frame, mut input) = ([0; MAX_FRAME], [0; 64]);
    loop {
        while let Some(bytes) = terminal.transmit(now_ms(), &mut frame) {
            port.write_all(bytes)?;
        }
        match terminal.poll(now_ms()) {
            None => {}
            Some(Event::Answer { answer, .. }) => {
                println!("{}", serde_json::to_string(&answer)?);
                return Ok(());
            }
            Some(Event::Busy { again_ms, .. }) => eprintln!("busy; asking again at {again_ms} ms"),
            Some(Event::Fault { fault, .. }) => {
                return Err(format!("{}: {}", fault.code.as_str(), fault.message).into());
            }
            Some(Event::TimedOut) => return Err("the box does not answer".into()),
            Some(other) => return Err(format!("no outcome: {other:?}").into()),
        }
        match port.read(&mut input) {
            Ok(0) => return Err("the line is gone".into()),
            Ok(n) => terminal.receive(&input[..n], now_ms()),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

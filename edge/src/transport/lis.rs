//! Lines that speak LIS01-A2 and LIS02-A2: a transmission with one question is answered by a transmission of the box's own,
//! once the line is free.

mod link;
mod records;

use std::{sync::Arc, time::Duration};

use locus_firmware_config::message::{Answer, Fault, FaultCode, Outcome, Request};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_serial::SerialStream;
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize as _, Zeroizing};

use self::{
    link::{Event, Link, Times},
    records::Head,
};
use super::{fields, serial};
use crate::{clock::SystemClock, config::Serial, pipeline::Pipeline};

/// Requests of one line in work at once.
const TASKS: usize = 8;
/// Bytes that wait for the line above which nothing more is read: a terminal that sends and does not read waits.
const MAX_WAITING_BYTES: usize = 64 << 10;

fn refused(reason: &'static str) {
    metrics::counter!("locus_refused_total", "transport" => "lis", "reason" => reason).increment(1);
}

/// A message as a terminal sends it: an enquiry, its frames, an end.
pub fn transmission(message: &[u8]) -> Vec<u8> {
    let frames = link::frames(message);
    let frames = frames.iter().flat_map(|frame| frame.iter().copied());
    std::iter::once(link::ENQ).chain(frames).chain([link::EOT]).collect()
}

/// What bytes of a line ask, and what a box says that answers each question with `answer` and whose every frame is taken
/// at once: a line without a device.
pub fn overhear(bytes: &[u8], answer: &Answer) -> (Vec<Result<Request, Fault>>, Vec<u8>) {
    let second = Duration::from_secs(1);
    let mut link = Link::new(Times { reply: second, frame: second, busy: second, contention: second });
    let (mut now, mut asked, mut out) = (Duration::ZERO, Vec::new(), Vec::new());
    for &byte in bytes {
        if let Some(Event::Message(message)) = link.receive(now, byte, &mut out) {
            let (head, request) = records::read(&message, true);
            let gene = request.as_ref().ok().and_then(|request| request.gene.clone());
            link.send(Zeroizing::new(match &request {
                Ok(_) => records::answer(&head, answer, gene.as_deref(), "20261126120000"),
                Err(fault) => records::fault(&head, "box", fault, "20261126120000"),
            }));
            asked.push(request);
        }
    }
    while let Some(due) = link.due() {
        now = now.max(due);
        link.tick(now, &mut out);
        let mut said = 0;
        while said != out.len() {
            said = out.len();
            link.receive(now, link::ACK, &mut out);
        }
    }
    (asked, out)
}

/// Serves one line until `stop`, through every loss of the device.
pub async fn run(pipeline: Pipeline, line: Serial, box_name: String, stop: CancellationToken) {
    serial::keep_open(&line, "LIS", &stop, |port| Served::new(&pipeline, &line, &box_name).run(port)).await;
}

/// A line that is open.
struct Served<'a> {
    pipeline: &'a Pipeline,
    line: &'a Serial,
    box_name: &'a str,
    clock: SystemClock,
    start: Instant,
    link: Link,
    /// They end with the line: who asked over it is gone, and asks again.
    tasks: JoinSet<(Head, Option<String>, Arc<Outcome>)>,
    /// Bytes that wait for the line.
    out: Vec<u8>,
}

impl<'a> Served<'a> {
    fn new(pipeline: &'a Pipeline, line: &'a Serial, box_name: &'a str) -> Self {
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let times = Times {
            reply: ms(line.lis.reply_ms),
            frame: ms(line.lis.frame_ms),
            busy: ms(line.lis.busy_ms),
            contention: ms(line.lis.contention_ms),
        };
        Self {
            pipeline,
            line,
            box_name,
            clock: SystemClock::new(),
            start: Instant::now(),
            link: Link::new(times),
            tasks: JoinSet::new(),
            out: Vec::new(),
        }
    }

    async fn run(mut self, port: SerialStream) -> String {
        let (mut reader, mut writer) = tokio::io::split(port);
        let mut bytes = Zeroizing::new([0; 4_096]);
        loop {
            let due = self.link.due().map(|due| self.start + due);
            tokio::select! {
                // A peer that is gone reads as nothing at all.
                read = reader.read(&mut bytes[..]), if self.out.len() < MAX_WAITING_BYTES => match read {
                    Ok(0) => return "the device is gone".into(),
                    Ok(n) => {
                        for &byte in &bytes[..n] {
                            let event = self.link.receive(self.start.elapsed(), byte, &mut self.out);
                            self.took(event);
                        }
                        bytes[..n].zeroize();
                    }
                    Err(error) => return error.to_string(),
                },
                Some(done) = self.tasks.join_next() => if let Ok((head, gene, outcome)) = done {
                    self.tell(&head, gene.as_deref(), &outcome);
                },
                () = sleep_until(due.unwrap_or(self.start)), if due.is_some() => {
                    let event = self.link.tick(self.start.elapsed(), &mut self.out);
                    self.took(event);
                }
                written = writer.write(&self.out), if !self.out.is_empty() => match written {
                    Ok(0) => return "the device takes nothing any more".into(),
                    Ok(n) => {
                        self.out[..n].zeroize();
                        self.out.drain(..n);
                    }
                    Err(error) => return error.to_string(),
                },
            }
        }
    }

    fn took(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Message(message)) => {
                let (head, request) = records::read(&message, self.line.lis.patient_as_subject);
                self.ask(head, request);
            }
            Some(Event::Refused(reason)) => refused(reason),
            Some(Event::Sent) | None => {}
        }
    }

    fn ask(&mut self, head: Head, request: Result<Request, Fault>) {
        if self.tasks.len() >= TASKS {
            let message = format!("got more than {TASKS} requests at once on one line; ask again");
            return self.tell(&head, None, &Outcome::Fault(Fault::new(FaultCode::Busy, message)));
        }
        let gene = request.as_ref().ok().and_then(|request| request.gene.clone());
        let (pipeline, terminal) = (self.pipeline.clone(), self.line.terminal.clone());
        self.tasks.spawn(async move {
            let outcome = pipeline.ask(&terminal, "lis", request).await;
            (head, gene, outcome)
        });
    }

    fn tell(&mut self, head: &Head, gene: Option<&str>, outcome: &Outcome) {
        let time = fields::time(&self.clock);
        let message = match outcome {
            Outcome::Answer(answer) => records::answer(head, answer, gene, &time),
            Outcome::Fault(fault) => records::fault(head, self.box_name, fault, &time),
        };
        self.link.send(Zeroizing::new(message));
    }
}

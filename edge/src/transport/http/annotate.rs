//! `POST /v1/annotate`: a VCF in, the same lines out, with what the box makes of each allele in their INFO; in order, as they are
//! answered.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use locus_firmware_config::message::{Answer, Fault, FaultCode, INTENDED_USE, Lane, Outcome, Request};
use locus_genome::vcf::{self, Row};
use tokio::{sync::mpsc, time::timeout};
use zeroize::Zeroizing;

use super::{BODY, Caller, Shared, batch, outcome_response, parent};
use crate::{access::Identity, traces::Parent};

/// Most bytes of a file.
const MAX_BYTES: u64 = 256 << 20;
/// Most bytes of its header.
const MAX_HEADER_BYTES: usize = 4 << 20;
/// Most bytes of a line.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Most alleles of a line that are asked about; of one with more none is.
const MAX_ALLELES: usize = 100;
/// Lines in work at once.
const AT_ONCE: usize = 16;
/// Time to read a line that was annotated.
const READING: Duration = Duration::from_secs(30);
/// How every key in INFO begins.
const PREFIX: &str = "LOCUS_";

/// Key, number, type, description.
const KEYS: [(&str, &str, &str, &str); 11] = [
    (
        "BAND",
        "A",
        "String",
        "Computational prediction: benign, uncertain, pathogenic, or none where the box declined or failed",
    ),
    ("P", "A", "Float", "Calibrated probability of pathogenic, by computational prediction"),
    ("CSQ", "A", "String", "Sequence Ontology terms of the consequence on the transcript"),
    ("HGVSC", "A", "String", "HGVS name on the transcript"),
    ("HGVSP", "A", "String", "HGVS name of the predicted change of the protein"),
    ("TX", "A", "String", "Transcript that was read"),
    ("EVIDENCE", "A", "String", "Criterion and strength that the prediction reaches"),
    ("NOTE", "A", "String", "Why the box declined"),
    ("FAULT", "A", "String", "Code of the fault where there is no answer"),
    ("RECEIPT", "A", "Integer", "Index of the answer in the journal of the box"),
    ("MODEL", "A", "String", "Model that answered: name@version"),
];

/// What the query of the address says.
#[derive(Clone, Default)]
struct Asked {
    assembly: Option<String>,
    model: Option<String>,
}

impl Asked {
    fn of(uri: &Uri) -> Result<Self, Fault> {
        let mut asked = Self::default();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("assembly", name)) => asked.assembly = Some(name.to_owned()),
                Some(("model", name)) => asked.model = Some(name.to_owned()),
                _ => {
                    let message = "got a query that is not known, expected assembly=NAME or model=NAME";
                    return Err(Fault::new(FaultCode::BadRequest, message));
                }
            }
        }
        Ok(asked)
    }
}

/// The body, line by line, without the ends of lines.
struct Lines {
    chunks: BodyDataStream,
    waiting: Zeroizing<Vec<u8>>,
    /// Where what was not taken yet begins.
    from: usize,
    seen: u64,
    ended: bool,
}

impl Lines {
    fn of(body: Body) -> Self {
        let waiting = Zeroizing::default();
        Self { chunks: body.into_data_stream(), waiting, from: 0, seen: 0, ended: false }
    }

    async fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, Fault> {
        loop {
            let left = &self.waiting[self.from..];
            let end = left.iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.or_else(|| (self.ended && !left.is_empty()).then_some(left.len())) {
                let line = left[..end].strip_suffix(b"\r").unwrap_or(&left[..end]).to_vec();
                self.from = (self.from + end + 1).min(self.waiting.len());
                return Ok(Some(Zeroizing::new(line)));
            }
            if self.ended {
                return Ok(None);
            }
            if left.len() > MAX_LINE_BYTES {
                let message = format!("got a line of over {MAX_LINE_BYTES} bytes, expected shorter ones");
                return Err(Fault::new(FaultCode::TooLarge, message));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Fault> {
        let bad = |message: &str| Err(Fault::new(FaultCode::BadRequest, message));
        let chunk = match timeout(BODY, self.chunks.next()).await {
            Err(_) => return bad("got nothing for 10 s, expected the rest of the file; send it again"),
            Ok(Some(Err(_))) => return bad("got a file that is cut off, expected a whole one"),
            Ok(None) => {
                self.ended = true;
                return Ok(());
            }
            Ok(Some(Ok(chunk))) => chunk,
        };
        self.seen += chunk.len() as u64;
        if self.seen > MAX_BYTES {
            let message = format!("got over {MAX_BYTES} bytes, expected at most so many; send it in parts");
            return Err(Fault::new(FaultCode::TooLarge, message));
        }
        let rest = Zeroizing::new(self.waiting[self.from..].to_vec());
        self.waiting.clear();
        self.from = 0;
        self.waiting.extend_from_slice(&rest);
        self.waiting.extend_from_slice(&chunk);
        Ok(())
    }

    /// The lines that begin with `#`, each with its end, and the first one that does not.
    async fn header(&mut self) -> Result<(Vec<u8>, Option<Zeroizing<Vec<u8>>>), Fault> {
        let mut header = Vec::new();
        while let Some(line) = self.next().await? {
            if !line.starts_with(b"#") {
                return Ok((header, Some(line)));
            }
            header.extend_from_slice(&line);
            header.push(b'\n');
            if header.len() > MAX_HEADER_BYTES {
                let message =
                    format!("got a header of over {MAX_HEADER_BYTES} bytes, expected a shorter one");
                return Err(Fault::new(FaultCode::TooLarge, message));
            }
        }
        Ok((header, None))
    }
}

/// Annotates a file. Its header is looked at before anything is answered; after that a line that is wrong is told on that
/// line, and where the file itself ends too early, so does the answer: it is cut off, never a whole one.
pub(super) async fn annotate(
    State(shared): State<Arc<Shared>>,
    Caller(who): Caller,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Response {
    let mut lines = Lines::of(body);
    let begun = async {
        let asked = Asked::of(&uri)?;
        let (header, first) = lines.header().await?;
        if !header.is_empty() {
            vcf::check_header(&header).map_err(|why| {
                let message = format!(
                    "got no usable VCF header ({why}), expected ##fileformat=VCFv4.x down to #CHROM, or none"
                );
                Fault::new(FaultCode::BadRequest, message)
            })?;
        }
        Ok((asked, header, first))
    };
    let (asked, header, first) = match begun.await {
        Ok(begun) => begun,
        Err(fault) => return outcome_response(&Outcome::Fault(fault)),
    };
    let head = head(&header, &shared.health.box_name, &shared.health.site);
    let (tell, told) = mpsc::channel::<Option<Bytes>>(AT_ONCE);
    let asking = Arc::new(Asking { shared, who, asked, parent: parent(&headers) });
    tokio::spawn(async move {
        let start = (lines, first, 0_u64);
        let records = stream::unfold(start, |(mut lines, first, number)| async move {
            let line = match first {
                Some(line) => Some(Ok(line)),
                None => lines.next().await.transpose(),
            };
            line.map(|line| (line.map(|line| (line, number)), (lines, None, number + 1)))
        });
        let annotated = records.map(|record| {
            let asking = Arc::clone(&asking);
            async move {
                let (line, number) = record.ok()?;
                asking.record(&line, number).await
            }
        });
        let mut annotated = std::pin::pin!(annotated.buffered(AT_ONCE));
        let mut next = Some(Some(head));
        while let Some(bytes) = next {
            // The file broke off, whoever asks was revoked, or nobody reads: no end is told.
            let Some(bytes) = bytes else { return };
            if !matches!(timeout(READING, tell.send(Some(bytes))).await, Ok(Ok(()))) {
                return;
            }
            next = annotated.next().await;
        }
        let _ = timeout(READING, tell.send(None)).await;
    });
    let body = stream::unfold(Some(told), |told| async move {
        let mut told = told?;
        match told.recv().await {
            Some(Some(bytes)) => Some((Ok(bytes), Some(told))),
            Some(None) => None,
            None => Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None)),
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, Body::from_stream(body)).into_response()
}

/// The header with what the keys mean; what an earlier annotation said of them is taken out.
fn head(header: &[u8], box_name: &str, site: &str) -> Bytes {
    let own = format!("##INFO=<ID={PREFIX}");
    let mut head = Vec::new();
    let mut lines: Vec<&[u8]> = header.split_inclusive(|byte| *byte == b'\n').collect();
    let columns = lines.pop().unwrap_or(b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n");
    if lines.is_empty() {
        head.extend_from_slice(b"##fileformat=VCFv4.3\n");
    }
    for line in lines {
        if !line.starts_with(own.as_bytes()) && !line.starts_with(b"##locus_") {
            head.extend_from_slice(line);
        }
    }
    for (key, number, kind, about) in KEYS {
        let line = format!("{own}{key},Number={number},Type={kind},Description=\"{about}\">\n");
        head.extend_from_slice(line.as_bytes());
    }
    let told = format!("##locus_box={box_name} ({site})\n##locus_intended_use={INTENDED_USE}\n");
    head.extend_from_slice(told.as_bytes());
    head.extend_from_slice(columns);
    head.into()
}

/// Who asks about each allele.
struct Asking {
    shared: Arc<Shared>,
    who: Identity,
    asked: Asked,
    parent: Parent,
}

impl Asking {
    /// A line with what is made of it; `None` where whoever asks may no longer.
    async fn record(&self, line: &[u8], number: u64) -> Option<Bytes> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Some(Bytes::from_static(b"\n"));
        }
        if let Err(refusal) = self.shared.gate.still(&self.who) {
            refusal.count("http");
            return None;
        }
        let mut columns: Vec<&[u8]> = line.splitn(9, |byte| *byte == b'\t').collect();
        let alleles = columns.get(4).map_or(0, |alts| alts.split(|byte| *byte == b',').count());
        let mut said = Vec::new();
        if columns.len() < 8 || alleles > MAX_ALLELES {
            said.push(Said::fault(FaultCode::BadRequest));
        } else {
            let five: &[u8] = &columns[..5].join(&b'\t');
            // What else is on the line is nobody's here.
            for row in vcf::rows(&[five, &b"\t.\t.\t."[..]].concat(), number) {
                said.push(self.allele(row).await);
            }
        }
        columns.resize(columns.len().max(8), b".");
        let info = info(columns[7], &said);
        columns[7] = info.as_bytes();
        let mut bytes = columns.join(&b'\t');
        bytes.push(b'\n');
        Some(bytes.into())
    }

    async fn allele(&self, row: Row) -> Said {
        if row.variant.is_err() {
            return Said::fault(FaultCode::BadMutation);
        }
        let Row { contig, position, ref_allele, alt_allele, .. } = row;
        let request = Request {
            variant: Some(format!("{contig}-{position}-{ref_allele}-{alt_allele}")),
            assembly: self.asked.assembly.clone(),
            model: self.asked.model.clone(),
            lane: Some(Lane::Batch),
            ..Request::default()
        };
        let outcome = batch::answer(&self.shared, &self.who.name, request.check(), &self.parent).await;
        match &*outcome {
            Outcome::Answer(answer) => Said::answer(answer),
            Outcome::Fault(fault) => Said::fault(fault.code),
        }
    }
}

/// The value of each of [`KEYS`] for one allele.
struct Said([Option<String>; KEYS.len()]);

impl Said {
    fn fault(code: FaultCode) -> Self {
        let mut said = [const { None }; KEYS.len()];
        (said[0], said[8]) = (Some("none".into()), Some(code.as_str().into()));
        Self(said)
    }

    fn answer(answer: &Answer) -> Self {
        let evidence = answer.evidence.as_ref();
        Self([
            Some(answer.band.as_str().to_owned()),
            answer.pathogenic_probability.map(|probability| format!("{probability:.4}")),
            answer.consequence.clone(),
            answer.hgvs_c.clone(),
            answer.hgvs_p.clone(),
            answer.transcript_id.clone(),
            evidence.map(|step| format!("{}_{}", step.criterion, step.strength.replace(' ', "_"))),
            answer.abstained.then(|| answer.predicted_description.clone()),
            None,
            answer.receipt.as_ref().map(|receipt| receipt.index.to_string()),
            Some(format!("{}@{}", answer.model.name, answer.model.version)),
        ])
    }
}

/// INFO with what is said of each allele; keys of which nothing is said are left out.
fn info(before: &[u8], said: &[Said]) -> String {
    let before = String::from_utf8_lossy(before);
    let mut pairs: Vec<String> = before
        .split(';')
        .filter(|pair| !pair.is_empty() && *pair != "." && !pair.starts_with(PREFIX))
        .map(str::to_owned)
        .collect();
    for (n, (key, ..)) in KEYS.iter().enumerate() {
        if said.iter().any(|one| one.0[n].is_some()) {
            let values: Vec<String> =
                said.iter().map(|one| one.0[n].as_deref().map_or_else(|| ".".to_owned(), escaped)).collect();
            pairs.push(format!("{PREFIX}{key}={}", values.join(",")));
        }
    }
    pairs.join(";")
}

/// As VCF writes what would end a value.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            ';' | '=' | '%' | ',' | ' ' | '\t' | '\r' | '\n' => {
                text.push_str(&format!("%{:02X}", u32::from(letter)));
            }
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::an_answer;

    #[test]
    fn a_header_gets_every_key_once_and_what_it_was_given_stays() {
        let given = b"##fileformat=VCFv4.2\n##INFO=<ID=DP,Number=1,Type=Integer,Description=\"x\">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\n";
        let once = head(given, "b", "s");
        vcf::check_header(&once).unwrap();
        let text = String::from_utf8(once.to_vec()).unwrap();
        assert!(text.starts_with("##fileformat=VCFv4.2\n##INFO=<ID=DP") && text.ends_with("FORMAT\tone\n"));
        assert_eq!(text.matches("##INFO=<ID=LOCUS_").count(), KEYS.len());
        assert_eq!(head(&once, "b", "s"), once, "annotated again it is the same");
        vcf::check_header(&head(b"", "b", "s")).unwrap();
    }

    #[test]
    fn what_is_said_of_each_allele_follows_what_was_there() {
        let Outcome::Answer(mut answer) = an_answer() else { panic!("an answer") };
        answer.hgvs_p = Some("p.(Arg1699=)".into());
        answer.predicted_description = "no prediction: a, b".into();
        let said = [Said::answer(&answer), Said::fault(FaultCode::RefMismatch)];
        let info = info(b"DP=3;LOCUS_BAND=x;DB", &said);
        assert_eq!(
            info,
            "DP=3;DB;LOCUS_BAND=none,none;LOCUS_HGVSP=p.(Arg1699%3D),.;LOCUS_NOTE=no%20prediction:%20a%2C%20b,.;LOCUS_FAULT=.,ref_mismatch;LOCUS_MODEL=m@1.0.0,."
        );
        assert_eq!(super::info(b".", &[Said::fault(FaultCode::Busy)]), "LOCUS_BAND=none;LOCUS_FAULT=busy");
    }

    #[tokio::test]
    async fn lines_are_read_whole_however_they_come() {
        let parts: Vec<Result<&[u8], io::Error>> =
            vec![Ok(b"##a\r\n#CH"), Ok(b"ROM\nline 1\n"), Ok(b"line"), Ok(b" 2\n\n"), Ok(b"line 3")];
        let mut lines = Lines::of(Body::from_stream(stream::iter(parts)));
        let (header, first) = lines.header().await.unwrap();
        assert_eq!((header.as_slice(), first.unwrap().as_slice()), (&b"##a\n#CHROM\n"[..], &b"line 1"[..]));
        let mut rest = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            rest.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(rest, ["line 2", "", "line 3"]);
        let long = stream::iter((0..40).map(|_| Ok::<_, io::Error>(vec![b'x'; 64 << 10])));
        let mut lines = Lines::of(Body::from_stream(long));
        assert_eq!(lines.next().await.unwrap_err().code, FaultCode::TooLarge);
        let cut = stream::iter(vec![Ok(&b"half"[..]), Err(io::Error::other("gone"))]);
        assert!(Lines::of(Body::from_stream(cut)).next().await.is_err());
    }
}

//! One explained variant as a picture: the bases with exon, codons and residues, what each adds to the answer, what
//! the model says of every other variant of the window, and the answer itself.

use std::fmt::Write as _;

use locus_engine::Verdict;
use locus_firmware_config::message::Band;
use locus_genome::{
    Strand,
    transcript::{ExonPart, Site},
};
use serde_json::{Value, json};

use super::{
    Attention, Attribution, Model, Scan, Subject,
    mutagenesis::BASES,
    subject::{Place, to_bases},
};
use crate::report::{Picture, escape, palette};

/// Everything that is known about one answer.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// The variant.
    pub subject: Subject<'a>,
    /// What each input adds.
    pub attribution: Attribution,
    /// What the tokens at the variant read.
    pub attention: Attention,
    /// The other variants of the window.
    pub scan: Scan,
    /// The answer, as a box would give it in f32.
    pub verdict: Verdict,
}

/// Features shown by name.
const FEATURES: usize = 10;
/// Widths in units of the picture.
const LEFT: f64 = 96.0;
const CELL: f64 = 13.5;
const RIGHT: f64 = 24.0;

const fn word(band: Band) -> &'static str {
    match band {
        Band::Benign => "benign",
        Band::Uncertain => "uncertain",
        Band::Pathogenic => "pathogenic",
        _ => "none",
    }
}

impl Explanation<'_> {
    /// Attributions of words and of the track, per base of the window.
    fn per_base(&self, model: &Model) -> [Vec<f64>; 2] {
        let (n, t) = (self.subject.window.bases.len(), model.encoder.tokenizer());
        [&self.attribution.words, &self.attribution.track].map(|v| to_bases(v, n, t.k(), t.stride()))
    }

    /// Features that are given, the ones that add most first.
    fn features(&self) -> Vec<(String, f64)> {
        let names = locus_genome::feature_names();
        let mut given: Vec<(String, f64)> = names
            .into_iter()
            .zip(self.attribution.features.iter().copied())
            .filter(|(_, v)| *v != 0.0)
            .collect();
        given.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        given
    }

    fn answer(&self) -> String {
        match (&self.verdict.abstained, self.verdict.probability) {
            (None, Some(p)) => format!(
                "probability {p:.3} at prior {:.2}: {}",
                self.verdict.prior.unwrap_or(f64::NAN),
                word(self.verdict.band)
            ),
            (reason, _) => format!("no answer: {}", reason.as_deref().unwrap_or("no probability")),
        }
    }

    /// The same as a JSON value: positions are 1-based, bases in sense, attributions in logits.
    pub fn json(&self, model: &Model) -> Value {
        let (s, e) = (&self.subject, &self.subject.encoded);
        let [words, track] = self.per_base(model);
        let bases: Vec<Value> = (0..s.window.bases.len())
            .map(|i| {
                json!({
                    "position": s.position(i), "base": char::from(s.window.bases[i]).to_string(),
                    "words": words[i], "track": track[i],
                    "variants": BASES.iter().zip(&self.scan.logits[i])
                        .filter_map(|(b, z)| Some((char::from(*b).to_string(), (*z)?)))
                        .collect::<std::collections::BTreeMap<_, _>>(),
                })
            })
            .collect();
        let [w, t, f] = self.attribution.shares();
        json!({
            "model": model.name,
            "variant": s.variant.to_string(),
            "gene": e.gene, "transcript": e.transcript_id,
            "consequence": e.consequence.map(|c| c.so_term()),
            "amino_acid_change": e.amino_acid_change,
            "input_mode": e.mode.as_str(),
            "probability": self.verdict.probability,
            "prior": self.verdict.prior,
            "band": word(self.verdict.band),
            "abstained": self.verdict.abstained,
            "logit": self.attribution.logit,
            "blank_logit": self.attribution.blank,
            "completeness_error": self.attribution.completeness_error,
            "points": self.attribution.points,
            "shares": { "words": w, "track": t, "features": f },
            "bases": bases,
            "features": self.features().into_iter().map(|(n, v)| json!({ "name": n, "logit": v })).collect::<Vec<_>>(),
            "rollout": self.attention.pooled,
        })
    }
}

/// A term or a feature's name in words.
fn spoken(name: &str) -> String {
    name.trim_start_matches("consequence:").replace('&', ", ").replace('_', " ")
}

/// SVG text as it grows.
struct Sheet(String);

impl Sheet {
    fn text(&mut self, (x, y): (f64, f64), size: f64, anchor: &str, fill: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{text}</text>"
        );
    }

    fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), fill: &str, more: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\" fill=\"{fill}\" {more}/>"
        );
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str, width: f64) {
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\" stroke=\"{stroke}\" stroke-width=\"{width}\"/>"
        );
    }
}

/// From white over orange to dark brown: darker is more, also in grey.
fn shade(value: f64) -> String {
    const STOPS: [[f64; 3]; 4] =
        [[255.0, 250.0, 243.0], [250.0, 190.0, 120.0], [213.0, 94.0, 0.0], [82.0, 28.0, 0.0]];
    let at = value.clamp(0.0, 1.0) * 3.0;
    let i = (at as usize).min(2);
    let mix = |c: usize| STOPS[i][c] + (STOPS[i + 1][c] - STOPS[i][c]) * (at - i as f64);
    format!("#{:02X}{:02X}{:02X}", mix(0) as u8, mix(1) as u8, mix(2) as u8)
}

/// Draws an explanation.
pub fn draw(model: &Model, explanation: &Explanation<'_>) -> Picture {
    let subject = &explanation.subject;
    let (e, n, centre) = (&subject.encoded, subject.window.bases.len(), subject.window.centre);
    let width = LEFT + n.max(40) as f64 * CELL + RIGHT;
    let x = |offset: usize| LEFT + offset as f64 * CELL;
    let [ink, faint, grid] = [palette::INK, palette::FAINT, palette::GRID].map(palette::hex);
    let [blue, orange] = [0, 1].map(|i| palette::hex(palette::SERIES[i]));
    let mut s = Sheet(String::new());

    let title = [
        Some(subject.variant.to_string()),
        e.gene.clone(),
        e.amino_acid_change.clone(),
        e.consequence.map(|c| spoken(c.so_term())),
    ];
    let title = title.into_iter().flatten().collect::<Vec<_>>().join(", ");
    s.text((12.0, 26.0), 17.0, "start", &ink, &title);
    let read = match &e.transcript_id {
        Some(id) if subject.strand == Strand::Reverse => format!("read on {id}, reverse strand"),
        Some(id) => format!("read on {id}, forward strand"),
        None => "without transcript, forward strand".into(),
    };
    let answer = explanation.answer();
    let answer_line = format!("{answer}; {read}");
    // A reason for no answer is long.
    let size = if answer_line.len() > 110 { 11.0 } else { 13.0 };
    s.text((12.0, 47.0), size, "start", &ink, &answer_line);
    let a = &explanation.attribution;
    let [words, track, features] = a.shares().map(|v| 100.0 * v);
    s.text(
        (12.0, 65.0),
        11.0,
        "start",
        &faint,
        &format!(
            "logit {:.2}, of a blank input {:.2}; {words:.0} % of the attribution is on bases, {track:.0} % on annotation, {features:.0} % on features; completeness error {:.2} %",
            a.logit, a.blank, 100.0 * a.completeness_error
        ),
    );

    // The variant's column, behind everything.
    s.rect((x(centre), 82.0), (CELL, 346.0), "#F1F3F5", "");

    gene(&mut s, subject, &x, 104.0);
    // Bases.
    let y = 158.0;
    for (i, &base) in subject.window.bases.iter().enumerate() {
        let text = char::from(base).to_string();
        s.text((x(i) + CELL / 2.0, y), 11.5, "middle", &ink, &text);
    }
    s.text((LEFT - 8.0, y), 11.0, "end", &ink, "reference");
    s.text((LEFT - 8.0, y + 15.0), 11.0, "end", &ink, "alternate");
    let changed = char::from(subject.alternate()).to_string();
    s.text((x(centre) + CELL / 2.0, y + 15.0), 12.5, "middle", &orange, &changed);
    for i in (0..n).filter(|i| (*i as i64 - centre as i64) % 10 == 0) {
        let at = i as i64 - centre as i64;
        let label = if at == 0 { subject.position(i).to_string() } else { format!("{at:+}") };
        s.text((x(i) + CELL / 2.0, y + 31.0), 9.5, "middle", &faint, &label);
    }

    s.text((LEFT, 206.0), 11.0, "start", &faint, "what each base adds to the answer, in logits");
    bars(&mut s, &explanation.per_base(model), &x, (213.0, 86.0));
    // Other variants.
    let top = 322.0;
    let height = 15.0;
    let calibration = model.probability.modes.get(e.mode.as_str());
    let value = |z: f32| match calibration {
        Some(c) => locus_engine::probability::probability(f64::from(z), c.temperature, c.offset),
        None => locus_engine::probability::probability(f64::from(z), 1.0, 0.0),
    };
    for (row, base) in BASES.iter().enumerate() {
        let y = top + row as f64 * height;
        s.text((LEFT - 8.0, y + 11.5), 11.0, "end", &ink, &format!("to {}", char::from(*base)));
        for (i, cell) in explanation.scan.logits.iter().enumerate() {
            match cell[row] {
                Some(z) => s.rect(
                    (x(i), y),
                    (CELL, height),
                    &shade(value(z)),
                    "stroke=\"#FFFFFF\" stroke-width=\"0.6\"",
                ),
                None => s.rect((x(i) + CELL / 2.0 - 1.5, y + height / 2.0 - 1.5), (3.0, 3.0), &grid, ""),
            }
        }
    }
    if let Some(row) = BASES.iter().position(|&b| b == subject.alternate()) {
        let more = format!("stroke=\"{ink}\" stroke-width=\"1.8\"");
        s.rect((x(centre), top + row as f64 * height), (CELL, height), "none", &more);
    }
    let head = match explanation.verdict.abstained {
        None => "probability of each single-base variant, were it asked about",
        Some(_) => "how each single-base variant scores; there are no answers in this input mode",
    };
    s.text((LEFT, top - 7.0), 11.0, "start", &faint, head);
    for step in 0..60 {
        s.rect(
            (x(n) - 190.0 + 2.0 * f64::from(step), top - 16.0),
            (2.2, 10.0),
            &shade(f64::from(step) / 59.0),
            "",
        );
    }
    s.text((x(n) - 194.0, top - 7.0), 10.0, "end", &faint, "0");
    s.text((x(n) - 66.0, top - 7.0), 10.0, "start", &faint, "1 pathogenic");

    // Attention.
    let top = 412.0;
    let flow = to_bases(
        &explanation.attention.pooled,
        n,
        model.encoder.tokenizer().k(),
        model.encoder.tokenizer().stride(),
    );
    let most = flow.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    s.text(
        (LEFT, top - 7.0),
        11.0,
        "start",
        &faint,
        "attention rollout: what the tokens at the variant read (darker is more)",
    );
    s.text((LEFT - 8.0, top + 11.5), 11.0, "end", &ink, "attention");
    for (i, &v) in flow.iter().enumerate() {
        let grey = (245.0 - 205.0 * v / most) as u8;
        s.rect((x(i), top), (CELL, height), &format!("#{grey:02X}{grey:02X}{grey:02X}"), "");
    }
    let y = 446.0;
    s.rect((LEFT, y), (10.0, 10.0), &orange, "");
    s.text((LEFT + 15.0, y + 9.0), 10.5, "start", &ink, "towards pathogenic (up)");
    s.rect((LEFT + 170.0, y), (10.0, 10.0), &blue, "");
    s.text((LEFT + 185.0, y + 9.0), 10.5, "start", &ink, "towards benign (down)");
    s.rect((LEFT + 330.0, y), (5.0, 10.0), "none", &format!("stroke=\"{ink}\" stroke-width=\"1\""));
    s.text((LEFT + 342.0, y + 9.0), 10.5, "start", &ink, "outlined: by what the annotation says of the base");

    let height = named(&mut s, explanation, width, 486.0);
    let alt = format!(
        "{answer}. Bars over {n} bases around the variant say what each adds to the answer, a heat map what every other single-base variant would be given."
    );
    let svg = format!(
        "<svg width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" xmlns=\"http://www.w3.org/2000/svg\">\n<rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#FFFFFF\"/>\n{}</svg>\n",
        s.0
    );
    Picture::new(title, alt, &svg)
}

/// Exon, intron, codons and residues over the bases, with `y` in the middle of the exon.
fn gene(s: &mut Sheet, subject: &Subject<'_>, x: &dyn Fn(usize) -> f64, y: f64) {
    let [ink, faint, paper] = [palette::INK, palette::FAINT, palette::PAPER].map(palette::hex);
    let n = subject.window.bases.len();
    let places: Vec<Option<Place>> = (0..n).map(|i| subject.place(i)).collect();
    if places.iter().all(Option::is_none) {
        s.text((LEFT - 8.0, y + 4.0), 11.0, "end", &ink, "transcript");
        s.text((LEFT, y + 4.0), 11.0, "start", &faint, "none given: the model reads the bases alone");
        return;
    }
    s.text((LEFT - 8.0, y + 4.0), 11.0, "end", &ink, "exon");
    s.text((LEFT - 8.0, y + 32.0), 11.0, "end", &ink, "residue");
    let coding = |p: &Option<Place>| match p.map(|p| p.site) {
        Some(Site::Exon { part: ExonPart::Coding { index, codon_base }, .. }) => Some((index, codon_base)),
        _ => None,
    };
    let exonic = |p: &Option<Place>| matches!(p.map(|p| p.site), Some(Site::Exon { .. }));
    for (i, place) in places.iter().enumerate() {
        let at = x(i);
        match (coding(place), exonic(place)) {
            (Some((index, base)), _) => {
                let fill = if (index - i64::from(base)) / 3 % 2 == 0 { "#C9D6E2" } else { "#A9BCCD" };
                s.rect((at, y - 9.0), (CELL + 0.1, 18.0), fill, "");
            }
            (None, true) => s.rect((at, y - 5.0), (CELL + 0.1, 10.0), "#C9D6E2", ""),
            (None, false) => s.line((at, y), (at + CELL, y), &faint, 1.4),
        }
    }
    // What each stretch is, once; and where exons begin and end.
    let kind = |p: &Option<Place>| match p.map(|p| p.site) {
        Some(Site::Exon { part: ExonPart::Coding { .. }, .. }) => "coding exon",
        Some(Site::Exon { part: ExonPart::FivePrimeUtr, .. }) => "5' UTR",
        Some(Site::Exon { part: ExonPart::ThreePrimeUtr, .. }) => "3' UTR",
        Some(Site::Exon { .. }) => "non-coding exon",
        Some(Site::Intron { .. }) => "intron",
        Some(Site::Upstream) => "upstream",
        _ => "downstream",
    };
    let mut from = 0;
    for i in 1..=n {
        if i < n && kind(&places[i]) == kind(&places[from]) {
            continue;
        }
        if i - from >= 6 {
            s.text((f64::midpoint(x(from), x(i)), y - 13.0), 10.0, "middle", &faint, kind(&places[from]));
        }
        if i < n && exonic(&places[i]) != exonic(&places[from]) {
            s.line((x(i), y - 11.0), (x(i), y + 11.0), &ink, 1.2);
        }
        from = i;
    }
    // A residue stands under the middle of what is seen of its codon.
    let mut from = 0;
    while from < n {
        let codon = |i: usize| coding(&places[i]).map(|(index, base)| index - i64::from(base));
        let Some(first) = codon(from) else {
            from += 1;
            continue;
        };
        let to = (from..n).take_while(|&i| codon(i) == Some(first)).last().unwrap_or(from) + 1;
        let middle = f64::midpoint(x(from), x(to));
        if let Some(residue) = places[from].and_then(|p| p.residue) {
            let here = (from..to).contains(&subject.window.centre);
            let change = subject.encoded.amino_acid_change.as_deref().filter(|_| here);
            let new = change.and_then(|c| c.chars().last()).filter(|c| *c != residue);
            let text = new.map_or_else(|| residue.to_string(), |new| format!("{residue} to {new}"));
            s.text((middle, y + 32.0), 11.0, "middle", &ink, &text);
            s.line((x(from) + 1.5, y + 20.0), (x(to) - 1.5, y + 20.0), &faint, 0.8);
        }
        from = to;
    }
    // The sense.
    let _ = writeln!(
        s.0,
        "<path d=\"M {:.1} {:.1} l 7 4 l -7 4 z\" fill=\"{ink}\" stroke=\"{paper}\"/>",
        x(n) + 4.0,
        y - 4.0
    );
}

/// Attributions of words (filled) and track (outlined) per base, between `top` and `top + height`.
fn bars(s: &mut Sheet, [words, track]: &[Vec<f64>; 2], x: &dyn Fn(usize) -> f64, (top, height): (f64, f64)) {
    let [ink, faint, grid] = [palette::INK, palette::FAINT, palette::GRID].map(palette::hex);
    let [blue, orange] = [0, 1].map(|i| palette::hex(palette::SERIES[i]));
    let all = || words.iter().chain(track).copied();
    let (low, high) = (all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let scale = height / (high - low).max(1e-6);
    let zero = top + high * scale;
    for (value, y) in [(high, top), (low, top + height)] {
        // Not where it would stand in the zero's way.
        if (y - zero).abs() > 9.0 {
            s.line((LEFT, y), (x(words.len()), y), &grid, 0.8);
            s.text((LEFT - 8.0, y + 4.0), 10.0, "end", &faint, &format!("{value:+.2}"));
        }
    }
    for i in 0..words.len() {
        let mut bar = |value: f64, from: f64, width: f64, outlined: bool| {
            let tall = (value.abs() * scale).max(0.0);
            let colour = if value > 0.0 { &orange } else { &blue };
            let y = if value > 0.0 { zero - tall } else { zero };
            let line = format!("stroke=\"{colour}\" stroke-width=\"0.9\"");
            if tall > 0.3 {
                s.rect((x(i) + from, y), (width, tall), if outlined { "none" } else { colour }, &line);
            }
        };
        bar(words[i], 1.6, 5.6, false);
        bar(track[i], 8.6, 3.4, true);
    }
    s.line((LEFT, zero), (x(words.len()), zero), &ink, 0.9);
    s.text((LEFT - 8.0, zero + 4.0), 10.0, "end", &ink, "0");
}

/// The features that add most, as bars; gives the picture's height.
fn named(s: &mut Sheet, explanation: &Explanation<'_>, width: f64, top: f64) -> f64 {
    let [ink, faint] = [palette::INK, palette::FAINT].map(palette::hex);
    let [blue, orange] = [0, 1].map(|i| palette::hex(palette::SERIES[i]));
    let features = explanation.features();
    if features.is_empty() {
        s.text((12.0, top), 11.0, "start", &faint, "no annotation features in this input mode");
        return top + 16.0;
    }
    let shown = &features[..features.len().min(FEATURES)];
    let rest: f64 = features.iter().skip(FEATURES).map(|f| f.1).sum();
    let head = match features.len() - shown.len() {
        0 => "what each feature adds, in logits".to_owned(),
        others => format!("what each feature adds, in logits (the other {others} together {rest:+.2})"),
    };
    s.text((12.0, top), 11.0, "start", &faint, &head);
    let (low, high) = shown.iter().fold((0.0f64, 0.0f64), |(low, high), f| (low.min(f.1), high.max(f.1)));
    let longest = shown.iter().map(|f| spoken(&f.0).chars().count()).max().unwrap_or(0);
    let from = 62.0 + 6.6 * longest as f64;
    let scale = (width - from - 110.0) / (high - low).max(1e-6);
    let zero = from - low * scale;
    for (i, (name, value)) in shown.iter().enumerate() {
        let y = top + 10.0 + 16.0 * i as f64;
        s.text((from - 8.0 - if low < 0.0 { 38.0 } else { 0.0 }, y + 10.5), 11.0, "end", &ink, &spoken(name));
        let tall = value.abs() * scale;
        let (at, colour) = if *value > 0.0 { (zero, &orange) } else { (zero - tall, &blue) };
        s.rect((at, y + 1.0), (tall, 11.0), colour, "");
        let (at, anchor) =
            if *value > 0.0 { (zero + tall + 5.0, "start") } else { (zero - tall - 5.0, "end") };
        s.text((at, y + 10.5), 10.0, anchor, &faint, &format!("{value:+.2}"));
    }
    let bottom = top + 14.0 + 16.0 * shown.len() as f64;
    s.line((zero, top + 8.0), (zero, bottom - 2.0), &ink, 0.9);
    bottom + 8.0
}

//! The plots that reports are made of.

use super::{Axis, Corner, Layer, Picture, Plot};
use crate::{Result, metrics::Bin};

/// Points nearer than this to the one before are not drawn: it is less than a pixel.
const NEAR: f64 = 2e-3;

/// Sensitivity over 1 − specificity, a curve a name.
///
/// # Errors
/// As [`Plot::draw`].
pub fn roc(title: &str, alt: &str, curves: &[(String, Vec<(f64, f64)>)]) -> Result<Picture> {
    let axis = |label| Axis::numbers(label, 0.0, 1.0);
    let plot = Plot::new(title, alt, axis("1 − specificity"), axis("sensitivity"));
    let plot = curves.iter().fold(plot, |p, (n, c)| p.with(Layer::Line(n.clone(), thin(c))));
    let chance = Layer::Guide("chance".into(), vec![(0.0, 0.0), (1.0, 1.0)]);
    plot.with(chance).size(440, 420).legend(Corner::LowerRight).draw()
}

/// Precision over recall, a curve a name; `share` of positives is what chance gives.
///
/// # Errors
/// As [`Plot::draw`].
pub fn precision_recall(
    title: &str,
    alt: &str,
    curves: &[(String, Vec<(f64, f64)>)],
    share: f64,
) -> Result<Picture> {
    let axis = |label| Axis::numbers(label, 0.0, 1.0);
    let plot = Plot::new(title, alt, axis("recall"), axis("precision"));
    let plot = curves.iter().fold(plot, |p, (n, c)| p.with(Layer::Line(n.clone(), thin(c))));
    let chance = Layer::Guide("chance".into(), vec![(0.0, share), (1.0, share)]);
    plot.with(chance).size(440, 420).legend(Corner::LowerLeft).draw()
}

/// Observed share over mean probability, a series a name, with 95 % intervals of the first.
///
/// # Errors
/// As [`Plot::draw`].
pub fn reliability(title: &str, alt: &str, series: &[(String, Vec<Bin>)]) -> Result<Picture> {
    let axis = |label| Axis::numbers(label, 0.0, 1.0);
    let mut plot = Plot::new(title, alt, axis("mean probability"), axis("observed share"))
        .with(Layer::Guide("perfect".into(), vec![(0.0, 0.0), (1.0, 1.0)]));
    for (n, (name, bins)) in series.iter().enumerate() {
        plot = plot.with(Layer::Points(name.clone(), bins.iter().map(|b| (b.mean, b.share)).collect()));
        if n == 0 {
            let all = bins.iter().map(|b| (b.low, b.high, b.mean)).collect();
            plot = plot.with(Layer::Intervals { upright: true, all });
        }
    }
    plot.size(440, 420).legend(Corner::UpperLeft).draw()
}

/// Shares of each series in `bins` equal steps over all values.
///
/// # Errors
/// As [`Plot::draw`].
pub fn histogram(
    title: &str,
    alt: &str,
    label: &str,
    series: &[(&str, &[f64])],
    bins: usize,
) -> Result<Picture> {
    let bins = bins.max(1);
    let finite = || series.iter().flat_map(|(_, v)| v.iter().copied()).filter(|v| v.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if high > low {
        (low, high)
    } else if low.is_finite() {
        (low - 0.5, low + 0.5)
    } else {
        (0.0, 1.0)
    };
    let width = (high - low) / bins as f64;
    let mut highest = 0.0_f64;
    let mut layers = Vec::new();
    for (name, values) in series {
        let mut counts = vec![0_usize; bins];
        values
            .iter()
            .filter(|v| v.is_finite())
            .for_each(|v| counts[(((v - low) / width) as usize).min(bins - 1)] += 1);
        let all = counts.iter().sum::<usize>().max(1) as f64;
        let boxes: Vec<[f64; 4]> = counts
            .iter()
            .enumerate()
            .filter(|(_, c)| **c > 0)
            .map(|(i, &c)| [low + i as f64 * width, low + (i + 1) as f64 * width, 0.0, c as f64 / all])
            .collect();
        highest = boxes.iter().map(|b| b[3]).fold(highest, f64::max);
        layers.push(Layer::Boxes((*name).to_owned(), boxes));
    }
    let plot =
        Plot::new(title, alt, Axis::numbers(label, low, high), Axis::numbers("share", 0.0, 1.05 * highest));
    layers.into_iter().fold(plot, Plot::with).draw()
}

/// One upright bar a name.
///
/// # Errors
/// As [`Plot::draw`].
pub fn bars(title: &str, alt: &str, label: &str, values: &[(String, f64)]) -> Result<Picture> {
    let finite = || values.iter().map(|(_, v)| *v).filter(|v| v.is_finite());
    let (low, high) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
    let boxes = values.iter().enumerate().map(|(i, (_, v))| {
        let i = i as f64;
        [i + 0.15, i + 0.85, v.min(0.0), v.max(0.0)]
    });
    let names = values.iter().map(|(n, _)| n.clone()).collect();
    let y = Axis::numbers(label, 1.05 * low, 1.08 * high);
    Plot::new(title, alt, Axis::names("", names), y).with(Layer::Boxes(String::new(), boxes.collect())).draw()
}

/// Name, value and its interval.
pub type ForestRow = (String, f64, Option<(f64, f64)>);

/// One value a row with its interval, the first row on top; `guide` is where nothing is.
///
/// # Errors
/// As [`Plot::draw`].
pub fn forest(
    title: &str,
    alt: &str,
    label: &str,
    rows: &[ForestRow],
    guide: Option<f64>,
) -> Result<Picture> {
    let n = rows.len();
    let at = |i: usize| (n - 1 - i) as f64 + 0.5;
    let ends = rows.iter().flat_map(|(_, v, i)| [Some(*v), i.map(|i| i.0), i.map(|i| i.1)]);
    let x = Axis::around(label, ends.flatten().chain(guide));
    let y = Axis::names("", rows.iter().rev().map(|r| r.0.clone()).collect());
    let width = 400 + y.width();
    let mut plot = Plot::new(title, alt, x, y).size(width, 90 + 22 * n as u32);
    if let Some(guide) = guide {
        plot = plot.with(Layer::Guide(String::new(), vec![(guide, 0.0), (guide, n as f64)]));
    }
    let dots = rows.iter().enumerate().map(|(i, r)| (r.1, at(i))).collect();
    let all = rows.iter().enumerate().filter_map(|(i, r)| r.2.map(|(l, h)| (l, h, at(i)))).collect();
    plot.with(Layer::Points(String::new(), dots)).with(Layer::Intervals { upright: false, all }).draw()
}

/// A cell for each row (from the top) and column, with its count; strength is the share of its row.
///
/// # Errors
/// As [`Plot::draw`].
pub fn heat_map(
    title: &str,
    alt: &str,
    labels: (&str, &str),
    names: (&[String], &[String]),
    counts: &[Vec<u64>],
) -> Result<Picture> {
    let (rows, columns) = names;
    let n = rows.len();
    let mut cells = Vec::new();
    for (r, row) in counts.iter().enumerate().take(n) {
        let all = row.iter().sum::<u64>().max(1) as f64;
        cells.extend(row.iter().enumerate().map(|(c, &v)| (c, n - 1 - r, v as f64 / all, v.to_string())));
    }
    let y = Axis::names(labels.0, rows.iter().rev().cloned().collect());
    let width = 180 + 74 * columns.len().max(2) as u32;
    Plot::new(title, alt, Axis::names(labels.1, columns.to_vec()), y)
        .with(Layer::Cells(cells))
        .size(width.min(1_200), (130 + 52 * n.max(2) as u32).min(1_200))
        .draw()
}

fn thin(curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for (i, &(x, y)) in curve.iter().enumerate() {
        let far = kept.last().is_none_or(|l| (l.0 - x).abs() + (l.1 - y).abs() >= NEAR);
        if far || i + 1 == curve.len() {
            kept.push((x, y));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_shows_shares_of_each_series() {
        let picture = histogram("t", "a", "x", &[("low", &[0.0, 0.1, 1.0]), ("none", &[])], 4).unwrap();
        assert!(picture.svg().contains("low") && picture.svg().contains("0.6"));
        assert!(histogram("t", "a", "x", &[("same", &[2.0; 3])], 3).is_ok());
        assert!(histogram("t", "a", "x", &[], 0).is_ok());
    }

    #[test]
    fn a_heat_map_has_its_first_row_on_top_and_every_count() {
        let names = ["b".to_owned(), "p".to_owned()];
        let svg =
            heat_map("t", "a", ("true", "called"), (&names, &names), &[vec![71, 3], vec![5, 22]]).unwrap();
        let svg = svg.svg();
        for count in ["71", "3", "5", "22"] {
            assert!(svg.contains(&format!("\n{count}\n")), "{count}");
        }
        let height = |count: &str| {
            let text = &svg[..svg.find(&format!("\n{count}\n")).unwrap()];
            let y = &text[text.rfind(" y=\"").unwrap() + 4..];
            y[..y.find('"').unwrap()].parse::<u32>().unwrap()
        };
        assert!(height("71") < height("22"));
    }

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_ends() {
        let curve: Vec<(f64, f64)> =
            (0..=100_000).map(|i| (f64::from(i) / 1e5, f64::from(i) / 1e5)).collect();
        let thin = thin(&curve);
        assert!(thin.len() < 1_100 && thin[0] == (0.0, 0.0) && thin[thin.len() - 1] == (1.0, 1.0));
    }
}

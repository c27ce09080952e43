//! Lines, points, bars and cells over two axes.

use plotters::{
    coord::types::RangedCoordf64,
    prelude::*,
    style::{
        RGBAColor,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    Picture,
    palette::{FAINT, GRID, INK, PAPER, SERIES},
};
use crate::{Error, Result};

const LETTERS: f64 = 13.0;

/// An axis: numbers over a range, or one name in each unit from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    label: String,
    range: (f64, f64),
    names: Option<Vec<String>>,
    scale: Scale,
}

/// What the numbers of an axis stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// Themselves.
    Linear,
    /// Powers of ten.
    Powers,
    /// Nines: 2 is 99 %.
    Nines,
}

impl Axis {
    /// Numbers from `low` to `high`; a range that is none is widened.
    pub fn numbers(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = if low.is_finite() && high.is_finite() { (low, high) } else { (0.0, 1.0) };
        let high = if high > low { high } else { low + 1.0 };
        Self { label: label.into(), range: (low, high), names: None, scale: Scale::Linear }
    }

    /// Numbers that hold all of `values`, and a little more.
    pub fn around(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let finite = values.into_iter().filter(|v| v.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let room = if high > low { 0.04 * (high - low) } else { 0.5 };
        Self::numbers(label, low - room, high + room)
    }

    /// A name for each unit.
    pub fn names(label: &str, names: Vec<String>) -> Self {
        let range = (0.0, names.len().max(1) as f64);
        Self { label: label.into(), range, names: Some(names), scale: Scale::Linear }
    }

    /// Powers of ten that hold all of `logarithms` (to base 10), and a little more: points are drawn at these, and ticks
    /// say what they stand for.
    pub fn powers(label: &str, logarithms: impl IntoIterator<Item = f64>) -> Self {
        Self { scale: Scale::Powers, ..Self::around(label, logarithms) }
    }

    /// Shares from 0 to almost all: a share s is drawn at −log10(1 − s), so that 90 %, 99 % and 99.9 % are as far apart,
    /// up to `most` nines.
    pub fn nines(label: &str, most: f64) -> Self {
        Self { scale: Scale::Nines, ..Self::numbers(label, 0.0, most) }
    }

    /// What stands beside a tick.
    fn tick(&self, value: f64) -> String {
        match self.scale {
            Scale::Linear => tick(value, self.names.is_some()),
            Scale::Powers => power(value),
            Scale::Nines => nines(value),
        }
    }

    /// Units that its longest name takes, as letters are wide.
    pub(super) fn width(&self) -> u32 {
        let longest = self.names.iter().flatten().map(|n| n.chars().count()).max().unwrap_or(0);
        (longest as f64 * LETTERS * 0.56) as u32
    }
}

/// Where the legend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corner {
    /// Upper left.
    UpperLeft,
    /// Upper right.
    UpperRight,
    /// Lower left.
    LowerLeft,
    /// Lower right.
    LowerRight,
}

/// One thing that is drawn over the axes. A named one is in the legend.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// Points joined in their order.
    Line(String, Vec<(f64, f64)>),
    /// A thin broken line: what is compared with.
    Guide(String, Vec<(f64, f64)>),
    /// Dots.
    Points(String, Vec<(f64, f64)>),
    /// Filled boxes `(left, right, bottom, top)`.
    Boxes(String, Vec<[f64; 4]>),
    /// Horizontal `(low, high, y)` or, where `upright`, vertical `(low, high, x)` intervals.
    Intervals {
        /// Along the second axis.
        upright: bool,
        /// The intervals.
        all: Vec<(f64, f64, f64)>,
    },
    /// Words `(x, y, text)`, centred.
    Words(Vec<(f64, f64, String)>),
    /// Unit cells `(column, row, strength from 0 to 1)`, with a word on each.
    Cells(Vec<(usize, usize, f64, String)>),
}

/// A plot to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    title: String,
    alt: String,
    x: Axis,
    y: Axis,
    size: (u32, u32),
    layers: Vec<Layer>,
    legend: Corner,
}

impl Plot {
    /// Axes without content; `alt` says in words what the plot shows.
    pub fn new(title: &str, alt: &str, x: Axis, y: Axis) -> Self {
        let (title, alt) = (title.into(), alt.into());
        Self { title, alt, x, y, size: (560, 360), layers: Vec::new(), legend: Corner::UpperRight }
    }

    /// Width and height.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width, height);
        self
    }

    /// Where the legend is.
    pub fn legend(mut self, corner: Corner) -> Self {
        self.legend = corner;
        self
    }

    /// One more layer, over those before.
    pub fn with(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Draws.
    ///
    /// # Errors
    /// A size too small for the axes.
    pub fn draw(&self) -> Result<Picture> {
        let mut svg = String::new();
        let root = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
        self.on(&root)
            .and_then(|()| root.present())
            .map_err(|e| Error::Picture { title: self.title.clone(), reason: e.to_string() })?;
        drop(root);
        Ok(Picture::new(&self.title, &self.alt, &svg))
    }

    fn on<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let font = |size: f64, colour: RGBColor| ("sans-serif", size).into_font().color(&colour);
        // Names under the first axis stand upright where they would touch.
        let columns = self.x.names.as_ref().map_or(1, Vec::len) as u32;
        let upright = self.x.width() > self.size.0.saturating_sub(self.y.width() + 70) / columns.max(1);
        let below = if upright { self.x.width() + 38 } else { 44 };
        let mut chart = ChartBuilder::on(root)
            .caption(&self.title, font(15.0, INK))
            .margin(10)
            .margin_right(18)
            .x_label_area_size(below)
            .y_label_area_size(if self.y.names.is_some() { self.y.width() + 30 } else { 58 })
            .build_cartesian_2d(self.x.range.0..self.x.range.1, self.y.range.0..self.y.range.1)?;
        let (x_names, y_names) = (self.x.names.is_some(), self.y.names.is_some());
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(RGBAColor(0, 0, 0, 0.0))
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .label_style(font(LETTERS, INK))
            .axis_desc_style(font(LETTERS, INK))
            .x_desc(if upright { "" } else { &self.x.label })
            .y_desc(&self.y.label);
        let (x_tick, y_tick) = (|v: &f64| self.x.tick(*v), |v: &f64| self.y.tick(*v));
        mesh.x_labels(6).y_labels(6).x_label_formatter(&x_tick).y_label_formatter(&y_tick);
        if x_names {
            mesh.disable_x_mesh().set_tick_mark_size(LabelAreaPosition::Bottom, 0);
        }
        if y_names {
            mesh.disable_y_mesh().set_tick_mark_size(LabelAreaPosition::Left, 0);
        }
        mesh.draw()?;
        self.write_names(root, &chart, upright, &font)?;
        let mut colour = 0;
        for layer in &self.layers {
            let series = SERIES[colour % SERIES.len()];
            colour +=
                usize::from(!matches!(layer, Layer::Guide(..) | Layer::Intervals { .. } | Layer::Words(_)));
            // An interval has the colour of what it is around.
            let own = if matches!(layer, Layer::Intervals { .. }) {
                SERIES[colour.saturating_sub(1) % SERIES.len()]
            } else {
                series
            };
            draw_layer(&mut chart, layer, own, &font)?;
        }
        let named = |l: &&Layer| matches!(l, Layer::Line(n, _) | Layer::Guide(n, _) | Layer::Points(n, _) | Layer::Boxes(n, _) if !n.is_empty());
        if self.layers.iter().any(|l| named(&l)) {
            let corner = match self.legend {
                Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                Corner::UpperRight => SeriesLabelPosition::UpperRight,
                Corner::LowerLeft => SeriesLabelPosition::LowerLeft,
                Corner::LowerRight => SeriesLabelPosition::LowerRight,
            };
            chart
                .configure_series_labels()
                .position(corner)
                .label_font(font(LETTERS, INK))
                .background_style(PAPER.mix(0.85))
                .legend_area_size(24)
                .draw()?;
        }
        Ok(())
    }

    /// Names of categories, which the library's own number axis cannot place in the middle of their unit.
    fn write_names<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, plotters::coord::Shift>,
        chart: &ChartContext<'_, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
        upright: bool,
        font: &dyn Fn(f64, RGBColor) -> TextStyle<'static>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        for (i, name) in self.x.names.iter().flatten().enumerate() {
            let (x, y) = chart.backend_coord(&(i as f64 + 0.5, self.y.range.0));
            let mut style = font(LETTERS, INK).pos(Pos::new(HPos::Center, VPos::Top));
            if upright {
                style = font(LETTERS, INK).pos(Pos::new(HPos::Left, VPos::Center));
                style.font = style.font.transform(FontTransform::Rotate90);
            }
            root.draw(&Text::new(name.clone(), (x, y + 8), style))?;
        }
        for (i, name) in self.y.names.iter().flatten().enumerate() {
            let (x, y) = chart.backend_coord(&(self.x.range.0, i as f64 + 0.5));
            let style = font(LETTERS, INK).pos(Pos::new(HPos::Right, VPos::Center));
            root.draw(&Text::new(name.clone(), (x - 8, y), style))?;
        }
        if upright {
            let (left, bottom) = chart.backend_coord(&(self.x.range.0, self.y.range.0));
            let (right, _) = chart.backend_coord(&(self.x.range.1, self.y.range.0));
            let style = font(LETTERS, INK).pos(Pos::new(HPos::Center, VPos::Bottom));
            let at = ((left + right) / 2, (bottom + self.x.width() as i32 + 34).min(self.size.1 as i32 - 4));
            root.draw(&Text::new(self.x.label.clone(), at, style))?;
        }
        Ok(())
    }
}

fn draw_layer<'a, B: DrawingBackend + 'a>(
    chart: &mut ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    layer: &Layer,
    colour: RGBColor,
    font: &dyn Fn(f64, RGBColor) -> TextStyle<'static>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    match layer {
        Layer::Line(name, points) => {
            let points = points.iter().filter(finite).copied();
            let drawn = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            if !name.is_empty() {
                drawn
                    .label(name.as_str())
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            }
        }
        Layer::Guide(name, points) => {
            let points: Vec<(f64, f64)> = points.iter().filter(finite).copied().collect();
            let drawn = chart.draw_series(DashedLineSeries::new(points, 5, 4, FAINT.stroke_width(1)))?;
            if !name.is_empty() {
                drawn
                    .label(name.as_str())
                    .legend(|(x, y)| PathElement::new([(x, y), (x + 7, y)], FAINT.stroke_width(1)));
            }
        }
        Layer::Points(name, points) => {
            let dots = points.iter().filter(finite).map(|&p| Circle::new(p, 4, colour.filled()));
            let drawn = chart.draw_series(dots)?;
            if !name.is_empty() {
                drawn.label(name.as_str()).legend(move |(x, y)| Circle::new((x + 9, y), 4, colour.filled()));
            }
        }
        Layer::Boxes(name, boxes) => {
            let all = boxes.iter().filter(|b| b.iter().all(|v| v.is_finite()));
            let drawn = chart.draw_series(
                all.map(|b| Rectangle::new([(b[0], b[2]), (b[1], b[3])], colour.mix(0.6).filled())),
            )?;
            if !name.is_empty() {
                drawn.label(name.as_str()).legend(move |(x, y)| {
                    Rectangle::new([(x + 2, y - 5), (x + 16, y + 5)], colour.mix(0.6).filled())
                });
            }
        }
        Layer::Intervals { upright, all } => {
            let all = all.iter().filter(|(l, h, at)| l.is_finite() && h.is_finite() && at.is_finite());
            chart.draw_series(all.map(|&(low, high, at)| {
                let ends = if *upright { [(at, low), (at, high)] } else { [(low, at), (high, at)] };
                PathElement::new(ends, colour.stroke_width(2))
            }))?;
        }
        Layer::Words(words) => {
            let style = font(LETTERS, INK).pos(Pos::new(HPos::Center, VPos::Center));
            chart.draw_series(words.iter().map(|(x, y, w)| Text::new(w.clone(), (*x, *y), style.clone())))?;
        }
        Layer::Cells(cells) => {
            chart.draw_series(cells.iter().map(|&(x, y, strength, _)| {
                let (x, y) = (x as f64, y as f64);
                let strength = if strength.is_finite() { strength.clamp(0.0, 1.0) } else { 0.0 };
                Rectangle::new([(x, y), (x + 1.0, y + 1.0)], colour.mix(strength).filled())
            }))?;
            let style = |strength: f64| {
                let ink = if strength > 0.6 { PAPER } else { INK };
                font(LETTERS, ink).pos(Pos::new(HPos::Center, VPos::Center))
            };
            chart.draw_series(cells.iter().map(|(x, y, strength, word)| {
                Text::new(word.clone(), (*x as f64 + 0.5, *y as f64 + 0.5), style(*strength))
            }))?;
        }
    }
    Ok(())
}

/// A number beside an axis, with no more digits than it needs; nothing where names stand instead.
fn tick(value: f64, named: bool) -> String {
    let size = value.abs();
    if named {
        String::new()
    } else if size != 0.0 && !(1e-3..1e6).contains(&size) {
        // What should be 0 and is a rounding error.
        if size < 1e-12 { "0".into() } else { format!("{value:.0e}") }
    } else {
        let text = format!("{value:.3}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text == "-0" { "0".into() } else { text.to_owned() }
    }
}

/// Ten to the power of a number, in two digits.
fn power(exponent: f64) -> String {
    let value = 10_f64.powf(exponent);
    let digits = (1 - exponent.floor() as i32).max(0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The share of so many nines, where it is one that has a name.
fn nines(count: f64) -> String {
    if (count - count.round()).abs() > 1e-9 || count < -1e-9 {
        return String::new();
    }
    match count.round() as usize {
        0 => "0 %".into(),
        1 => "90 %".into(),
        2 => "99 %".into(),
        n => format!("99.{} %", "9".repeat(n - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_digits_it_needs() {
        let shown = [0.0, -1e-17, 0.25, 1.0, -0.5, 12_000.0, 3e7, 2e-5].map(|v| tick(v, false));
        assert_eq!(shown, ["0", "0", "0.25", "1", "-0.5", "12000", "3e7", "2e-5"]);
        assert_eq!(tick(3.0, true), "");
    }

    #[test]
    fn a_tick_of_a_power_and_of_nines_says_what_it_stands_for() {
        assert_eq!([-1.0, 0.0, 0.2, 1.0, 1.4, 3.0].map(power), ["0.1", "1", "1.6", "10", "25", "1000"]);
        assert_eq!([0.0, 0.5, 1.0, 2.0, 4.0].map(nines), ["0 %", "", "90 %", "99 %", "99.99 %"]);
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_an_empty_plot_is_drawn() {
        let axes = || (Axis::around("x", [f64::NAN]), Axis::around("y", [2.0, 2.0]));
        let (x, y) = axes();
        let empty = Plot::new("t", "a", x, y).draw().unwrap();
        let (x, y) = axes();
        let points = vec![(0.5, 2.0), (f64::NAN, 2.0), (0.6, f64::INFINITY)];
        let drawn = Plot::new("t", "a", x, y).with(Layer::Points(String::new(), points)).draw().unwrap();
        assert_eq!(drawn.svg().matches("<circle").count(), 1);
        assert!(empty.svg().starts_with("<svg role=\"img\"") && !empty.svg().contains("NaN"));
    }

    #[test]
    fn every_name_and_every_legend_entry_is_written() {
        let names = |n: usize| (0..n).map(|i| format!("a rather long name {i}")).collect::<Vec<_>>();
        let plot = Plot::new("t", "a", Axis::names("x axis", names(8)), Axis::names("", names(3)))
            .with(Layer::Line("first <&>".into(), vec![(0.0, 0.0), (8.0, 3.0)]))
            .with(Layer::Guide("second".into(), vec![(0.0, 0.0), (8.0, 3.0)]));
        let svg = plot.draw().unwrap().svg().to_owned();
        assert_eq!(svg.matches("a rather long name 2").count(), 2);
        for word in ["first &lt;&amp;&gt;", "second", "x axis", "a rather long name 7"] {
            assert!(svg.contains(word), "{word}");
        }
    }
}

//! Colours that people with any colour vision tell apart (Okabe & Ito 2008), on paper and on a dark screen.
//! Pictures are drawn in the light ones; a page's style sheet exchanges them on a dark screen.

use plotters::style::RGBColor;

/// Text and axes.
pub const INK: RGBColor = RGBColor(0x1F, 0x23, 0x28);
/// Second-rank text.
pub const FAINT: RGBColor = RGBColor(0x6E, 0x77, 0x81);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xD8, 0xDE, 0xE4);
/// Background.
pub const PAPER: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
/// Series, in their order.
pub const SERIES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];
/// What a dark screen shows instead: ink, faint, grid, paper, then series.
const DARK: [RGBColor; 10] = [
    RGBColor(0xE6, 0xED, 0xF3),
    RGBColor(0x9D, 0xA7, 0xB3),
    RGBColor(0x30, 0x36, 0x3D),
    RGBColor(0x0D, 0x11, 0x17),
    RGBColor(0x4C, 0xA6, 0xE0),
    RGBColor(0xF0, 0x84, 0x3C),
    RGBColor(0x2E, 0xC4, 0x98),
    RGBColor(0xE0, 0x9A, 0xC2),
    RGBColor(0xF2, 0xB8, 0x3A),
    RGBColor(0x86, 0xCD, 0xF5),
];

/// `#RRGGBB`, as the pictures name it.
pub fn hex(colour: RGBColor) -> String {
    let RGBColor(r, g, b) = colour;
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Rules that exchange the light colours of a picture for dark ones.
pub(super) fn dark_rules() -> String {
    let light = [INK, FAINT, GRID, PAPER].into_iter().chain(SERIES);
    let rule = |(light, dark): (RGBColor, RGBColor)| {
        let (light, dark) = (hex(light), hex(dark));
        format!("svg [fill=\"{light}\"]{{fill:{dark}}}svg [stroke=\"{light}\"]{{stroke:{dark}}}\n")
    };
    light.zip(DARK).map(rule).collect()
}

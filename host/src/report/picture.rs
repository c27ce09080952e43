//! One picture: SVG text, and PNG by the same drawing.

use std::{path::Path, sync::Arc};

use resvg::{tiny_skia, usvg};

use super::{escape, palette};
use crate::{Error, Result, files};

/// Letters for PNG, where no browser chooses a font.
const FONT: &[u8] = include_bytes!("../../assets/DejaVuSans.ttf");
/// Its family name.
const FAMILY: &str = "DejaVu Sans";
/// Most pixels of a PNG.
const MAX_PIXELS: f32 = 64e6;

/// A drawn picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// What it is.
    pub title: String,
    /// What it shows, for who cannot see it.
    pub alt: String,
    svg: String,
}

impl Picture {
    /// A picture of SVG text that begins with `<svg ` and names its `viewBox`; families are `sans-serif`.
    pub fn new(title: impl Into<String>, alt: impl Into<String>, svg: &str) -> Self {
        let (title, alt) = (title.into(), alt.into());
        let label = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(&format!("{title}: {alt}")));
        Self { svg: svg.trim().replacen("<svg ", &label, 1), title, alt }
    }

    /// The SVG element, which is also a file of its own.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// PNG with `scale` pixels per unit on white.
    ///
    /// # Errors
    /// SVG that cannot be read, or a size that cannot be.
    pub fn png(&self, scale: f32) -> Result<Vec<u8>> {
        let refused = |reason: String| Error::Picture { title: self.title.clone(), reason };
        let mut options = usvg::Options { font_family: FAMILY.into(), ..Default::default() };
        let fonts = Arc::make_mut(&mut options.fontdb);
        fonts.load_font_data(FONT.to_vec());
        fonts.set_sans_serif_family(FAMILY);
        fonts.set_monospace_family(FAMILY);
        let tree = usvg::Tree::from_str(&self.svg, &options).map_err(|e| refused(e.to_string()))?;
        let (width, height) = (tree.size().width() * scale, tree.size().height() * scale);
        let canvas = (width * height <= MAX_PIXELS).then(|| (width.ceil() as u32, height.ceil() as u32));
        let mut pixels = canvas.and_then(|(w, h)| tiny_skia::Pixmap::new(w, h)).ok_or_else(|| {
            refused(format!("{width} x {height} pixels, expected 1 to {MAX_PIXELS} in all"))
        })?;
        let plotters::style::RGBColor(r, g, b) = palette::PAPER;
        pixels.fill(tiny_skia::Color::from_rgba8(r, g, b, 255));
        resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixels.as_mut());
        pixels.encode_png().map_err(|e| refused(e.to_string()))
    }

    /// Writes PNG where the name ends so, else SVG.
    ///
    /// # Errors
    /// As [`Picture::png`], or a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("png") => files::write_atomically(path, &self.png(2.0)?),
            _ => files::write_atomically(path, self.svg.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: &str = r##"<svg width="90" height="30" viewBox="0 0 90 30" xmlns="http://www.w3.org/2000/svg">
<text x="4" y="20" font-family="sans-serif" font-size="16" fill="#1F2328">TEXT</text></svg>"##;

    #[test]
    fn a_png_has_the_size_asked_for_and_its_letters_are_drawn() {
        let png = Picture::new("word", "a word", WORD).png(2.0).unwrap();
        let pixels = tiny_skia::Pixmap::decode_png(&png).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (180, 60));
        let dark = pixels.pixels().iter().filter(|p| p.red() < 100).count();
        assert!(dark > 200, "{dark} dark pixels");
    }

    #[test]
    fn what_is_no_picture_or_too_large_is_refused() {
        assert!(matches!(Picture::new("x", "y", "<svg ").png(1.0), Err(Error::Picture { .. })));
        assert!(Picture::new("word", "a word", WORD).png(1e4).is_err());
        assert!(Picture::new("word", "a word", WORD).png(0.0).is_err());
    }

    #[test]
    fn the_label_cannot_break_out_of_its_attribute() {
        let picture = Picture::new("a\"><script>", "<b>&", WORD);
        assert!(
            picture.svg().starts_with(
                "<svg role=\"img\" aria-label=\"a&quot;&gt;&lt;script&gt;: &lt;b&gt;&amp;\" width"
            )
        );
    }
}

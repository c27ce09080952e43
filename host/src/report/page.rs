//! One HTML file with its style and its pictures inside: no script, no network.

use std::fmt::Write;

use super::{Picture, Table, palette};

/// Style of every page.
const STYLE: &str = include_str!("page.css");

/// Text for an element or an attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A page that grows.
#[derive(Clone, Debug, Default)]
pub struct Page {
    title: String,
    sections: Vec<String>,
    body: String,
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Begins a section, which the contents name.
    pub fn section(&mut self, heading: &str) -> &mut Self {
        self.sections.push(heading.into());
        let _ = writeln!(self.body, "<h2 id=\"s{}\">{}</h2>", self.sections.len(), escape(heading));
        self
    }

    /// A heading within a section.
    pub fn heading(&mut self, heading: &str) -> &mut Self {
        let _ = writeln!(self.body, "<h3>{}</h3>", escape(heading));
        self
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let _ = writeln!(self.body, "<p>{}</p>", escape(text));
        self
    }

    /// Names and what they are.
    pub fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, String)>) -> &mut Self {
        self.body.push_str("<dl>");
        for (name, value) in facts {
            let _ = writeln!(self.body, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value));
        }
        self.body.push_str("</dl>\n");
        self
    }

    /// A table.
    pub fn table(&mut self, table: &Table) -> &mut Self {
        self.body.push_str(&table.html());
        self
    }

    /// Pictures side by side where there is room; each with its caption.
    pub fn pictures(&mut self, pictures: &[(&Picture, &str)]) -> &mut Self {
        self.body.push_str("<div class=\"row\">\n");
        for (picture, caption) in pictures {
            let caption = escape(caption);
            let _ =
                writeln!(self.body, "<figure>{}<figcaption>{caption}</figcaption></figure>", picture.svg());
        }
        self.body.push_str("</div>\n");
        self
    }

    /// The whole file.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut contents = String::new();
        for (i, section) in self.sections.iter().enumerate() {
            let _ = write!(contents, "<a href=\"#s{}\">{}</a> ", i + 1, escape(section));
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>{title}</title>\n<style>\n{STYLE}@media screen and (prefers-color-scheme: dark) {{\n{}}}\n</style></head>\n\
             <body><main>\n<h1>{title}</h1>\n<nav aria-label=\"Contents\">{contents}</nav>\n{}</main></body></html>\n",
            palette::dark_rules(),
            self.body,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_asks_for_nothing_from_outside_and_names_its_sections() {
        let mut page = Page::new("A <report>");
        page.section("Figures").text("1 < 2").facts([("model", "a&b".to_owned())]);
        page.section("Data").table(&Table::new("empty", &["x"]));
        let html = page.html();
        assert!(html.contains("<h1>A &lt;report&gt;</h1>") && html.contains("<p>1 &lt; 2</p>"));
        assert!(html.contains("<a href=\"#s2\">Data</a>") && html.contains("<h2 id=\"s2\">Data</h2>"));
        for outside in ["http://", "https://", "<script", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}

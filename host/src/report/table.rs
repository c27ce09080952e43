//! A table of texts, for HTML and Markdown.

use std::fmt::Write;

use super::escape;

/// A table with a caption; the first column names the row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What the rows are.
    pub caption: String,
    /// Heads.
    pub columns: Vec<String>,
    /// Cells, as many as there are heads.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(caption: &str, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|c| (*c).to_owned()).collect();
        Self { caption: caption.into(), columns, rows: Vec::new() }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// As HTML, numbers to the right.
    pub fn html(&self) -> String {
        let mut out =
            format!("<div class=\"wide\"><table><caption>{}</caption><thead><tr>", escape(&self.caption));
        for (i, c) in self.columns.iter().enumerate() {
            // A head stands over its numbers.
            let numbers = i > 0 && !self.rows.is_empty() && self.rows.iter().all(|r| numeric(&r[i]));
            let class = if numbers { " class=\"n\"" } else { "" };
            let _ = write!(out, "<th scope=\"col\"{class}>{}</th>", escape(c));
        }
        out.push_str("</tr></thead><tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for (i, cell) in row.iter().enumerate() {
                let text = escape(cell);
                let _ = match i {
                    0 => write!(out, "<th scope=\"row\">{text}</th>"),
                    _ if numeric(cell) => write!(out, "<td class=\"n\">{text}</td>"),
                    _ => write!(out, "<td>{text}</td>"),
                };
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>\n");
        out
    }

    /// As a Markdown table, without the caption.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|").replace('\n', " ")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = format!("|{}\n", "---|".repeat(self.columns.len()));
        line(&self.columns) + &rule + &self.rows.iter().map(|r| line(r)).collect::<String>()
    }
}

fn numeric(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit() || "+-−–".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_text_not_markup() {
        let mut table = Table::new("a & b", &["name", "value"]);
        table.row(["<i>", "0.5"]);
        table.row(["a|b", "none"]);
        let html = table.html();
        assert!(html.contains("<th scope=\"row\">&lt;i&gt;</th><td class=\"n\">0.5</td>"), "{html}");
        assert!(html.contains("a &amp; b") && html.contains("<td>none</td>"));
        assert_eq!(table.markdown(), "| name | value |\n|---|---|\n| <i> | 0.5 |\n| a\\|b | none |\n");
    }
}

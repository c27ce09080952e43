//! Parts of pages that a command writes: what stands between two marks is made anew, the rest is written by hand.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

/// Puts `text` between the marks of `name` in the page at `path`, or only checks that it is there.
pub(crate) fn write(path: &Path, name: &str, text: &str, check: bool) -> Result<()> {
    let shown = path.display();
    let page = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let new = replaced(&page, name, text).with_context(|| format!("in {shown}"))?;
    if new == page {
        return Ok(());
    }
    if check {
        bail!("{shown} is not what its sources say; run `cargo xtask {name}`");
    }
    fs::write(path, new).with_context(|| format!("cannot write {shown}"))
}

fn replaced(page: &str, name: &str, text: &str) -> Result<String> {
    let begin = format!("<!-- made by `cargo xtask {name}`; do not edit below -->\n");
    let end = "<!-- made until here -->";
    let found = page.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let Some((head, tail)) = found else {
        bail!("got no `{}` with `{end}` behind it, expected both", begin.trim());
    };
    Ok(format!("{head}{begin}\n{}\n\n{end}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes_and_writing_twice_changes_nothing() {
        let page = "# A\n<!-- made by `cargo xtask trace`; do not edit below -->\nold\n<!-- made until here -->\nend\n";
        let once = replaced(page, "trace", "new\n").unwrap();
        assert!(once.starts_with("# A\n<!--") && once.ends_with("-->\nend\n") && !once.contains("old"));
        assert_eq!(replaced(&once, "trace", "new").unwrap(), once);
    }

    #[test]
    fn a_page_without_its_marks_is_refused() {
        for page in
            ["", "<!-- made by `cargo xtask trace`; do not edit below -->\n", "<!-- made until here -->"]
        {
            assert!(replaced(page, "trace", "new").is_err(), "{page}");
        }
    }
}

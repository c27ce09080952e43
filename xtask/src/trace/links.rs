//! Links between the pages of the repository: each leads to a file that is there, and to a heading of it where it names one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::orphans::Orphan;

/// Links of all pages that lead nowhere.
pub(super) fn broken(root: &Path) -> Result<BTreeSet<Orphan>> {
    let mut pages = Vec::new();
    for folder in [root.to_owned(), root.join("docs"), root.join("docs/reference")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    let mut found = BTreeSet::new();
    for page in pages {
        let text = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
        let folder = page.parent().unwrap_or(root);
        let shown = page.strip_prefix(root).unwrap_or(&page).display().to_string();
        for link in links(&text) {
            if !leads_somewhere(&link, folder, &text) {
                found.insert(Orphan::Link { page: shown.clone(), link });
            }
        }
    }
    Ok(found)
}

fn leads_somewhere(link: &str, folder: &Path, own: &str) -> bool {
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    if path.split_once(':').is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_lowercase())) {
        return true;
    }
    let target: PathBuf = folder.join(path);
    if !path.is_empty() && !target.exists() {
        return false;
    }
    let Some(heading) = heading else { return true };
    let text = if path.is_empty() { own.to_owned() } else { fs::read_to_string(&target).unwrap_or_default() };
    headings(&text).contains(heading)
}

fn events(text: &str) -> impl Iterator<Item = Event<'_>> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

fn links(text: &str) -> BTreeSet<String> {
    let destinations = events(text).filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.to_string()),
        _ => None,
    });
    destinations.collect()
}

/// The names that a page's headings have in links, as GitHub makes them.
fn headings(text: &str) -> BTreeSet<String> {
    let (mut inside, mut words, mut seen) = (false, String::new(), BTreeMap::<String, u32>::new());
    let mut found = BTreeSet::new();
    for event in events(text) {
        match event {
            Event::Start(Tag::Heading { .. }) => (inside, words) = (true, String::new()),
            Event::End(TagEnd::Heading(_)) => {
                inside = false;
                let name: String = words
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect();
                let n = seen.entry(name.clone()).or_default();
                found.insert(if *n == 0 { name } else { format!("{name}-{n}") });
                *n += 1;
            }
            Event::Text(text) | Event::Code(text) if inside => words.push_str(&text),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_what_is_not_there_is_found_and_code_is_no_link() {
        let docs = crate::process::root().join("docs");
        let own = "# A page, with words\n\n`[no](link)`\n\n```\n[no](link)\n```\n\n## Again\n\n## Again\n";
        assert!(links(own).is_empty());
        for good in [
            "https://example.org/x",
            "mailto:a@b.c",
            "risk.md",
            "../README.md",
            "#a-page-with-words",
            "#again-1",
            "../README.md#two-commands",
        ] {
            assert!(leads_somewhere(good, &docs, own), "{good}");
        }
        for bad in ["gone.md", "README.md", "#gone", "#again-2", "../README.md#gone"] {
            assert!(!leads_somewhere(bad, &docs, own), "{bad}");
        }
        let pictures = links("[a](b.md) ![c](d.png) [e][f]\n\n[f]: g.md\n\n| [h](i.md) |\n|---|\n");
        assert_eq!(pictures.into_iter().collect::<Vec<_>>(), ["b.md", "d.png", "g.md", "i.md"]);
    }
}

//! The tests that there are, read from the source: a name for each, and why it does not run every time.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use serde::Deserialize;
use syn::{Attribute, Expr, Item, Lit, Meta};

/// Folders with a crate in them: the members of the workspace.
fn crates(root: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Manifest {
        workspace: Workspace,
    }
    #[derive(Deserialize)]
    struct Workspace {
        members: Vec<String>,
    }
    let text = fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
    Ok(toml::from_str::<Manifest>(&text).context("cannot read Cargo.toml")?.workspace.members)
}

/// Each test by its name, with the reason for which it is ignored.
pub(super) type Tests = BTreeMap<String, Option<String>>;

/// All tests of the repository at `root`.
///
/// Unit tests are `crate::module::tests::name` with the crate's folder for its name, those in `tests/tests/SUITE.rs` are
/// `SUITE::name`, and those of another crate's `tests` folder `crate::SUITE::name`, or `crate::name` where both are called alike.
pub(super) fn tests(root: &Path) -> Result<Tests> {
    let mut found = Tests::new();
    for folder in crates(root)? {
        let name = folder.rsplit('/').next().unwrap_or(&folder).replace('-', "_");
        for (part, is_suite) in [("src", false), ("tests", true), ("benches", true)] {
            let top = root.join(&folder).join(part);
            for file in files(&top)? {
                let prefix = prefix(&name, file.strip_prefix(&top)?, is_suite);
                let text = fs::read_to_string(&file)?;
                let parsed =
                    syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
                of_items(&parsed.items, &prefix, &mut found);
            }
        }
    }
    Ok(found)
}

/// What stands before the names of a file's tests.
fn prefix(name: &str, file: &Path, is_suite: bool) -> String {
    let mut parts: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
        parts.pop();
    }
    if !(is_suite && (name == "tests" || parts.first().is_some_and(|suite| suite == name))) {
        parts.insert(0, name.to_owned());
    }
    parts.join("::")
}

/// The Rust files below a folder; none where it is not there.
fn files(top: &Path) -> Result<Vec<PathBuf>> {
    let (mut folders, mut found) = (vec![top.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn of_items(items: &[Item], prefix: &str, found: &mut Tests) {
    for item in items {
        match item {
            Item::Fn(function) if function.attrs.iter().any(is_test) => {
                let ignored = function.attrs.iter().find_map(ignored);
                found.insert(format!("{prefix}::{}", function.sig.ident), ignored);
            }
            Item::Mod(module) => {
                if let Some((_, items)) = &module.content {
                    of_items(items, &format!("{prefix}::{}", module.ident), found);
                }
            }
            Item::Macro(call) if call.mac.path.segments.last().is_some_and(|s| s.ident == "proptest") => {
                of_tokens(call.mac.tokens.clone(), prefix, found);
            }
            _ => {}
        }
    }
}

/// `#[test]`, `#[tokio::test(…)]`.
fn is_test(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
}

fn ignored(attribute: &Attribute) -> Option<String> {
    if !attribute.path().is_ident("ignore") {
        return None;
    }
    let reason = match &attribute.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => text.value(),
                _ => String::new(),
            },
            _ => String::new(),
        },
        _ => String::new(),
    };
    Some(reason)
}

/// In `proptest!` functions have arguments that are no Rust: `#[test]` and the next `fn NAME` are looked for.
fn of_tokens(tokens: TokenStream, prefix: &str, found: &mut Tests) {
    let (mut is_test, mut ignored, mut after_fn) = (false, None, false);
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let text = group.stream().to_string();
                is_test |= text == "test" || text.starts_with("tokio");
                if let Some(reason) = text.strip_prefix("ignore") {
                    ignored = Some(reason.trim_matches([' ', '=', '"']).to_owned());
                }
            }
            TokenTree::Ident(word) if after_fn => {
                if is_test {
                    found.insert(format!("{prefix}::{word}"), ignored.take());
                }
                (is_test, ignored, after_fn) = (false, None, false);
            }
            TokenTree::Ident(word) => after_fn = word == "fn",
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, Option<String>)> {
        let mut found = Tests::new();
        of_items(&syn::parse_file(text).unwrap().items, "edge::access", &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn tests_are_found_in_modules_and_in_proptest_and_helpers_are_not() {
        let found = of(r#"
            fn helper() {}
            mod tests {
                #[test]
                fn one() {}
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "an hour"]
                async fn two() {}
                fn help() {}
                proptest! {
                    #![proptest_config(ProptestConfig::with_cases(8))]
                    /// Words about it.
                    #[test]
                    fn three(x in 0..9, y in any::<[u8; 4]>()) { prop_assert!(x < 9); }
                    #[test]
                    #[ignore = "long"]
                    fn four(x in 0..9) {}
                }
            }
        "#);
        let name = |n: &str| format!("edge::access::tests::{n}");
        assert_eq!(
            found,
            [
                (name("four"), Some("long".into())),
                (name("one"), None),
                (name("three"), None),
                (name("two"), Some("an hour".into())),
            ]
        );
    }

    #[test]
    fn a_test_is_named_by_its_crate_and_module_or_by_its_suite() {
        let of = |name, file, is_suite| prefix(name, Path::new(file), is_suite);
        assert_eq!(of("edge", "access/mod.rs", false), "edge::access");
        assert_eq!(of("edge", "lib.rs", false), "edge");
        assert_eq!(of("edge", "slots/pack_tests.rs", false), "edge::slots::pack_tests");
        assert_eq!(of("tests", "flow.rs", true), "flow");
        assert_eq!(of("firmware_config", "noise.rs", true), "firmware_config::noise");
        assert_eq!(of("fuzz", "fuzz.rs", true), "fuzz");
    }

    #[test]
    fn every_crate_of_this_workspace_has_tests_that_are_found() {
        let found = tests(&crate::process::root()).unwrap();
        for name in [
            "genome::",
            "firmware_config::",
            "edge::",
            "host::",
            "xtask::trace::source::tests::",
            "flow::",
            "fuzz::",
        ] {
            assert!(found.keys().any(|test| test.starts_with(name)), "{name}");
        }
    }
}

use std::collections::{BTreeMap, BTreeSet};

use locus_firmware_config::message::FaultCode;
use locus_genome::Consequence;

use super::*;
use crate::access::Role;

/// Most bytes of everything that a browser may load.
const MOST: usize = 200_000;
/// Reasons for which somebody on the page may be refused.
const REFUSALS: [&str; 10] = [
    "no_credentials",
    "unknown_certificate",
    "unknown_token",
    "revoked",
    "expired",
    "role",
    "other_name",
    "crowded",
    "session",
    "cross_site",
];

fn text(path: &str) -> &'static str {
    let (_, _, content) = FILES.iter().find(|(known, ..)| *known == path).unwrap();
    std::str::from_utf8(content).unwrap()
}

fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT).map(|(path, ..)| (*path, text(path)))
}

fn words(language: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text(&format!("/page/{language}.json"))).unwrap()
}

/// Names in braces.
fn names(text: &str) -> BTreeSet<&str> {
    text.split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name)
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase()))
        .collect()
}

#[test]
fn both_languages_have_the_same_texts_with_the_same_names_in_them() {
    let (english, chinese) = (words("en"), words("zh"));
    assert_eq!(english.keys().collect::<Vec<_>>(), chinese.keys().collect::<Vec<_>>());
    for (key, text) in &english {
        let other = &chinese[key];
        assert!(!text.trim().is_empty() && !other.trim().is_empty(), "{key}");
        assert_eq!(names(text), names(other), "{key}");
    }
}

#[test]
fn every_text_is_used_and_every_text_that_is_used_is_there() {
    let english = words("en");
    let all: String = scripts().map(|(_, text)| text).collect();
    let mut used = BTreeSet::new();
    for part in all.split("t(\"").skip(1) {
        let key = part.split('"').next().unwrap();
        if key.contains('.') || english.contains_key(key) {
            used.insert(key.to_owned());
        }
    }
    let begins: Vec<&str> =
        all.split("t(`").skip(1).filter_map(|part| part.split_once("${")).map(|(begin, _)| begin).collect();
    for key in english.keys() {
        let whole = all.contains(&format!("\"{key}\""));
        let begun = begins.iter().any(|begin| !begin.is_empty() && key.starts_with(begin));
        let word = ["tried.", "stage."].iter().any(|begin| key.starts_with(begin));
        assert!(whole || begun || word, "{key} is used nowhere");
    }
    let missing: Vec<_> = used.iter().filter(|key| !english.contains_key(*key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_code_term_role_and_reason_has_its_words() {
    let english = words("en");
    let there = |key: String| assert!(english.contains_key(&key), "{key}");
    for code in FaultCode::ALL {
        there(format!("fault.{}", code.as_str()));
        there(format!("todo.{}", code.as_str()));
    }
    for consequence in Consequence::ALL {
        consequence.so_term().split('&').for_each(|term| there(format!("so.{term}")));
    }
    Role::ALL.iter().for_each(|role| there(format!("role.{role}")));
    for reason in REFUSALS {
        there(format!("refusal.{reason}"));
        assert!(text("/page/shell.js").contains(&format!("\"{reason}\"")), "{reason}");
    }
}

#[test]
fn pages_weigh_little_load_nothing_from_elsewhere_keep_nothing_and_write_no_html() {
    let weight: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
    assert!(weight <= MOST, "{weight} bytes");
    let svg = "http://www.w3.org/2000/svg";
    for (path, kind, content) in FILES.iter().filter(|(_, kind, _)| *kind != "image/png") {
        let content = std::str::from_utf8(content).unwrap().replace(svg, "");
        assert!(!content.contains("http://") && !content.contains("https://"), "{path}");
        if *kind == SCRIPT {
            for banned in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "localStorage",
                "sessionStorage",
                "indexedDB",
                "document.cookie",
                ".style.",
                "setInterval(",
            ] {
                assert!(!content.contains(banned), "{path}: {banned}");
            }
        }
        if *kind == HTML {
            assert!(!content.contains("<style") && !content.contains("style=") && !content.contains(" on"));
            assert_eq!(
                content.matches("<script").count(),
                content.matches("<script type=\"module\" src=").count()
            );
        }
    }
    assert!(!POLICY.contains("unsafe") && POLICY.starts_with("default-src 'none'"));
}

#[test]
fn the_kept_shell_is_every_file_but_those_that_only_an_installation_needs() {
    let worker = text("/sw.js");
    for (path, kind, _) in FILES {
        let kept = worker.contains(&format!("\"{path}\""));
        assert_eq!(kept, *kind != "image/png" && *path != "/sw.js", "{path}");
    }
    for data in ["/predict", "/v1/", "/health", "/ready"] {
        assert!(!worker.contains(data), "{data}");
    }
}

#[test]
fn a_file_that_a_browser_has_already_is_not_sent_again() {
    let (tag, mut headers) = (&TAGS[0], HeaderMap::new());
    let whole = file(&headers, tag, HTML, b"x");
    assert_eq!(
        (whole.status(), whole.headers()[header::CONTENT_TYPE].to_str().unwrap()),
        (StatusCode::OK, HTML)
    );
    assert_eq!(whole.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
    headers.insert(header::IF_NONE_MATCH, tag.clone());
    assert_eq!(file(&headers, tag, HTML, b"x").status(), StatusCode::NOT_MODIFIED);
    assert_eq!(TAGS.iter().collect::<BTreeSet<_>>().len(), FILES.len());
}

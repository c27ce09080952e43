//! The tables of `docs/requirements.md` and `docs/risk.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{Control, Estimate, Hazard, Kind, Probability, Requirement, Severity, source::Tests};

/// A test in a table: whether it runs every time.
fn shown(test: &str, tests: &Tests) -> String {
    let long = if tests.get(test).is_some_and(Option::is_some) { " (long)" } else { "" };
    format!("`{test}`{long}")
}

fn list<'a>(names: impl IntoIterator<Item = &'a String>, tests: &Tests) -> String {
    names.into_iter().map(|name| shown(name, tests)).collect::<Vec<_>>().join("<br>")
}

/// Requirements with their tests, the hazards that they control, and the suites with what they serve.
pub(super) fn requirements(
    requirements: &[Requirement],
    hazards: &[Hazard],
    tests: &Tests,
    suites: &BTreeSet<String>,
) -> String {
    let mut controls: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for hazard in hazards {
        for id in hazard.control.iter().flat_map(|c| &c.requirements) {
            controls.entry(id).or_default().insert(&hazard.id);
        }
    }
    let mut text = String::from(
        "| id | requirement | promised in | hazards | tests | not shown |\n|---|---|---|---|---|---|\n",
    );
    let mut served: BTreeMap<&str, BTreeSet<&str>> =
        suites.iter().map(|s| (s.as_str(), BTreeSet::new())).collect();
    for r in requirements {
        let hazards =
            controls.get(r.id.as_str()).into_iter().flatten().copied().collect::<Vec<_>>().join(", ");
        let open = r.open.as_deref().unwrap_or("");
        let _ = writeln!(
            text,
            "| {} | {} | {} | {hazards} | {} | {open} |",
            r.id,
            r.text,
            r.from,
            list(&r.tests, tests)
        );
        for suite in r.tests.iter().filter_map(|test| test.split("::").next()) {
            if let Some(serves) = served.get_mut(suite) {
                serves.insert(&r.id);
            }
        }
    }
    text.push_str("\n| suite over the real programs | requirements |\n|---|---|\n");
    for (suite, ids) in served {
        let _ = writeln!(text, "| `{suite}` | {} |", ids.into_iter().collect::<Vec<_>>().join(", "));
    }
    text
}

fn estimate(e: Estimate) -> String {
    let severity = match e.severity {
        Severity::Negligible => "negligible",
        Severity::Minor => "minor",
        Severity::Serious => "serious",
        Severity::Critical => "critical",
    };
    let probability = match e.probability {
        Probability::Improbable => "improbable",
        Probability::Remote => "remote",
        Probability::Occasional => "occasional",
        Probability::Probable => "probable",
    };
    format!("{severity}, {probability}")
}

fn kind(control: &Control) -> &'static str {
    match control.kind {
        Kind::Design => "by design",
        Kind::Protection => "protective measure",
        Kind::Information => "information for safety",
    }
}

/// The name of a hazard's heading in links.
fn anchor(hazard: &Hazard) -> String {
    let heading = format!("{}: {}", hazard.id, hazard.title).to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// An overview, the worst that is left first, and each hazard with its controls.
pub(super) fn hazards(hazards: &[Hazard], requirements: &[Requirement], tests: &Tests) -> String {
    let by_id: BTreeMap<&str, &Requirement> = requirements.iter().map(|r| (r.id.as_str(), r)).collect();
    let mut text = String::from("| id | hazard | before | after |\n|---|---|---|---|\n");
    let mut worst: Vec<&Hazard> = hazards.iter().collect();
    worst.sort_by_key(|h| std::cmp::Reverse((h.after.severity, h.after.probability)));
    for h in worst {
        let _ = writeln!(
            text,
            "| [{}](#{}) | {} | {} | {} |",
            h.id,
            anchor(h),
            h.title,
            estimate(h.before),
            estimate(h.after)
        );
    }
    for h in hazards {
        let _ = write!(
            text,
            "\n### {}: {}\n\n- **Sequence of events**: {}\n- **Harm**: {}\n- **Before**: {}. **After**: {}.\n- **What is left**: {}\n",
            h.id,
            h.title,
            h.sequence,
            h.harm,
            estimate(h.before),
            estimate(h.after),
            h.residual
        );
        if h.control.is_empty() {
            text.push_str("\nThere is no control.\n");
            continue;
        }
        text.push_str("\n| control | kind | requirements | code | tests |\n|---|---|---|---|---|\n");
        for c in &h.control {
            let theirs = c.requirements.iter().filter_map(|id| by_id.get(id.as_str())).flat_map(|r| &r.tests);
            let shown = if c.tests.is_empty() { list(theirs, tests) } else { list(&c.tests, tests) };
            let code: Vec<String> = c.code.iter().map(|path| format!("`{path}`")).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {shown} |",
                c.what,
                kind(c),
                c.requirements.join(", "),
                code.join("<br>")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tests_are_marked_and_a_requirement_shows_the_hazards_that_it_controls() {
        let tests =
            Tests::from([("flow::a".to_owned(), None), ("flow::b".to_owned(), Some("an hour".to_owned()))]);
        let requirement = Requirement {
            id: "R-A-1".into(),
            text: "It answers.".into(),
            from: "README".into(),
            tests: vec!["flow::a".into(), "flow::b".into()],
            open: None,
        };
        let control = Control {
            kind: Kind::Design,
            what: "It does.".into(),
            code: vec!["edge/src/lib.rs".into()],
            requirements: vec!["R-A-1".into()],
            tests: vec![],
        };
        let estimate = Estimate { severity: Severity::Minor, probability: Probability::Remote };
        let hazard = Hazard {
            id: "H-1".into(),
            title: "none".into(),
            sequence: "none".into(),
            harm: "none".into(),
            before: estimate,
            control: vec![control],
            after: estimate,
            residual: "none".into(),
        };
        let suites = BTreeSet::from(["flow".to_owned()]);
        let all = [requirement];
        let page = requirements(&all, std::slice::from_ref(&hazard), &tests, &suites);
        assert!(
            page.contains("| R-A-1 | It answers. | README | H-1 | `flow::a`<br>`flow::b` (long) |  |"),
            "{page}"
        );
        assert!(page.contains("| `flow` | R-A-1 |"), "{page}");
        let page = hazards(&[hazard], &all, &tests);
        assert!(
            page.contains(
                "| It does. | by design | R-A-1 | `edge/src/lib.rs` | `flow::a`<br>`flow::b` (long) |"
            ),
            "{page}"
        );
    }
}

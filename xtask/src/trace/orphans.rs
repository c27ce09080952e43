//! What has no counterpart: a requirement without a test, a test that is not there, a control without a requirement, a suite that
//! serves nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Hazard, Requirement, source::Tests};

/// Something that has no counterpart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Orphan {
    Twice { id: String },
    BadId { id: String, expected: &'static str },
    NoTest { requirement: String },
    UnknownTest { by: String, test: String, now: Vec<String> },
    NoControl { hazard: String },
    NoRequirement { control: String },
    UnknownRequirement { control: String, requirement: String },
    ForeignTest { control: String, test: String },
    NoCode { control: String, path: String },
    Suite { suite: String },
    Worse { hazard: String },
    Link { page: String, link: String },
}

impl fmt::Display for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { id } => write!(f, "{id} is there twice"),
            Self::BadId { id, expected } => write!(f, "got the id {id}, expected {expected}"),
            Self::NoTest { requirement } => write!(f, "{requirement} names no test"),
            Self::UnknownTest { by, test, now } => {
                write!(f, "{by} names the test {test}, which is not there")?;
                if now.is_empty() { Ok(()) } else { write!(f, "; there is {}", now.join(", ")) }
            }
            Self::NoControl { hazard } => {
                write!(f, "{hazard} is said to be less after its controls, and it has none")
            }
            Self::NoRequirement { control } => write!(f, "{control} serves no requirement"),
            Self::UnknownRequirement { control, requirement } => {
                write!(f, "{control} names {requirement}, which is not there")
            }
            Self::ForeignTest { control, test } => {
                write!(f, "{control} names the test {test}, which none of its requirements names")
            }
            Self::NoCode { control, path } => {
                write!(f, "{control} names the file {path}, which is not there")
            }
            Self::Suite { suite } => write!(f, "no requirement names a test of tests/tests/{suite}.rs"),
            Self::Worse { hazard } => write!(f, "{hazard} is worse after its controls than before"),
            Self::Link { page, link } => write!(f, "{page} links to {link}, which is not there"),
        }
    }
}

/// Finds all of them. `is_file` says of a path from the repository's root whether it is there.
pub(super) fn find(
    requirements: &[Requirement],
    hazards: &[Hazard],
    tests: &Tests,
    suites: &BTreeSet<String>,
    is_file: impl Fn(&str) -> bool,
) -> BTreeSet<Orphan> {
    let mut found = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (id, letter, expected) in requirements
        .iter()
        .map(|r| (&r.id, "R-", "R-, capital letters, a hyphen and a number"))
        .chain(hazards.iter().map(|h| (&h.id, "H-", "H- and a number")))
    {
        if !ids.insert(id) {
            found.insert(Orphan::Twice { id: id.clone() });
        }
        let good = id.strip_prefix(letter).is_some_and(|rest| {
            rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
                && rest.ends_with(|c: char| c.is_ascii_digit())
        });
        if !good {
            found.insert(Orphan::BadId { id: id.clone(), expected });
        }
    }
    for requirement in requirements {
        if requirement.tests.is_empty() {
            found.insert(Orphan::NoTest { requirement: requirement.id.clone() });
        }
        found.extend(requirement.tests.iter().filter_map(|test| unknown(&requirement.id, test, tests)));
    }
    let by_id: BTreeMap<&str, &Requirement> = requirements.iter().map(|r| (r.id.as_str(), r)).collect();
    for hazard in hazards {
        if hazard.control.is_empty() && hazard.after.probability < hazard.before.probability {
            found.insert(Orphan::NoControl { hazard: hazard.id.clone() });
        }
        if hazard.after.severity > hazard.before.severity
            || hazard.after.probability > hazard.before.probability
        {
            found.insert(Orphan::Worse { hazard: hazard.id.clone() });
        }
        for (n, control) in hazard.control.iter().enumerate() {
            let name = format!("control {} of {}", n + 1, hazard.id);
            if control.requirements.is_empty() {
                found.insert(Orphan::NoRequirement { control: name.clone() });
            }
            let mut theirs = BTreeSet::new();
            for id in &control.requirements {
                match by_id.get(id.as_str()) {
                    Some(requirement) => theirs.extend(&requirement.tests),
                    None => {
                        let (control, requirement) = (name.clone(), id.clone());
                        found.insert(Orphan::UnknownRequirement { control, requirement });
                    }
                }
            }
            for test in control.tests.iter().filter(|test| !theirs.contains(test)) {
                found.insert(Orphan::ForeignTest { control: name.clone(), test: test.clone() });
            }
            for path in control.code.iter().filter(|path| !is_file(path)) {
                found.insert(Orphan::NoCode { control: name.clone(), path: path.clone() });
            }
        }
    }
    let served: BTreeSet<&str> =
        requirements.iter().flat_map(|r| &r.tests).filter_map(|test| test.split("::").next()).collect();
    let idle = suites.iter().filter(|suite| !served.contains(suite.as_str()));
    found.extend(idle.map(|suite| Orphan::Suite { suite: suite.clone() }));
    found
}

/// Tests that a page names in backticks and that are not there.
pub(super) fn named_in(page: &str, text: &str, tests: &Tests) -> BTreeSet<Orphan> {
    let firsts: BTreeSet<&str> = tests.keys().filter_map(|test| test.split("::").next()).collect();
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.filter(|name| {
        let word = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        name.contains("::")
            && name.split("::").all(word)
            && firsts.contains(name.split("::").next().unwrap_or(""))
    });
    names.filter_map(|name| unknown(page, name, tests)).collect()
}

/// A test that is not there, and those that have its last name elsewhere or its place with a name that begins alike.
fn unknown(by: &str, test: &str, tests: &Tests) -> Option<Orphan> {
    if tests.contains_key(test) {
        return None;
    }
    let (place, name) = test.rsplit_once("::").unwrap_or(("", test));
    let begins = |other: &str| other.split('_').take(2).eq(name.split('_').take(2));
    let now = tests.keys().filter(|other| {
        let (there, last) = other.rsplit_once("::").unwrap_or(("", other));
        last == name || (there == place && begins(last))
    });
    Some(Orphan::UnknownTest { by: by.to_owned(), test: test.to_owned(), now: now.cloned().collect() })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Control, Estimate, Kind, Probability, Severity},
        *,
    };

    const TEST: &str = "flow::a_request_is_answered";

    fn requirement(id: &str, tests: &[&str]) -> Requirement {
        Requirement {
            id: id.into(),
            tests: tests.iter().map(|t| (*t).to_owned()).collect(),
            ..Requirement::default()
        }
    }

    fn control(requirements: &[&str], tests: &[&str], code: &str) -> Control {
        Control {
            kind: Kind::Design,
            what: String::new(),
            code: vec![code.into()],
            requirements: requirements.iter().map(|t| (*t).to_owned()).collect(),
            tests: tests.iter().map(|t| (*t).to_owned()).collect(),
        }
    }

    fn hazard(id: &str, controls: Vec<Control>) -> Hazard {
        let estimate = |probability| Estimate { severity: Severity::Serious, probability };
        Hazard {
            id: id.into(),
            title: String::new(),
            sequence: String::new(),
            harm: String::new(),
            before: estimate(Probability::Occasional),
            control: controls,
            after: estimate(Probability::Remote),
            residual: String::new(),
        }
    }

    /// One requirement, one hazard, one suite and one test that belong together, after `spoil` had its way.
    fn found(
        spoil: impl FnOnce(&mut Vec<Requirement>, &mut Vec<Hazard>, &mut Tests, &mut BTreeSet<String>),
    ) -> Vec<Orphan> {
        let mut requirements = vec![requirement("R-A-1", &[TEST])];
        let mut hazards = vec![hazard("H-1", vec![control(&["R-A-1"], &[TEST], "edge/src/lib.rs")])];
        let mut tests = Tests::from([(TEST.to_owned(), None)]);
        let mut suites = BTreeSet::from(["flow".to_owned()]);
        spoil(&mut requirements, &mut hazards, &mut tests, &mut suites);
        find(&requirements, &hazards, &tests, &suites, |path| path == "edge/src/lib.rs").into_iter().collect()
    }

    #[test]
    fn what_belongs_together_has_no_orphan() {
        assert!(found(|_, _, _, _| {}).is_empty());
    }

    #[test]
    fn a_requirement_without_a_test_is_found() {
        let orphans = found(|r, _, _, _| r.push(requirement("R-A-2", &[])));
        assert_eq!(orphans, [Orphan::NoTest { requirement: "R-A-2".into() }]);
    }

    #[test]
    fn a_test_that_was_renamed_or_moved_is_found_with_what_it_may_be_now() {
        for now in ["flow::a_request_is_answered_once", "elsewhere::a_request_is_answered"] {
            let orphans = found(|_, _, tests, _| *tests = Tests::from([(now.to_owned(), None)]));
            let expected =
                Orphan::UnknownTest { by: "R-A-1".into(), test: TEST.into(), now: vec![now.into()] };
            assert_eq!(orphans, [expected]);
        }
        let orphans = found(|_, _, tests, _| *tests = Tests::from([("flow::another".to_owned(), None)]));
        assert_eq!(orphans, [Orphan::UnknownTest { by: "R-A-1".into(), test: TEST.into(), now: vec![] }]);
    }

    #[test]
    fn a_control_without_a_requirement_or_with_one_that_is_not_there_is_found() {
        let orphans = found(|_, h, _, _| h[0].control[0] = control(&[], &[], "edge/src/lib.rs"));
        assert_eq!(orphans, [Orphan::NoRequirement { control: "control 1 of H-1".into() }]);
        let orphans = found(|_, h, _, _| h[0].control[0] = control(&["R-B-1"], &[], "edge/src/lib.rs"));
        let expected =
            Orphan::UnknownRequirement { control: "control 1 of H-1".into(), requirement: "R-B-1".into() };
        assert_eq!(orphans, [expected]);
    }

    #[test]
    fn a_control_whose_test_is_none_of_its_requirements_is_found() {
        let orphans = found(|r, h, tests, _| {
            tests.insert("flow::other".into(), None);
            r.push(requirement("R-A-2", &["flow::other"]));
            h[0].control[0].tests = vec!["flow::other".into()];
        });
        let expected = Orphan::ForeignTest { control: "control 1 of H-1".into(), test: "flow::other".into() };
        assert_eq!(orphans, [expected]);
    }

    #[test]
    fn a_control_whose_code_is_gone_is_found() {
        let orphans = found(|_, h, _, _| h[0].control[0].code.push("edge/src/gone.rs".into()));
        let expected = Orphan::NoCode { control: "control 1 of H-1".into(), path: "edge/src/gone.rs".into() };
        assert_eq!(orphans, [expected]);
    }

    #[test]
    fn a_suite_that_serves_no_requirement_is_found() {
        let orphans = found(|_, _, tests, suites| {
            tests.insert("page::it_opens".into(), None);
            suites.insert("page".into());
        });
        assert_eq!(orphans, [Orphan::Suite { suite: "page".into() }]);
    }

    #[test]
    fn a_hazard_that_gets_less_by_nothing_or_worse_is_found() {
        let orphans = found(|_, h, _, _| h[0].control.clear());
        assert_eq!(orphans, [Orphan::NoControl { hazard: "H-1".into() }]);
        let orphans = found(|_, h, _, _| h[0].after.severity = Severity::Critical);
        assert_eq!(orphans, [Orphan::Worse { hazard: "H-1".into() }]);
    }

    #[test]
    fn ids_are_there_once_and_of_their_kind() {
        let orphans = found(|r, h, _, _| {
            r.push(requirement("R-A-1", &[TEST]));
            r.push(requirement("S-1", &[TEST]));
            h.push(hazard("H-x", vec![control(&["R-A-1"], &[], "edge/src/lib.rs")]));
        });
        assert!(orphans.contains(&Orphan::Twice { id: "R-A-1".into() }), "{orphans:?}");
        assert_eq!(orphans.iter().filter(|o| matches!(o, Orphan::BadId { .. })).count(), 2, "{orphans:?}");
        assert_eq!(orphans.len(), 3);
    }

    #[test]
    fn a_page_that_names_a_test_that_is_not_there_is_found() {
        let tests = Tests::from([(TEST.to_owned(), None)]);
        let page = "`flow::a_request_is_answered`, `flow::gone` (with `std::fs` and `Flow::Upper`)";
        let orphans = named_in("page.md", page, &tests);
        let expected = Orphan::UnknownTest { by: "page.md".into(), test: "flow::gone".into(), now: vec![] };
        assert_eq!(orphans.into_iter().collect::<Vec<_>>(), [expected]);
    }
}

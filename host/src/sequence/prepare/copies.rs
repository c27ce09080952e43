//! What repeats another record, exactly or nearly, and which of the two stays.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::{
        SetPlan,
        duplicates::{self, Index},
        split::Part,
    },
    intake::Candidate,
};

/// Held-out records stay as they came, so that figures on them compare with those of others; what repeats them goes
/// from the rest, and of the rest one copy stays.
pub(super) fn without_duplicates(
    plan: &SetPlan,
    candidates: Vec<Candidate>,
    left_out: &mut BTreeMap<String, u64>,
) -> Vec<Candidate> {
    let held_out = |c: &Candidate| matches!(c.said, Some(Part::Val | Part::Test));
    let keys: Vec<String> = candidates.iter().map(|c| duplicates::key(plan.alphabet, &c.sequence)).collect();
    let mut copies: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, key) in keys.iter().enumerate() {
        copies.entry(key).or_default().push(i);
    }
    let mut reasons: Vec<Option<&str>> = vec![None; candidates.len()];
    for all in copies.values().filter(|all| all.len() > 1) {
        let known = all.iter().any(|&i| held_out(&candidates[i]));
        let open: Vec<usize> = all.iter().copied().filter(|&i| !held_out(&candidates[i])).collect();
        let agree = open.iter().all(|&i| candidates[i].record.target == candidates[open[0]].record.target);
        for (n, &i) in open.iter().enumerate() {
            reasons[i] = match (known, agree, n) {
                (true, ..) => Some("duplicate of a held-out record"),
                (false, false, _) => Some("duplicates that disagree"),
                (false, true, 1..) => Some("duplicate"),
                (false, true, 0) => None,
            };
        }
    }
    if let Some(containment) = plan.near_duplicates {
        let mut order: Vec<usize> = (0..candidates.len()).filter(|&i| reasons[i].is_none()).collect();
        // Held-out records first, then the longest, so that the piece goes and the whole stays.
        let size = |i: usize| candidates[i].sequence.len();
        order.sort_by_key(|&i| (!held_out(&candidates[i]), std::cmp::Reverse(size(i))));
        let mut index = Index::new(plan.alphabet, containment);
        let mut kept = Vec::new();
        for i in order {
            let near = if held_out(&candidates[i]) { None } else { index.find(&candidates[i].sequence) };
            match near.map(|(number, _)| held_out(&candidates[kept[number]])) {
                Some(true) => reasons[i] = Some("near duplicate of a held-out record"),
                Some(false) => reasons[i] = Some("near duplicate"),
                None => {
                    index.add(candidates[i].sequence.as_str());
                    kept.push(i);
                }
            }
        }
    }
    let mut kept = Vec::new();
    for (candidate, reason) in candidates.into_iter().zip(reasons) {
        match reason {
            Some(reason) => *left_out.entry(reason.to_owned()).or_default() += 1,
            None => kept.push(candidate),
        }
    }
    kept
}

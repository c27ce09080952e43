//! Which layers stay in float: as few as the budget asks for.

/// What quantising costs with some layers in float.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial<M> {
    /// Layers in float, in the order in which they were taken.
    pub float: Vec<String>,
    /// What was measured.
    pub measured: M,
}

/// Takes layers into float, the most sensitive first, until what `measure` gives is `accepted`; the trials, the last of
/// them the one to use. With every layer in float the trials end too, accepted or not.
///
/// # Errors
/// As `measure`.
pub fn fall_back<M, E>(
    ranking: &[String],
    mut measure: impl FnMut(&[String]) -> Result<M, E>,
    accepted: impl Fn(&M) -> bool,
) -> Result<Vec<Trial<M>>, E> {
    let mut trials = Vec::new();
    for n in 0..=ranking.len() {
        let float = ranking[..n].to_vec();
        let measured = measure(&float)?;
        let enough = accepted(&measured);
        trials.push(Trial { float, measured });
        if enough {
            break;
        }
    }
    Ok(trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_layer_more_than_needed_goes_to_float() {
        let ranking: Vec<String> = ["worst", "bad", "fine"].map(String::from).into();
        let cost = |float: &[String]| Ok::<_, ()>(3 - float.len());
        let run = |budget: usize| fall_back(&ranking, cost, |c| *c <= budget).unwrap();
        assert_eq!(run(3).last().unwrap().float, Vec::<String>::new());
        assert_eq!(run(1).last().unwrap().float, ["worst", "bad"]);
        assert_eq!(run(0).len(), 4);
        let never = fall_back(&ranking, cost, |_| false).unwrap();
        assert_eq!(never.last().unwrap().float, ranking);
        assert_eq!(fall_back(&ranking, |_| Err::<(), _>("broken"), |()| true), Err("broken"));
    }
}

//! The known name that somebody most likely meant.

/// The candidate nearest to `name`, when one is near enough to be worth suggesting.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    let mut scored: Vec<(usize, &str)> =
        candidates.into_iter().map(|candidate| (distance(candidate), candidate)).collect();
    scored.sort_unstable();
    let (distance, candidate) = scored.first()?;
    // A third of the letters may be wrong: enough for slips, too little for a guess at random.
    let longest = name.chars().count().max(candidate.chars().count());
    (*distance <= 1.max(longest / 3)).then_some(*candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["listen", "enabled", "container_series"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("Enable", known), Some("enabled"));
        assert_eq!(nearest("containers_series", known), Some("container_series"));
        assert_eq!(nearest("port", known), None);
    }
}

//! What somebody may have meant.

/// The candidate that is nearest to a misspelled word, if one is near enough: about one letter in three may be wrong.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 128;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST && candidate.len().abs_diff(word.len()) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near() {
        let keys = ["fence_agent", "fence_parameters", "hostname"];
        let table = [
            ("fence_agnt", Some("fence_agent")),
            ("Hostname", Some("hostname")),
            ("fencing_parameters", Some("fence_parameters")),
            ("kind", None),
            ("", None),
        ];
        for (word, meant) in table {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1000), keys), None);
    }
}

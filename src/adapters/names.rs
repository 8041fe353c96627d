//! Names that trainers and trackers give: of the training loss, of the step, and patterns for names of experiments.

/// Names under which the training loss is looked for, the most telling first.
pub(super) const LOSS_NAMES: [&str; 4] = ["train/loss", "train_loss", "loss", "training_loss"];

/// Whether a name fits a pattern in which `*` stands for any text.
pub(super) fn matches_glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The first 8 bytes of a text's digest, which tell contents apart.
pub(super) fn first_bytes(text: &str) -> u64 {
    let digest = blake3::hash(text.as_bytes());
    digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name) in
            [("*", ""), ("mnist", "mnist"), ("mnist-*", "mnist-cnn"), ("*a*c", "abac"), ("a*a", "aa")]
        {
            assert!(matches_glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("mnist", "mnist-cnn"), ("a*a", "a"), ("*b", "abc"), ("", "x")] {
            assert!(!matches_glob(pattern, name), "{pattern} {name}");
        }
    }
}

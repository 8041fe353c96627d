//! What became of the Morse sets of the analysis before, in words.

use super::ReportInput;
use super::reading::set_name;
use super::words::{count, figure, list};
use crate::engine::dynamics::Continuation;
use crate::engine::{Comparison, Since};

/// Sets that are named; of more it tells the number.
const MOST_SETS: usize = 6;

/// Digits of an analysis' name that tell it from others.
const DIGITS: usize = 12;

/// What the first screen says: whether attractors have come or gone. Nothing where none has, where nothing can be
/// compared, or where the picture is of low confidence.
pub(super) fn headline(input: &ReportInput) -> String {
    let (Ok(analysis), Some(Since { comparison: Comparison::Compared { continuation, .. }, .. })) =
        (&input.analysis, &input.since)
    else {
        return String::new();
    };
    if !analysis.quality.low_confidence.is_empty() || !attractors_changed(continuation) {
        return String::new();
    }
    format!("Since the analysis before {}.", attractors(continuation))
}

/// All that can be said.
pub(super) fn details(input: &ReportInput) -> String {
    let (Ok(_), Some(Since { id, comparison })) = (&input.analysis, &input.since) else {
        return String::new();
    };
    let id = id.get(..DIGITS).unwrap_or(id);
    match comparison {
        Comparison::Rebased(reason) => {
            format!(
                "The coordinates are not those of the analysis before ({id}), so nothing is compared: {reason}."
            )
        }
        Comparison::Compared { checkpoints, deviation, continuation } => format!(
            "Compared with the analysis before ({id}), {}. {} By {} in both, its coordinates agree with these to {}.",
            attractors(continuation),
            sets(continuation),
            count(*checkpoints, "checkpoint"),
            match deviation {
                deviation if *deviation < 0.1 => "a tenth of a cell".to_owned(),
                deviation => format!("{} cells", figure(*deviation)),
            }
        ),
    }
}

fn attractors_changed(continuation: &Continuation) -> bool {
    let Continuation { attractors: (before, after), new_attractors, lost_attractors, .. } = continuation;
    before != after || !new_attractors.is_empty() || !lost_attractors.is_empty()
}

/// A clause on the attractors.
fn attractors(continuation: &Continuation) -> String {
    let Continuation { attractors: (before, after), new_attractors, lost_attractors, .. } = continuation;
    let number = match (before, after) {
        (before, after) if before != after => {
            format!("the number of attractors went from {before} to {after}")
        }
        (0, _) => "there is no attractor, as before".to_owned(),
        (1, _) if attractors_changed(continuation) => "there is one attractor, as before".to_owned(),
        (1, _) => "the attractor is the same".to_owned(),
        (same, _) if attractors_changed(continuation) => format!("there are {same} attractors, as before"),
        (same, _) => format!("the {same} attractors are the same"),
    };
    let mut changes = Vec::new();
    if !new_attractors.is_empty() {
        changes.push(format!("{} new", names(new_attractors)));
    }
    if !lost_attractors.is_empty() {
        changes.push(format!("{} of those before lost", names(lost_attractors)));
    }
    if changes.is_empty() { number } else { format!("{number}: {}", changes.join(", ")) }
}

/// A sentence on all Morse sets.
fn sets(continuation: &Continuation) -> String {
    let mut parts = Vec::new();
    let mut part = |sets: Vec<String>, what: &str| {
        if !sets.is_empty() {
            parts.push(format!("; {what} {}", list(&sets, MOST_SETS)));
        }
    };
    let each = |sets: &[usize]| sets.iter().map(|set| set_name(*set)).collect();
    part(each(&continuation.born), "new");
    part(each(&continuation.died), "gone, of those before,");
    let split = |(old, new): &(usize, Vec<usize>)| format!("{} into {}", set_name(*old), names(new));
    part(continuation.split.iter().map(split).collect(), "split");
    let merged = |(new, old): &(usize, Vec<usize>)| format!("{} into {}", names(old), set_name(*new));
    part(continuation.merged.iter().map(merged).collect(), "merged");
    let changed = |(old, new): &(usize, usize)| format!("{} to {}", set_name(*old), set_name(*new));
    part(continuation.changed.iter().map(changed).collect(), "with another index");
    let renamed: Vec<String> = continuation
        .same
        .iter()
        .filter(|(old, new)| old != new)
        .map(|(old, new)| format!("{} was {}", set_name(*new), set_name(*old)))
        .collect();
    let renamed =
        if renamed.is_empty() { String::new() } else { format!(" ({})", list(&renamed, MOST_SETS)) };
    let same = match continuation.same.len() {
        0 => "No Morse set is the same".to_owned(),
        1 => "One Morse set is the same".to_owned(),
        number => format!("{number} Morse sets are the same"),
    };
    format!("{same}{renamed}{}.", parts.concat())
}

fn names(sets: &[usize]) -> String {
    let names: Vec<String> = sets.iter().map(|set| set_name(*set)).collect();
    list(&names, MOST_SETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_sets_is_told() {
        let one = Continuation { same: vec![(2, 2)], attractors: (1, 1), ..Continuation::default() };
        assert_eq!(attractors(&one), "the attractor is the same");
        assert_eq!(sets(&one), "One Morse set is the same.");
        let several = Continuation {
            same: vec![(0, 0), (1, 3)],
            changed: vec![(7, 9)],
            born: vec![5],
            died: vec![4, 6],
            split: vec![(1, vec![3, 4])],
            merged: vec![(8, vec![2, 3])],
            attractors: (1, 2),
            new_attractors: vec![4, 5],
            lost_attractors: vec![6],
        };
        assert_eq!(
            attractors(&several),
            "the number of attractors went from 1 to 2: M4 and M5 new, M6 of those before lost"
        );
        assert_eq!(
            sets(&several),
            "2 Morse sets are the same (M3 was M1); new M5; gone, of those before, M4 and M6; split M1 into M3 and M4; \
             merged M2 and M3 into M8; with another index M7 to M9."
        );
    }
}

//! What is to be done: a pure function of what is there, what is known, and the time.
//!
//! A file is read once it has *settled*: it has stayed the same for a while. Within a run, files are read in the order
//! of their steps, so one that has not settled holds back the later ones (for a bounded time: a writer may have died).
//! Files whose name tells no step come last, in the order of their time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::adapters::directory::Found;
use crate::checkpoint::FileIdentity;

/// Waiting times of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A file that has stayed the same for this long has settled.
    pub settle: Duration,
    /// A file that has settled but ends too early is taken for broken after this long.
    pub broken_after: Duration,
    /// A file that does not settle holds back the later ones of its run for this long.
    pub hold_back: Duration,
    /// Whether a file's time stamp tells how long it has stayed the same. Not so where another machine's clock sets it.
    pub believe_times: bool,
}

impl Patience {
    /// The waiting times that follow from `settle`.
    pub fn new(settle: Duration, believe_times: bool) -> Self {
        let broken_after = (5 * settle).max(Duration::from_secs(10));
        let hold_back = (30 * settle).max(Duration::from_secs(60));
        Self { settle, broken_after, hold_back, believe_times }
    }

    /// No patience: all that is there is read at once.
    pub const NONE: Self = Self {
        settle: Duration::ZERO,
        broken_after: Duration::ZERO,
        hold_back: Duration::ZERO,
        believe_times: true,
    };
}

/// The present, on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the agent started.
    pub running: Duration,
    /// Since 1970, in nanoseconds.
    pub wall_ns: i64,
}

/// A file that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The file as it was seen last.
    pub identity: FileIdentity,
    /// When it was first seen at all.
    pub first_seen: Duration,
    /// When it was first seen like this.
    pub since: Duration,
    /// What reading it said.
    pub setback: Setback,
}

/// Why a file that has settled was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// It was not read yet.
    None,
    /// It ends too early.
    Incomplete,
    /// The system could not read it; it is tried again at `at`.
    Unreadable {
        /// How often it was tried.
        attempts: u32,
        /// When to try again.
        at: Duration,
    },
}

impl Setback {
    /// The setback after one more failure of the system: tried again after 5 s, 10 s, 20 s, … 5 min.
    #[must_use]
    pub fn unreadable_again(self, now: Duration) -> Self {
        let attempts = if let Self::Unreadable { attempts, .. } = self { attempts + 1 } else { 1 };
        let pause = Duration::from_secs(5 << (attempts - 1).min(6)).min(Duration::from_secs(300));
        Self::Unreadable { attempts, at: now + pause }
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Files to read, in this order.
    pub read: Vec<Found>,
    /// All files that are not known yet: those to read, and those that wait.
    pub waiting: BTreeMap<String, Waiting>,
    /// When to look again although nothing changes.
    pub again_in: Option<Duration>,
}

/// Compares what is there with what is known (`known`: files that were dealt with, by path; `waiting`: of the last
/// time).
pub fn reconcile(
    found: &[Found],
    known: &BTreeMap<String, FileIdentity>,
    waiting: &BTreeMap<String, Waiting>,
    patience: Patience,
    now: Now,
) -> Work {
    let mut new: Vec<(&Found, Waiting)> = found
        .iter()
        .filter(|file| known.get(&file.path) != Some(&file.identity))
        .map(|file| (file, seen(file, waiting.get(&file.path), now)))
        .collect();
    new.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));

    let mut work = Work::default();
    let mut held_back = BTreeSet::new();
    for (file, seen) in new {
        let run = (&file.place.experiment, &file.place.run);
        let wait = wait(&seen, patience, now);
        if wait.is_zero() && !held_back.contains(&run) {
            work.read.push(file.clone());
        } else {
            let shortest = work.again_in.unwrap_or(Duration::MAX);
            work.again_in = Some(shortest.min(wait.max(Duration::from_millis(10))));
            // The system's own troubles with one file are no reason to keep the others waiting.
            let unreadable = matches!(seen.setback, Setback::Unreadable { .. });
            if !wait.is_zero()
                && !unreadable
                && now.running.saturating_sub(seen.first_seen) < patience.hold_back
            {
                held_back.insert(run);
            }
        }
        work.waiting.insert(file.path.clone(), seen);
    }
    work
}

/// By step, then run; those without a step after all others, by time.
fn order(file: &Found) -> (bool, u64, i64, &str, &str, &str) {
    let (step, time) = match file.place.step {
        Some(step) => (step, 0),
        None => (0, file.identity.modified_ns),
    };
    (file.place.step.is_none(), step, time, &file.place.run, &file.place.experiment, &file.path)
}

fn seen(file: &Found, before: Option<&Waiting>, now: Now) -> Waiting {
    let fresh = Waiting {
        identity: file.identity,
        first_seen: now.running,
        since: now.running,
        setback: Setback::None,
    };
    match before {
        Some(before) if before.identity == file.identity => *before,
        Some(before) => Waiting { first_seen: before.first_seen, ..fresh },
        None => fresh,
    }
}

/// How long the file has to wait yet.
fn wait(seen: &Waiting, patience: Patience, now: Now) -> Duration {
    let mut unchanged = now.running.saturating_sub(seen.since);
    if patience.believe_times {
        let age = now.wall_ns.saturating_sub(seen.identity.modified_ns).max(0) as u64;
        unchanged = unchanged.max(Duration::from_nanos(age));
    }
    match seen.setback {
        Setback::None => patience.settle.saturating_sub(unchanged),
        Setback::Incomplete => patience.broken_after.saturating_sub(unchanged),
        Setback::Unreadable { at, .. } => at.saturating_sub(now.running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;

    const SETTLE: Duration = Duration::from_secs(2);
    const LONG_AGO: i64 = 0;
    const NOW_NS: i64 = 1_000_000_000_000;

    fn file(run: &str, step: Option<u64>, modified_ns: i64) -> Found {
        let name = step.map_or_else(|| format!("t{modified_ns}"), |step| format!("step-{step}"));
        Found {
            path: format!("{run}/{name}.pt"),
            place: Place { experiment: "e".into(), run: run.into(), step, epoch: None },
            identity: FileIdentity { device: 1, inode: 1, size: 1, modified_ns },
        }
    }

    fn at(seconds: u64) -> Now {
        Now { running: Duration::from_secs(seconds), wall_ns: NOW_NS }
    }

    fn paths(work: &Work) -> Vec<&str> {
        work.read.iter().map(|file| file.path.as_str()).collect()
    }

    fn go(found: &[Found], waiting: &BTreeMap<String, Waiting>, now: Now) -> Work {
        reconcile(found, &BTreeMap::new(), waiting, Patience::new(SETTLE, true), now)
    }

    #[test]
    fn waiting_files_are_read_by_step_then_run_and_nameless_ones_by_time() {
        let found = [
            file("b", Some(2), LONG_AGO),
            file("b", Some(10), LONG_AGO),
            file("a", Some(10), LONG_AGO),
            file("a", None, 7),
            file("a", None, 5),
        ];
        let work = go(&found, &BTreeMap::new(), at(0));
        assert_eq!(paths(&work), ["b/step-2.pt", "a/step-10.pt", "b/step-10.pt", "a/t5.pt", "a/t7.pt"]);
        assert_eq!(work.again_in, None);
        let known = found.iter().map(|file| (file.path.clone(), file.identity)).collect();
        let nothing = reconcile(&found, &known, &BTreeMap::new(), Patience::NONE, at(0));
        assert_eq!(nothing, Work::default());
    }

    #[test]
    fn a_file_settles_by_its_time_or_by_being_watched() {
        let young = NOW_NS - 500_000_000;
        let found = [file("a", Some(1), young)];
        let first = go(&found, &BTreeMap::new(), at(10));
        assert_eq!((paths(&first).len(), first.again_in), (0, Some(Duration::from_millis(1500))));
        // A clock that lies: the file seems to come from the future. Then watching counts.
        let future = [file("a", Some(1), NOW_NS * 2)];
        let first = go(&future, &BTreeMap::new(), at(10));
        assert!(go(&future, &first.waiting, at(11)).read.is_empty());
        assert_eq!(go(&future, &first.waiting, at(12)).read.len(), 1);
        // It changed meanwhile: the time begins anew.
        let changed = [file("a", Some(1), NOW_NS * 2 + 1)];
        assert!(go(&changed, &first.waiting, at(12)).read.is_empty());
    }

    #[test]
    fn an_unsettled_file_holds_back_its_own_run_only_and_not_for_ever() {
        let found = [file("a", Some(1), NOW_NS), file("a", Some(2), LONG_AGO), file("b", Some(2), LONG_AGO)];
        let first = go(&found, &BTreeMap::new(), at(0));
        assert_eq!(paths(&first), ["b/step-2.pt"]);
        assert_eq!(first.again_in, Some(Duration::from_millis(10).max(SETTLE)).min(first.again_in));
        let mut growing = found.clone();
        growing[0].identity.size = 2;
        growing[0].identity.modified_ns = NOW_NS + 1;
        assert_eq!(paths(&go(&growing, &first.waiting, at(59))), ["b/step-2.pt"]);
        assert_eq!(paths(&go(&growing, &first.waiting, at(60))), ["a/step-2.pt", "b/step-2.pt"]);
    }

    #[test]
    fn a_file_that_ends_too_early_gets_time_and_is_read_in_the_end() {
        let found = [file("a", Some(1), NOW_NS), file("a", Some(2), LONG_AGO)];
        let mut work = go(&found, &BTreeMap::new(), at(0));
        work.waiting.get_mut("a/step-1.pt").unwrap().setback = Setback::Incomplete;
        assert!(go(&found, &work.waiting, at(9)).read.is_empty());
        assert_eq!(paths(&go(&found, &work.waiting, at(10))), ["a/step-1.pt", "a/step-2.pt"]);
        // It went on growing: no setback any more.
        let mut grown = found.clone();
        grown[0].identity.size = 2;
        let work = go(&grown, &work.waiting, at(10));
        assert_eq!(work.waiting["a/step-1.pt"].setback, Setback::None);
    }

    #[test]
    fn an_unreadable_file_is_tried_again_and_keeps_nobody_waiting() {
        let found = [file("a", Some(1), LONG_AGO), file("a", Some(2), LONG_AGO)];
        let mut work = go(&found, &BTreeMap::new(), at(0));
        assert_eq!(work.read.len(), 2);
        let setback = &mut work.waiting.get_mut("a/step-1.pt").unwrap().setback;
        *setback = setback.unreadable_again(Duration::ZERO);
        assert_eq!(paths(&go(&found, &work.waiting, at(4))), ["a/step-2.pt"]);
        assert_eq!(paths(&go(&found, &work.waiting, at(5))), ["a/step-1.pt", "a/step-2.pt"]);
        let last = (0..20).fold(Setback::None, |setback, _| setback.unreadable_again(Duration::ZERO));
        assert_eq!(last, Setback::Unreadable { attempts: 20, at: Duration::from_secs(300) });
    }
}

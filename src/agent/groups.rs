//! Which group is to be analysed next.
//!
//! A group that got a new checkpoint or a new evaluation is marked. It is due when enough checkpoints are new, or when
//! nothing has come for a moment. After an analysis a group rests as long as that took, so that frequent checkpoints of
//! a large group do not keep the machine busy; what comes meanwhile is taken in together.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::GroupId;

/// A marked group that has been quiet for this long is analysed, however little is new.
const QUIET: Duration = Duration::from_secs(3);

/// The marked groups.
#[derive(Clone, Debug)]
pub struct Groups {
    every: u32,
    marked: BTreeMap<GroupId, Marked>,
    /// Until when a group rests.
    resting: BTreeMap<GroupId, Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marked {
    /// Checkpoints since the last analysis began.
    fresh: u32,
    /// Time of the last mark.
    last: Duration,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Analyse this group. Its mark is gone.
    Analyse(GroupId),
    /// Nothing for so long.
    Wait(Duration),
    /// Nothing until a group is marked.
    Nothing,
}

impl Groups {
    /// No group is marked; a group is due after `every` new checkpoints.
    pub fn new(every: u32) -> Self {
        Self { every, marked: BTreeMap::new(), resting: BTreeMap::new() }
    }

    /// Marks a group that got so many new checkpoints (0: something else is new).
    pub fn mark(&mut self, group: GroupId, checkpoints: u32, now: Duration) {
        let marked = self.marked.entry(group).or_default();
        marked.fresh = marked.fresh.saturating_add(checkpoints);
        marked.last = now;
    }

    /// Whether no group is marked.
    pub fn is_empty(&self) -> bool {
        self.marked.is_empty()
    }

    /// The group that is due and has waited longest.
    pub fn next(&mut self, now: Duration) -> Next {
        let due = |group: &GroupId, marked: &Marked| {
            let quiet = marked.last + QUIET;
            if marked.fresh < self.every {
                return quiet;
            }
            self.resting.get(group).map_or(Duration::ZERO, |&rested| rested.min(quiet))
        };
        let first = self.marked.iter().map(|(group, marked)| (due(group, marked), marked.last, *group)).min();
        match first {
            None => Next::Nothing,
            Some((due, ..)) if due > now => Next::Wait(due.saturating_sub(now)),
            Some((.., group)) => {
                self.marked.remove(&group);
                Next::Analyse(group)
            }
        }
    }

    /// Notes that an analysis of a group ended, and how long it took.
    pub fn analysed(&mut self, group: GroupId, took: Duration, now: Duration) {
        self.resting.insert(group, now + took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    async fn groups() -> (GroupId, GroupId) {
        let store = Store::open_temporary().unwrap();
        let make = store
            .write(|tables| Ok((tables.group("s", "a", "", "x")?.id, tables.group("s", "b", "", "x")?.id)));
        make.await.unwrap()
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test]
    async fn a_group_is_due_when_enough_is_new_or_all_is_quiet() {
        let (a, b) = groups().await;
        let mut groups = Groups::new(10);
        assert_eq!(groups.next(at(0)), Next::Nothing);
        groups.mark(a, 9, at(100));
        assert_eq!(groups.next(at(100)), Next::Wait(QUIET));
        groups.mark(a, 0, at(102));
        groups.mark(b, 10, at(103));
        assert_eq!(groups.next(at(103)), Next::Analyse(b));
        assert_eq!(groups.next(at(103)), Next::Wait(at(2)));
        assert_eq!(groups.next(at(105)), Next::Analyse(a));
        assert_eq!(groups.next(at(105)), Next::Nothing);
    }

    #[tokio::test]
    async fn a_group_rests_after_an_analysis_unless_all_is_quiet() {
        let (a, _) = groups().await;
        let mut groups = Groups::new(10);
        groups.analysed(a, at(60), at(100));
        groups.mark(a, 10, at(101));
        assert_eq!(groups.next(at(101)), Next::Wait(QUIET));
        groups.mark(a, 10, at(159));
        assert_eq!(groups.next(at(159)), Next::Wait(at(1)), "new ones came all the time, but it has rested");
        assert_eq!(groups.next(at(160)), Next::Analyse(a));
    }
}

//! Which Morse sets of two decompositions are the same.
//!
//! A Morse set is known by its place and, where it was computed, by its Conley index, which does not change while the
//! set persists (C. Conley, *Isolated Invariant Sets and the Morse Index*, 1978, chapter IV). The two grids and domains
//! may differ, so sets are compared by the volume that they share. A finer grid shrinks a set without moving it: two
//! sets *overlap* when at least half of the smaller lies in the larger.

use serde::{Deserialize, Serialize};

use super::RecurrentSet;
use crate::engine::grid::{Rect, UniformGrid};
use crate::engine::{Control, EngineError, Role};

/// Least share of the smaller of two sets that lies in the other, for them to overlap.
pub const LEAST_OVERLAP: f64 = 0.5;

/// A Morse set, as it is compared with others.
#[derive(Clone, Debug, PartialEq)]
pub struct MorseRegion {
    /// Boxes that share no interior and make up the set.
    pub rects: Vec<Rect>,
    /// Its Conley index, or another name for its kind that persists with it, where known.
    pub index: Option<String>,
    /// Whether it attracts.
    pub is_attractor: bool,
}

impl MorseRegion {
    /// A Morse set on a uniform grid.
    pub fn new(grid: &UniformGrid, set: &RecurrentSet, index: Option<String>) -> Self {
        let row = grid.cells_along(grid.dimension() - 1);
        let mut rects = Vec::new();
        for &(first, length) in &set.cells {
            // a run of cells may go on in the next row
            let (mut start, end) = (first, first + length);
            while start < end {
                let stop = end.min((start / row + 1) * row);
                let mut rect = grid.rect(start);
                let last = grid.rect(stop - 1);
                rect.include(last.lower(), last.upper());
                rects.push(rect);
                start = stop;
            }
        }
        Self { rects, index, is_attractor: set.role == Role::Attractor }
    }

    fn volume(&self) -> f64 {
        self.rects.iter().map(volume).sum()
    }

    /// How much speaks for both being one set, before their place: an index that both have, and that both attract or
    /// neither does.
    fn likeness(&self, other: &Self) -> (bool, bool) {
        (self.index.is_some() && self.index == other.index, self.is_attractor == other.is_attractor)
    }

    /// Whether both may be one set: no known index says otherwise.
    fn agrees_with(&self, other: &Self) -> bool {
        match (&self.index, &other.index) {
            (Some(own), Some(others)) => own == others,
            _ => true,
        }
    }
}

/// What became of the Morse sets of one decomposition in another. All lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    /// Pairs (before, after) that are one set. Of all that overlap and do not differ in index, those of known and equal
    /// index are taken first, then those that both attract or both do not, then those that share more of the smaller,
    /// then more volume; each set once.
    pub same: Vec<(usize, usize)>,
    /// Pairs (before, after) that overlap but differ in index, neither of which is the same as another set.
    pub changed: Vec<(usize, usize)>,
    /// Sets after that overlap none before.
    pub born: Vec<usize>,
    /// Sets before that overlap none after.
    pub died: Vec<usize>,
    /// Sets before that overlap several after, with these.
    pub split: Vec<(usize, Vec<usize>)>,
    /// Sets after that overlap several before, with these.
    pub merged: Vec<(usize, Vec<usize>)>,
    /// Number of attractors before, and after.
    pub attractors: (usize, usize),
    /// Attractors after that were no attractor before: no set is the same, or it did not attract.
    pub new_attractors: Vec<usize>,
    /// Attractors before that are none after: no set is the same, or it does not attract.
    pub lost_attractors: Vec<usize>,
}

impl Continuation {
    /// Compares the Morse sets of two decompositions in the same coordinates.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    ///
    /// # Panics
    /// If boxes differ in dimension.
    pub fn of(before: &[MorseRegion], after: &[MorseRegion], control: &Control) -> Result<Self, EngineError> {
        let mut overlaps = overlaps(before, after, control)?;
        overlaps.sort_unstable_by(|a, b| {
            let likeness = |overlap: &Overlap| before[overlap.before].likeness(&after[overlap.after]);
            (likeness(b).cmp(&likeness(a)))
                .then(b.share.total_cmp(&a.share))
                .then(b.volume.total_cmp(&a.volume))
                .then((a.before, a.after).cmp(&(b.before, b.after)))
        });
        let mut successor = vec![None; before.len()];
        let mut predecessor = vec![None; after.len()];
        for &Overlap { before: old, after: new, .. } in &overlaps {
            if successor[old].is_none() && predecessor[new].is_none() && before[old].agrees_with(&after[new])
            {
                (successor[old], predecessor[new]) = (Some(new), Some(old));
            }
        }
        let mut pairs: Vec<(usize, usize)> = overlaps.iter().map(|pair| (pair.before, pair.after)).collect();
        pairs.sort_unstable();
        let is_changed = |&(old, new): &(usize, usize)| {
            successor[old].is_none() && predecessor[new].is_none() && !before[old].agrees_with(&after[new])
        };
        let after_of = |old: usize| -> Vec<usize> {
            pairs.iter().filter(|pair| pair.0 == old).map(|pair| pair.1).collect()
        };
        let before_of = |new: usize| -> Vec<usize> {
            pairs.iter().filter(|pair| pair.1 == new).map(|pair| pair.0).collect()
        };
        let attracts =
            |sets: &[MorseRegion], same: Option<usize>| same.is_some_and(|set| sets[set].is_attractor);
        let old = || 0..before.len();
        let new = || 0..after.len();
        Ok(Self {
            same: old().filter_map(|old| Some((old, successor[old]?))).collect(),
            changed: pairs.iter().copied().filter(is_changed).collect(),
            born: new().filter(|&new| before_of(new).is_empty()).collect(),
            died: old().filter(|&old| after_of(old).is_empty()).collect(),
            split: old().map(|old| (old, after_of(old))).filter(|(_, several)| several.len() > 1).collect(),
            merged: new().map(|new| (new, before_of(new))).filter(|(_, several)| several.len() > 1).collect(),
            attractors: (
                before.iter().filter(|set| set.is_attractor).count(),
                after.iter().filter(|set| set.is_attractor).count(),
            ),
            new_attractors: new()
                .filter(|&new| after[new].is_attractor && !attracts(before, predecessor[new]))
                .collect(),
            lost_attractors: old()
                .filter(|&old| before[old].is_attractor && !attracts(after, successor[old]))
                .collect(),
        })
    }
}

impl Continuation {
    /// The same with other numbers for the sets: `before[n]` and `after[n]` for number n.
    ///
    /// # Panics
    /// If there are not as many as there are sets.
    #[must_use]
    pub fn renumbered(self, before: &[usize], after: &[usize]) -> Self {
        let pairs = |pairs: Vec<(usize, usize)>| -> Vec<(usize, usize)> {
            pairs.into_iter().map(|(old, new)| (before[old], after[new])).collect()
        };
        let each = |sets: Vec<usize>, names: &[usize]| -> Vec<usize> {
            sets.into_iter().map(|set| names[set]).collect()
        };
        Self {
            same: pairs(self.same),
            changed: pairs(self.changed),
            born: each(self.born, after),
            died: each(self.died, before),
            split: self.split.into_iter().map(|(old, parts)| (before[old], each(parts, after))).collect(),
            merged: self.merged.into_iter().map(|(new, parts)| (after[new], each(parts, before))).collect(),
            attractors: self.attractors,
            new_attractors: each(self.new_attractors, after),
            lost_attractors: each(self.lost_attractors, before),
        }
    }
}

/// Two sets that overlap.
struct Overlap {
    before: usize,
    after: usize,
    /// Common volume, as a share of the smaller.
    share: f64,
    volume: f64,
}

fn overlaps(
    before: &[MorseRegion],
    after: &[MorseRegion],
    control: &Control,
) -> Result<Vec<Overlap>, EngineError> {
    let mut boxes: Vec<(&Rect, usize)> = after
        .iter()
        .zip(0..)
        .flat_map(|(set, number)| set.rects.iter().map(move |rect| (rect, number)))
        .collect();
    boxes.sort_by(|a, b| a.0.lower()[0].total_cmp(&b.0.lower()[0]));
    let widest = boxes.iter().map(|(rect, _)| rect.width(0)).fold(0.0, f64::max);
    let volumes: Vec<f64> = after.iter().map(MorseRegion::volume).collect();
    let mut found = Vec::new();
    for (number, set) in before.iter().enumerate() {
        let mut common = vec![0.0; after.len()];
        for rect in &set.rects {
            control.check()?;
            let first = boxes.partition_point(|(other, _)| other.lower()[0] < rect.lower()[0] - widest);
            for (other, after) in
                boxes[first..].iter().take_while(|(other, _)| other.lower()[0] < rect.upper()[0])
            {
                common[*after] += common_volume(rect, other);
            }
        }
        let own = set.volume();
        for (after, volume) in common.into_iter().enumerate() {
            let share = volume / own.min(volumes[after]);
            if share >= LEAST_OVERLAP {
                found.push(Overlap { before: number, after, share: share.min(1.0), volume });
            }
        }
    }
    Ok(found)
}

fn volume(rect: &Rect) -> f64 {
    (0..rect.dimension()).map(|axis| rect.width(axis)).product()
}

fn common_volume(a: &Rect, b: &Rect) -> f64 {
    assert_eq!(a.dimension(), b.dimension(), "sets are compared in the same coordinates");
    let common = |axis: usize| a.upper()[axis].min(b.upper()[axis]) - a.lower()[axis].max(b.lower()[axis]);
    (0..a.dimension()).map(|axis| common(axis).max(0.0)).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Mode;
    use crate::engine::dynamics::{BoxMap, MorseDecomposition, PointMap, Widening};

    fn region(lower: f64, upper: f64, index: Option<&str>, is_attractor: bool) -> MorseRegion {
        let rects = vec![Rect::new(&[lower], &[upper])];
        MorseRegion { rects, index: index.map(str::to_owned), is_attractor }
    }

    fn compare(before: &[MorseRegion], after: &[MorseRegion]) -> Continuation {
        Continuation::of(before, after, &Control::default()).unwrap()
    }

    /// The Morse sets of one step of gradient descent on (x² − a)²/4 + y²/2, seen through some grid.
    fn wells(a: f64, half_width: f64, subdivisions: u32) -> Vec<MorseRegion> {
        let domain = Rect::new(&[-half_width; 2], &[half_width; 2]);
        let grid = UniformGrid::new(domain, subdivisions).unwrap();
        let map = PointMap::new(|x: &[f64], image: &mut [f64]| {
            image[0] = x[0] - 0.3 * (x[0].powi(3) - a * x[0]);
            image[1] = 0.5 * x[1];
        });
        let control = Control::default();
        let map = BoxMap::from_corners(&grid, &map, Widening::None, Mode::Full, &control).unwrap();
        let morse = MorseDecomposition::of(&map, &control).unwrap();
        morse.sets().iter().map(|set| MorseRegion::new(&grid, set, None)).collect()
    }

    #[test]
    fn the_same_sets_are_found_through_another_grid_and_domain() {
        let (coarse, fine) = (wells(1.0, 1.5, 12), wells(1.0, 1.4, 17));
        let found = compare(&coarse, &fine);
        assert_eq!(found.attractors, (2, 2));
        assert!(found.new_attractors.is_empty() && found.lost_attractors.is_empty());
        for &(old, new) in &found.same {
            assert_eq!(coarse[old].is_attractor, fine[new].is_attractor);
        }
    }

    #[test]
    fn where_one_well_becomes_two_the_new_attractors_are_told() {
        let (one, two) = (wells(-0.5, 1.5, 14), wells(1.0, 1.5, 14));
        let found = compare(&one, &two);
        assert_eq!(found.attractors, (1, 2));
        let attractors: Vec<usize> = (0..two.len()).filter(|&set| two[set].is_attractor).collect();
        assert_eq!((found.new_attractors, found.lost_attractors.len()), (attractors, 1));
    }

    #[test]
    fn one_set_among_two_parts_of_it_is_split_and_goes_on_in_the_larger() {
        let parent = [region(0.0, 10.0, None, true)];
        let parts =
            [region(1.0, 3.0, None, true), region(4.0, 8.0, None, true), region(20.0, 21.0, None, false)];
        let found = compare(&parent, &parts);
        assert_eq!(found.split, [(0, vec![0, 1])]);
        assert_eq!((found.same, found.born), (vec![(0, 1)], vec![2]));
        assert_eq!((found.attractors, found.new_attractors), ((1, 2), vec![0]));

        let back = compare(&parts, &parent);
        assert_eq!((back.merged, back.died), (vec![(0, vec![0, 1])], vec![2]));
        assert_eq!((back.same, back.lost_attractors), (vec![(1, 0)], vec![0]));
    }

    #[test]
    fn a_known_index_decides_before_overlap_does() {
        let before = [region(0.0, 10.0, Some("x-1"), true)];
        let after = [region(0.0, 8.0, Some("x^2-1"), true), region(8.0, 10.0, Some("x-1"), true)];
        let found = compare(&before, &after);
        assert_eq!((found.same, found.new_attractors), (vec![(0, 1)], vec![0]));
        assert!(found.changed.is_empty());

        let doubled = compare(&before, &after[..1]);
        assert_eq!((doubled.same.len(), doubled.changed), (0, vec![(0, 0)]));
        assert!(doubled.born.is_empty() && doubled.died.is_empty());
    }

    #[test]
    fn sets_that_only_touch_do_not_overlap() {
        let found = compare(&[region(0.0, 1.0, None, true)], &[region(1.0, 2.0, None, true)]);
        assert_eq!((found.born, found.died), (vec![0], vec![0]));
    }
}

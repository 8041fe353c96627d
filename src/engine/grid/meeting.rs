//! Which cells along an axis meet an interval.

#![expect(
    clippy::inline_always,
    reason = "only what is inlined is compiled for the instructions of the loop around it"
)]

use super::Cover;

/// Share of the domain's width by which boxes are taken to be larger when cells that meet them are sought, so that
/// rounding never loses a cell that is touched. CMGDB's rule, kept so that results agree edge by edge.
pub(super) const SLACK: f64 = 1.0 / (1u64 << 50) as f64;

/// Added to a number below 2⁵¹ and taken away again, it rounds to a whole one. Loops of this are vectorised on machines
/// whose instructions know no rounding.
const ROUNDS: f64 = 1.5 * (1u64 << 52) as f64;

/// The rule of one axis, end by end.
///
/// The first cell that an interval meets depends on its lower end alone, and the last on its upper end, both without ever
/// going down as the end goes up. So the hull of some intervals meets what lies between the smallest of their first cells
/// and the largest of their last: ends are counted in cells once, and hulls are taken of whole numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Meeting {
    /// Where the domain begins, and how wide it is.
    pub(super) lower: f64,
    pub(super) width: f64,
    /// Number of cells.
    pub(super) count: f64,
    pub(super) slack: f64,
    pub(super) is_periodic: bool,
    /// Position of the coordinate's lowest bit in a cell's key.
    pub(super) shift: u32,
}

impl Meeting {
    /// A position in units of cells, from the domain's lower end.
    #[inline(always)]
    pub(super) fn in_cells(&self, position: f64) -> f64 {
        (position - self.lower) / self.width * self.count
    }

    /// Whether these are the ends of an interval: they are numbers, and not the wrong way round.
    #[inline(always)]
    pub(super) fn is_interval(&self, lower: f64, upper: f64) -> bool {
        self.in_cells(lower) - self.slack <= self.in_cells(upper) + self.slack
    }

    /// The first cell that an interval with this lower end meets: −1 where it begins before the domain, and the number of
    /// cells where it begins behind it. Around a circle cells are numbered on and on.
    #[inline]
    pub(super) fn first(&self, lower: f64) -> f64 {
        if self.is_periodic { self.first_on::<true>(lower) } else { self.first_on::<false>(lower) }
    }

    /// The last cell that an interval with this upper end meets: −1 where it ends before the domain, and the number of
    /// cells where it ends behind it. Around a circle cells are numbered on and on.
    #[inline]
    pub(super) fn last(&self, upper: f64) -> f64 {
        if self.is_periodic { self.last_on::<true>(upper) } else { self.last_on::<false>(upper) }
    }

    /// Without branches, so that loops are vectorised.
    #[inline(always)]
    fn first_on<const CIRCLE: bool>(&self, lower: f64) -> f64 {
        let low = self.in_cells(lower) - self.slack;
        let cell = -floor(-low) - 1.0;
        if CIRCLE {
            return cell;
        }
        let first = larger(0.0, cell);
        let first = if low > self.count { self.count } else { first };
        if low < -2.0 * self.slack { -1.0 } else { first }
    }

    /// As [`Self::first_on`].
    #[inline(always)]
    fn last_on<const CIRCLE: bool>(&self, upper: f64) -> f64 {
        let high = self.in_cells(upper) + self.slack;
        let cell = floor(high);
        if CIRCLE {
            return cell;
        }
        let last = smaller(self.count - 1.0, cell);
        let last = if high > self.count + 2.0 * self.slack { self.count } else { last };
        if high < 0.0 { -1.0 } else { last }
    }

    /// Widens many intervals by a length on each side and counts their ends in cells; where one is none, `flaw` is added to
    /// its flaws.
    #[inline(always)]
    pub(in crate::engine) fn count_ends(
        &self,
        lower: &mut [f64],
        upper: &mut [f64],
        by: f64,
        flaws: &mut [u64],
        flaw: u64,
    ) {
        if self.is_periodic {
            self.count_ends_on::<true>(lower, upper, by, flaws, flaw);
        } else {
            self.count_ends_on::<false>(lower, upper, by, flaws, flaw);
        }
    }

    #[inline(always)]
    fn count_ends_on<const CIRCLE: bool>(
        &self,
        lower: &mut [f64],
        upper: &mut [f64],
        by: f64,
        flaws: &mut [u64],
        flaw: u64,
    ) {
        let meeting = *self;
        for ((lower, upper), flaws) in lower.iter_mut().zip(upper).zip(flaws) {
            let ends = (*lower - by, *upper + by);
            *lower = meeting.first_on::<CIRCLE>(ends.0);
            *upper = meeting.last_on::<CIRCLE>(ends.1);
            *flaws |= if meeting.is_interval(ends.0, ends.1) { 0 } else { flaw };
        }
    }

    /// Adds to the keys of many boxes' first and last cells what lies along this axis; `exits` or `empty` to the first
    /// where the box leaves the domain or meets no cell.
    #[inline(always)]
    pub(in crate::engine) fn place_ends(
        &self,
        ends: impl Iterator<Item = (f64, f64)>,
        keys: &mut [(u64, u64)],
        exits: u64,
        empty: u64,
    ) {
        if self.is_periodic {
            for ((first, last), keys) in ends.zip(keys) {
                let (first, last) = self.around(first, last);
                keys.0 |= whole(first) << self.shift;
                keys.1 |= whole(last) << self.shift;
            }
            return;
        }
        for ((first, last), keys) in ends.zip(keys) {
            let is_met = first < self.count && last >= 0.0;
            let is_inside = first >= 0.0 && last < self.count;
            let flags = if is_inside { 0 } else { exits } | if is_met { 0 } else { empty };
            keys.0 |= whole(larger(0.0, first)) << self.shift | flags;
            keys.1 |= whole(smaller(self.count - 1.0, last)) << self.shift;
        }
    }

    /// The cover of a box along the axes so far, and along this one between a first and a last cell.
    #[inline]
    pub(super) fn add_to(&self, cover: Cover, first: f64, last: f64) -> Cover {
        let Some((from, to)) = cover.cells else { return cover };
        let ((first, last), exits) = if self.is_periodic {
            (self.around(first, last), false)
        } else if first < self.count && last >= 0.0 {
            let ends = (larger(first, 0.0), smaller(last, self.count - 1.0));
            (ends, first < 0.0 || last >= self.count)
        } else {
            return Cover::NONE;
        };
        let cells = (from | whole(first) << self.shift, to | whole(last) << self.shift);
        Cover { cells: Some(cells), exits: cover.exits | exits }
    }

    /// First and last of the cells around the circle that lie between two.
    fn around(&self, first: f64, last: f64) -> (f64, f64) {
        // not a number where both are infinite
        let met = last - first + 1.0;
        if met.is_nan() || met >= self.count {
            return (0.0, self.count - 1.0);
        }
        (first.rem_euclid(self.count), last.rem_euclid(self.count))
    }
}

/// A whole number of at least zero, below 2⁵¹, as an integer.
#[inline(always)]
fn whole(x: f64) -> u64 {
    const ONE: f64 = (1u64 << 52) as f64;
    (x + ONE).to_bits() ^ ONE.to_bits()
}

/// The largest whole number that is not larger.
#[inline(always)]
fn floor(x: f64) -> f64 {
    let rounded = (x + ROUNDS) - ROUNDS;
    let below = if rounded > x { rounded - 1.0 } else { rounded };
    // larger ones are whole, or so far away that a cell more or less is nothing
    if x.abs() < (1u64 << 51) as f64 { below } else { x }
}

/// The smaller of two numbers, the first if the second is NaN; one instruction.
#[inline(always)]
pub(in crate::engine) fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// The larger of two numbers, the first if the second is NaN; one instruction.
#[inline(always)]
pub(in crate::engine) fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn floors_are_floors(x in -1e16f64..1e16, small in -1e3f64..1e3) {
            for x in [x, small, small.round(), small.round() + f64::EPSILON] {
                if x.abs() < (1u64 << 51) as f64 {
                    prop_assert_eq!(floor(x), x.floor());
                }
            }
        }

        #[test]
        fn ends_are_monotone(a in -3.0f64..4.0, b in -3.0f64..4.0, is_periodic: bool) {
            let count = 8.0;
            let meeting =
                Meeting { lower: 0.0, width: 1.0, count, slack: SLACK * count, is_periodic, shift: 0 };
            prop_assert!(meeting.first(a.min(b)) <= meeting.first(a.max(b)));
            prop_assert!(meeting.last(a.min(b)) <= meeting.last(a.max(b)));
        }
    }
}

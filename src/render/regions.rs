//! Regions of cells as outlines: a region of any number of cells becomes a few closed lines along cell edges.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A rectangle of cells, each with a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raster {
    /// Columns and rows.
    pub(super) size: (usize, usize),
    /// Label of each cell, column after column, as a two-dimensional grid counts them.
    pub(super) labels: Vec<u32>,
}

impl Raster {
    pub(super) fn new(size: (usize, usize), label: u32) -> Self {
        Self { size, labels: vec![label; size.0 * size.1] }
    }

    fn label(&self, x: i64, y: i64) -> Option<u32> {
        let inside = x >= 0 && y >= 0 && (x as usize) < self.size.0 && (y as usize) < self.size.1;
        inside.then(|| self.labels[x as usize * self.size.1 + y as usize])
    }

    /// The outlines of all regions of one label, as path data in units of cells with row 0 at the bottom of a picture
    /// that is `size.1` high. To be filled by either rule: outer lines and holes run in opposite directions.
    pub(super) fn outlines(&self) -> BTreeMap<u32, String> {
        // Edges by the vertex that they start from, the region to their left (y up).
        let mut edges: BTreeMap<u32, BTreeMap<(i64, i64), Vec<Way>>> = BTreeMap::new();
        let (columns, rows) = (self.size.0 as i64, self.size.1 as i64);
        for x in 0..columns {
            for y in 0..rows {
                let here = self.labels[x as usize * self.size.1 + y as usize];
                let sides = [
                    ((x, y - 1), (x, y), Way::Right),
                    ((x + 1, y), (x + 1, y), Way::Up),
                    ((x, y + 1), (x + 1, y + 1), Way::Left),
                    ((x - 1, y), (x, y + 1), Way::Down),
                ];
                for (neighbour, start, way) in sides {
                    if self.label(neighbour.0, neighbour.1) != Some(here) {
                        edges.entry(here).or_default().entry(start).or_default().push(way);
                    }
                }
            }
        }
        edges.into_iter().map(|(label, edges)| (label, trace(edges, rows))).collect()
    }

    /// The cells of these columns and rows, the ends not included.
    pub(super) fn part(&self, columns: (usize, usize), rows: (usize, usize)) -> Self {
        let columns = columns.0..columns.1.min(self.size.0);
        let rows = rows.0..rows.1.min(self.size.1);
        let size = (columns.len(), rows.len());
        let labels = columns.flat_map(|x| &self.labels[x * self.size.1..][rows.clone()]).copied().collect();
        Self { size, labels }
    }

    /// Half as many columns and rows. Where four cells differ the label wins that most of them have, or, of those that
    /// are `kept` whatever the number, the smallest.
    pub(super) fn halved(&self, kept: impl Fn(u32) -> bool) -> Self {
        let size = (self.size.0.div_ceil(2), self.size.1.div_ceil(2));
        let mut half = Self::new(size, 0);
        for x in 0..size.0 {
            for y in 0..size.1 {
                let four = [(0, 0), (0, 1), (1, 0), (1, 1)];
                let mut labels: Vec<u32> = four
                    .iter()
                    .filter_map(|(dx, dy)| self.label((2 * x + dx) as i64, (2 * y + dy) as i64))
                    .collect();
                labels.sort_unstable();
                let most = |label: &u32| labels.iter().filter(|other| *other == label).count();
                let winner = labels.iter().copied().find(|label| kept(*label));
                let winner = winner.or_else(|| labels.iter().copied().rev().max_by_key(most));
                half.labels[x * size.1 + y] = winner.unwrap_or(0);
            }
        }
        half
    }
}

/// The four directions of an edge, y up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Right,
    Up,
    Left,
    Down,
}

impl Way {
    fn step(self) -> (i64, i64) {
        match self {
            Self::Right => (1, 0),
            Self::Up => (0, 1),
            Self::Left => (-1, 0),
            Self::Down => (0, -1),
        }
    }
}

/// Follows the edges of one region until all are used.
fn trace(mut edges: BTreeMap<(i64, i64), Vec<Way>>, rows: i64) -> String {
    let mut data = String::new();
    while let Some((&start, _)) = edges.first_key_value() {
        let _ = write!(data, "M{} {}", start.0, rows - start.1);
        let mut at = start;
        let mut way: Option<Way> = None;
        let mut length = 0;
        while let Some(leaving) = edges.get_mut(&at) {
            // Where two regions touch at a corner, turn left if that is possible: either way the loops close.
            let turn = |candidate: &Way| match way {
                Some(way) => (*candidate as u8 + 3 - way as u8) % 4,
                None => 0,
            };
            let Some(next) = (0..leaving.len()).min_by_key(|&k| turn(&leaving[k])) else { break };
            let next = leaving.swap_remove(next);
            if leaving.is_empty() {
                edges.remove(&at);
            }
            if let Some(way) = way.filter(|way| *way != next) {
                push_run(&mut data, way, length);
                length = 0;
            }
            way = Some(next);
            length += 1;
            at = (at.0 + next.step().0, at.1 + next.step().1);
            if at == start {
                break;
            }
        }
        // The last run is what `z` draws.
        data.push('z');
    }
    data
}

fn push_run(data: &mut String, way: Way, length: i64) {
    let _ = match way {
        Way::Right => write!(data, "h{length}"),
        Way::Left => write!(data, "h-{length}"),
        Way::Up => write!(data, "v-{length}"),
        Way::Down => write!(data, "v{length}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills the outlines again, by the even-odd rule.
    fn filled(data: &str, size: (usize, usize)) -> Vec<bool> {
        let mut crossings = vec![false; size.0 * size.1];
        for outline in data.split('M').skip(1) {
            let outline = outline.trim_end_matches('z');
            let moves = outline.find(['h', 'v']).unwrap_or(outline.len());
            let (x, y) = outline[..moves].split_once(' ').expect("a start");
            let start: (i64, i64) = (x.parse().expect("x"), y.parse().expect("y"));
            let mut at = start;
            let mut toggle = |from: (i64, i64), to: (i64, i64)| {
                // A vertical edge toggles all cells to its right.
                for y in from.1.min(to.1)..from.1.max(to.1) {
                    for x in from.0..size.0 as i64 {
                        let row = size.1 as i64 - 1 - y;
                        crossings[x as usize * size.1 + row as usize] ^= true;
                    }
                }
            };
            let mut rest = &outline[moves..];
            while let Some(command) = rest.chars().next() {
                let end = rest[1..].find(['h', 'v']).map_or(rest.len(), |end| end + 1);
                let length: i64 = rest[1..end].parse().expect("a length");
                let to = if command == 'h' { (at.0 + length, at.1) } else { (at.0, at.1 + length) };
                toggle(at, to);
                at = to;
                rest = &rest[end..];
            }
            toggle(at, start);
        }
        crossings
    }

    #[test]
    fn outlines_fill_exactly_their_cells() {
        // A generator of its own, so that the pattern is the same everywhere.
        let mut state = 1u64;
        for labels in 1..5 {
            let mut raster = Raster::new((13, 9), 0);
            for label in &mut raster.labels {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *label = (state >> 33) as u32 % labels;
            }
            for (label, data) in raster.outlines() {
                let expected: Vec<bool> = raster.labels.iter().map(|other| *other == label).collect();
                assert_eq!(filled(&data, raster.size), expected, "label {label} of {labels}: {data}");
            }
        }
    }

    #[test]
    fn a_block_is_one_rectangle() {
        let raster = Raster::new((512, 512), 7);
        assert_eq!(raster.outlines(), BTreeMap::from([(7, "M0 512h512v-512h-512z".to_owned())]));
    }

    #[test]
    fn a_part_is_what_lies_in_its_columns_and_rows() {
        let raster = Raster { size: (3, 4), labels: (0..12).collect() };
        assert_eq!(raster.part((1, 3), (0, 2)), Raster { size: (2, 2), labels: vec![4, 5, 8, 9] });
    }

    #[test]
    fn halving_keeps_what_must_be_seen() {
        let mut raster = Raster::new((4, 2), 0);
        raster.labels[3] = 9;
        raster.labels[4] = 5;
        assert_eq!(raster.halved(|label| label == 9).labels, [9, 0]);
    }
}

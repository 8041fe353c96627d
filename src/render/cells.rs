//! The cells of an analysis, seen along one or two of its axes, as regions to be filled.

use std::collections::BTreeMap;

use super::reading::{role_word, set_name};
use super::regions::Raster;
use crate::engine::{Analysis, Fate};

/// What a region is. Ordered as regions are drawn, one upon the other, and listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Leads to this attractor.
    Basin(usize),
    /// Several attractors can be reached.
    Undecided,
    /// The trusted region can be left.
    Escapes,
    /// Not trusted.
    Untrusted,
    /// Seen from the side: cells of different fates lie one behind the other.
    Mixed,
    /// A Morse set.
    Set(usize),
}

impl Kind {
    /// What it is, for a tooltip.
    pub(super) fn title(self, analysis: &Analysis) -> String {
        match self {
            Self::Basin(set) => format!("from here every path ends in {}", set_name(set)),
            Self::Set(set) => {
                let role = analysis.morse_graph.sets.get(set).map_or("", |set| role_word(set.role));
                format!("{}: {role}", set_name(set))
            }
            Self::Undecided => "several attractors can be reached from here".to_owned(),
            Self::Escapes => "from here the trusted region can be left".to_owned(),
            Self::Untrusted => "too far from any checkpoint to say".to_owned(),
            Self::Mixed => "cells of different fates lie behind one another".to_owned(),
        }
    }
}

/// A picture of the cells.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    pub(super) raster: Raster,
    kinds: Vec<Kind>,
}

/// Outlines longer than this are drawn with half the cells, again and again.
const BYTES: usize = 160_000;

impl Cells {
    /// The cells as seen with the axis `across` to the right and `up` upwards; `None` for a picture without cells
    /// along that direction. Where cells lie behind one another, Morse sets are seen first, and fates that differ are
    /// [`Kind::Mixed`].
    pub(super) fn of(analysis: &Analysis, across: Option<usize>, up: Option<usize>) -> Self {
        let per_axis = &analysis.grid.cells_per_axis;
        let along = |axis: Option<usize>| axis.and_then(|at| per_axis.get(at)).copied().unwrap_or(1);
        let size = (along(across), along(up));
        // Cells that share a place in the picture, whatever their coordinates along the other axes.
        let mut fates: Vec<Option<Kind>> = vec![None; size.0 * size.1];
        let mut sets: Vec<Option<usize>> = vec![None; size.0 * size.1];
        let place = |cell: usize| {
            let (mut rest, mut x, mut y) = (cell, 0, 0);
            for (axis, &cells) in per_axis.iter().enumerate().rev() {
                let at = rest % cells.max(1);
                rest /= cells.max(1);
                if across == Some(axis) {
                    x = at;
                } else if up == Some(axis) {
                    y = at;
                }
            }
            x * size.1 + y
        };
        let mut cell = 0;
        for &(fate, length) in &analysis.basins.fates {
            let kind = match fate {
                Fate::Certain(set) => Kind::Basin(set),
                Fate::Undecided => Kind::Undecided,
                Fate::Escapes => Kind::Escapes,
                Fate::Untrusted => Kind::Untrusted,
            };
            for cell in cell..(cell + length).min(analysis.grid.cells) {
                let seen = &mut fates[place(cell)];
                *seen = Some(match *seen {
                    // What is not trusted hides nothing that is.
                    None | Some(Kind::Untrusted) => kind,
                    Some(other) if other == kind || kind == Kind::Untrusted => other,
                    Some(_) => Kind::Mixed,
                });
            }
            cell += length;
        }
        let order = super::palette::by_importance(&analysis.morse_graph);
        for &set in order.iter().rev() {
            for &(first, length) in &analysis.morse_graph.sets[set].cells {
                for cell in first..(first + length).min(analysis.grid.cells) {
                    sets[place(cell)] = Some(set);
                }
            }
        }
        let mut kinds: Vec<Kind> = Vec::new();
        let mut number: BTreeMap<Kind, u32> = BTreeMap::new();
        let mut raster = Raster::new(size, 0);
        for (label, (fate, set)) in raster.labels.iter_mut().zip(fates.into_iter().zip(sets)) {
            let kind = set.map(Kind::Set).or(fate).unwrap_or(Kind::Untrusted);
            *label = *number.entry(kind).or_insert_with(|| {
                kinds.push(kind);
                kinds.len() as u32 - 1
            });
        }
        let mut cells = Self { raster, kinds };
        while cells.raster.size.0.min(cells.raster.size.1) > 64 && cells.bytes() > BYTES {
            let kinds = cells.kinds.clone();
            cells.raster =
                cells.raster.halved(|label| matches!(kinds.get(label as usize), Some(Kind::Set(_))));
        }
        cells
    }

    fn bytes(&self) -> usize {
        self.raster.outlines().values().map(String::len).sum()
    }

    /// The outline of each region, in the order in which they are drawn.
    pub(super) fn outlines(&self) -> BTreeMap<Kind, String> {
        let outlines = self.raster.outlines().into_iter();
        outlines.filter_map(|(label, data)| Some((*self.kinds.get(label as usize)?, data))).collect()
    }
}

//! The cells of an analysis, seen along one or two of its axes, as regions to be filled.

use std::collections::BTreeMap;
use std::ops::Range;

use super::reading::{role_word, set_name};
use super::regions::Raster;
use crate::engine::{Analysis, Fate, Place, Places};

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
    /// Columns and rows of the whole.
    pub(super) full: (usize, usize),
    kinds: Vec<Kind>,
}

/// A part of a raster: columns from and to, rows from and to, the ends not included.
pub(super) type Window = ((usize, usize), (usize, usize));

/// Outlines longer than this are drawn with half the cells, again and again.
const BYTES: usize = 160_000;

/// No picture has more cells than this along an axis.
const FINEST: usize = 1024;

/// Cells far smaller than a pixel are sampled, every second, fourth, … along an axis; Morse sets never.
fn shift(cells: usize) -> u32 {
    (0..usize::BITS).find(|shift| cells >> shift <= FINEST).unwrap_or(0)
}

/// Number of columns (or rows) of a picture of so many cells along an axis.
pub(super) fn columns(cells: usize) -> usize {
    cells.div_ceil(1 << shift(cells))
}

impl Cells {
    /// The cells as seen with the axis `across` to the right and `up` upwards; `None` for a picture without cells
    /// along that direction. Where cells lie behind one another, Morse sets are seen first, and fates that differ are
    /// [`Kind::Mixed`]. Of an adaptive grid a cell is as many as it has of the deepest level.
    pub(super) fn of(analysis: &Analysis, across: Option<usize>, up: Option<usize>) -> Self {
        let places = Places::of(&analysis.grid);
        let per_axis = &analysis.grid.cells_per_axis;
        let along = |axis: Option<usize>| axis.and_then(|at| per_axis.get(at)).copied().unwrap_or(1);
        let shifts = (shift(along(across)), shift(along(up)));
        let size = (columns(along(across)), columns(along(up)));
        // Cells that share a place in the picture, whatever their coordinates along the other axes.
        let mut fates: Vec<Option<Kind>> = vec![None; size.0 * size.1];
        let mut sets: Vec<Option<usize>> = vec![None; size.0 * size.1];
        let span = |place: &Place<'_>, axis: Option<usize>| {
            let Some(axis) = axis.filter(|axis| *axis < per_axis.len()) else { return 0..1 };
            let deepest = per_axis[axis] / place.cells_along(axis);
            let first = place.coordinate(axis) * deepest;
            first..first + deepest
        };
        // Those of the picture's places that are sampled within a cell, or that it touches.
        let sampled =
            |span: Range<usize>, shift: u32| span.start.div_ceil(1 << shift)..span.end.div_ceil(1 << shift);
        let touched = |span: Range<usize>, shift: u32| span.start >> shift..span.end.div_ceil(1 << shift);
        let mut first = 0;
        for &(fate, length) in &analysis.basins.fates {
            let kind = match fate {
                Fate::Certain(set) => Kind::Basin(set),
                Fate::Undecided => Kind::Undecided,
                Fate::Escapes => Kind::Escapes,
                Fate::Untrusted => Kind::Untrusted,
            };
            for place in places.each([(first, length)]) {
                for x in sampled(span(&place, across), shifts.0) {
                    for y in sampled(span(&place, up), shifts.1) {
                        let seen = &mut fates[x * size.1 + y];
                        *seen = Some(match *seen {
                            // What is not trusted hides nothing that is.
                            None | Some(Kind::Untrusted) => kind,
                            Some(other) if other == kind || kind == Kind::Untrusted => other,
                            Some(_) => Kind::Mixed,
                        });
                    }
                }
            }
            first += length;
        }
        let order = super::palette::by_importance(&analysis.morse_graph);
        for &set in order.iter().rev() {
            for place in places.each(analysis.morse_graph.sets[set].cells.iter().copied()) {
                for x in touched(span(&place, across), shifts.0) {
                    for y in touched(span(&place, up), shifts.1) {
                        sets[x * size.1 + y] = Some(set);
                    }
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
        Self { raster, full: size, kinds }
    }

    /// The part within a window.
    pub(super) fn within(self, (columns, rows): Window) -> Self {
        Self { raster: self.raster.part(columns, rows), ..self }
    }

    /// With cells merged where their outlines would be too long for a picture.
    pub(super) fn coarse_enough(mut self) -> Self {
        while self.raster.size.0.min(self.raster.size.1) > 64 && self.bytes() > BYTES {
            let is_set = |label: u32| matches!(self.kinds.get(label as usize), Some(Kind::Set(_)));
            self.raster = self.raster.halved(is_set);
        }
        self
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

//! Multivalued maps on the cells of a uniform grid.

use std::ops::{ControlFlow, Range};

use rayon::prelude::*;

use super::adaptive_map::DeepImage;
use super::corner_hulls::corner_images;
use super::{Corners, Digraph};
use crate::engine::grid::{Cover, Level, MAX_DIMENSION, Rect, Rows, UniformGrid};
use crate::engine::{Control, EngineError, Mode};

/// How boxes around corner images are made larger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Widening {
    /// Not at all.
    None,
    /// By the width of a cell on each side.
    CellWidth,
}

impl Widening {
    /// Length along an axis, for cells of this size.
    pub(super) fn along(self, level: &Level, axis: usize) -> f64 {
        match self {
            Self::None => 0.0,
            Self::CellWidth => level.cell_width(axis),
        }
    }
}

/// A map that sends each cell to a box of cells, with its images kept in eight bytes a cell.
///
/// A box of cells is known by two of its cells, the one with the smallest and the one with the largest coordinates;
/// its members are enumerated when asked for. In full mode a cell whose image leaves the domain has an edge to *exit*,
/// and one where the map is not trusted has no edge but to *unknown*; both are flags, not vertices.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxMap {
    grid: UniformGrid,
    images: Vec<Image>,
}

/// First cell of a box, with flags in the bits above the largest index, and last one. Plain numbers, since memory for
/// zeros is taken only where it is written to.
pub(super) type Image = [u32; 2];

/// An image that is not known still.
pub(super) const UNWRITTEN: Image = [0; 2];

// As those of deep images, half a word lower.
const EXITS: u32 = (DeepImage::EXITS >> 32) as u32;
const UNKNOWN: u32 = (DeepImage::UNKNOWN >> 32) as u32;
const EMPTY: u32 = (DeepImage::EMPTY >> 32) as u32;
const INDEX: u32 = EMPTY - 1;

/// An image whose keys have at most 29 bits.
#[inline]
pub(super) fn narrowed(image: DeepImage) -> Image {
    let (first, last) = image.parts();
    [first as u32 | (first >> 32) as u32, last as u32]
}

/// Cells that one task covers.
pub(super) const CELLS_PER_TASK: usize = 1 << 12;

impl BoxMap {
    /// Encloses the image of each cell by the bounding box of the images of its corners, widened.
    ///
    /// Every corner is evaluated once. The box holds the image of the whole cell if the map is monotone in each
    /// coordinate, or if `widening` bounds how far it bends inside a cell.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn from_corners(
        grid: &UniformGrid,
        map: &impl Corners,
        widening: Widening,
        mode: Mode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let images = match grid.dimension() {
            1 => corner_images::<1>(grid, map, widening, mode, control),
            2 => corner_images::<2>(grid, map, widening, mode, control),
            3 => corner_images::<3>(grid, map, widening, mode, control),
            4 => corner_images::<4>(grid, map, widening, mode, control),
            5 => corner_images::<5>(grid, map, widening, mode, control),
            _ => corner_images::<MAX_DIMENSION>(grid, map, widening, mode, control),
        }?;
        Ok(Self { grid: grid.clone(), images })
    }

    /// Encloses the image of each cell by what `enclose` returns for its region; `None` means that nothing is known.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn from_rects(
        grid: &UniformGrid,
        enclose: impl Fn(&Rect) -> Option<Rect> + Sync,
        mode: Mode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let cover = |cell| enclose(&grid.rect(cell)).map(|rect| grid.cover(&rect));
        Self::from_covers(grid, cover, mode, control)
    }

    /// Sends each cell to the cells that meet its box, all of them known beforehand: one box for each cell, in the order of
    /// cells, `None` where nothing is known.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] if there is not one box for each cell, or not of the grid's dimension;
    /// [`EngineError::Cancelled`].
    pub fn from_boxes(
        grid: &UniformGrid,
        boxes: &[Option<Rect>],
        mode: Mode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let refuse = |name, value, need| Err(EngineError::Parameter { name, value, need });
        if boxes.len() != grid.cells() as usize {
            return refuse("boxes", boxes.len() as f64, "as many as the grid has cells");
        }
        if let Some(odd) = boxes.iter().flatten().find(|rect| rect.dimension() != grid.dimension()) {
            return refuse("dimension of a box", odd.dimension() as f64, "the grid's dimension");
        }
        let cover = |cell: u32| boxes[cell as usize].map(|rect| grid.cover(&rect));
        Self::from_covers(grid, cover, mode, control)
    }

    /// Sends each cell to the cells of a cover; `None` means that nothing is known.
    pub(super) fn from_covers(
        grid: &UniformGrid,
        cover: impl Fn(u32) -> Option<Cover> + Sync,
        mode: Mode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let mut images = vec![UNWRITTEN; grid.cells() as usize];
        images.par_chunks_mut(CELLS_PER_TASK).enumerate().for_each(|(task, images)| {
            if control.check().is_err() {
                return;
            }
            for (cell, image) in (task * CELLS_PER_TASK..).zip(images) {
                let cover = cover(cell as u32);
                *image =
                    narrowed(cover.map_or(DeepImage::unknown(mode), |cover| DeepImage::new(cover, mode)));
            }
        });
        control.check()?;
        Ok(Self { grid: grid.clone(), images })
    }

    /// The grid on which the map lives.
    pub fn grid(&self) -> &UniformGrid {
        &self.grid
    }

    /// Corners (first and last along every axis) of the box of cells to which a cell is sent, if it is not empty. Along
    /// a periodic axis the first may come after the last: the box goes on across the ends of the domain.
    #[inline]
    pub fn image(&self, cell: u32) -> Option<(u32, u32)> {
        let [first, last] = self.images[cell as usize];
        (first & EMPTY == 0).then_some((first & INDEX, last))
    }

    /// Whether the image of a cell leaves the domain (full mode; never in compatible mode).
    pub fn exits(&self, cell: u32) -> bool {
        self.images[cell as usize][0] & EXITS != 0
    }

    /// Whether nothing is known of the image of a cell.
    pub fn is_unknown(&self, cell: u32) -> bool {
        self.images[cell as usize][0] & UNKNOWN != 0
    }

    /// Number of edges, those to *exit* and *unknown* not counted.
    pub fn edges(&self) -> u64 {
        let count = |image: &Image| {
            if image[0] & EMPTY != 0 {
                return 0;
            }
            (0..self.grid.dimension())
                .map(|axis| {
                    let first = self.grid.coordinate(image[0] & INDEX, axis);
                    let last = self.grid.coordinate(image[1], axis);
                    let across = if first > last { self.grid.cells_along(axis) } else { 0 };
                    u64::from(last + across - first + 1)
                })
                .product()
        };
        self.images.par_iter().map(count).sum()
    }
}

impl Digraph for BoxMap {
    fn vertices(&self) -> u32 {
        self.grid.cells()
    }

    fn successors(&self, cell: u32, from: u32) -> Range<u32> {
        self.image(cell).map_or(0..0, |(first, last)| self.grid.next_run(first, last, from))
    }

    #[inline]
    fn try_for_each_rows<B>(
        &self,
        cell: u32,
        from: u32,
        visit: impl FnMut(Rows<u32>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        match self.image(cell) {
            Some((first, last)) => self.grid.try_for_each_rows(first, last, from, visit),
            None => ControlFlow::Continue(()),
        }
    }

    fn has_edge(&self, from: u32, to: u32) -> bool {
        self.image(from)
            .is_some_and(|(first, last)| self.grid.level().holds(first.into(), last.into(), to.into()))
    }

    #[inline]
    fn are_alike(&self, a: u32, b: u32) -> bool {
        self.images[a as usize] == self.images[b as usize]
    }

    #[inline]
    fn escapes(&self, cell: u32) -> bool {
        self.images[cell as usize][0] & (EXITS | UNKNOWN) != 0
    }
}

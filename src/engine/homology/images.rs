//! Images of cells, each asked for once.

use std::collections::HashMap;
use std::sync::Mutex;

use rayon::prelude::*;

use super::conley_index::Undefined;
use super::cubical_space::{CellBox, CubicalSpace, Escape, Image};
use crate::engine::{Control, EngineError};

/// Images of the cells of a set, and of others as they are needed.
#[derive(Debug)]
pub(super) struct Images<F> {
    space: CubicalSpace,
    /// Corners of those of the set's cells, in order; none where the image is empty.
    of_set: Vec<Option<(u64, u64)>>,
    map: F,
    of_others: Mutex<HashMap<u64, Image>>,
}

/// Cells that one task evaluates.
const CELLS_PER_TASK: usize = 1 << 8;

impl<F: Fn(u64) -> Image + Sync> Images<F> {
    /// Evaluates a map on a set. The inner error says why there is no index pair.
    pub(super) fn new(
        space: &CubicalSpace,
        set: &[u64],
        map: F,
        control: &Control,
    ) -> Result<Result<Self, Undefined>, EngineError> {
        let mut of_set = vec![None; set.len()];
        let tasks = of_set.par_chunks_mut(CELLS_PER_TASK).zip(set.par_chunks(CELLS_PER_TASK));
        let escapes = tasks
            .map(|(images, cells)| {
                control.check()?;
                let mut escapes = false;
                for (image, &cell) in images.iter_mut().zip(cells) {
                    let Image { cells, escape } = map(cell);
                    escapes |= escape.is_some();
                    *image = cells;
                }
                Ok(escapes)
            })
            .try_reduce(|| false, |a, b| Ok(a | b))?;
        if escapes {
            return Ok(Err(Undefined::Escapes));
        }
        Ok(Ok(Self { space: space.clone(), of_set, map, of_others: Mutex::default() }))
    }

    /// The image of the set's cell of this number.
    pub(super) fn of_member(&self, number: usize) -> Option<CellBox> {
        self.of_set[number].map(|corners| CellBox::new(&self.space, corners))
    }

    /// The image of another cell. It may leave the space, but it must be known.
    pub(super) fn of_collar(&self, cell: u64) -> Result<Option<CellBox>, Undefined> {
        let known = |images: &mut HashMap<u64, Image>| images.get(&cell).copied();
        let lock = || self.of_others.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let found = known(&mut lock());
        let image = found.unwrap_or_else(|| {
            let image = (self.map)(cell);
            lock().insert(cell, image);
            image
        });
        if image.escape == Some(Escape::Unknown) {
            return Err(Undefined::Escapes);
        }
        Ok(image.cells.map(|corners| CellBox::new(&self.space, corners)))
    }
}

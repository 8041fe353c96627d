//! Adaptive maps: only what recurs is looked at closely.

use std::borrow::Cow;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adaptive_map::DeepImage;
use super::{AdaptiveMap, Components, Digraph as _, Rule};
use crate::engine::grid::{AdaptiveGrid, CellSet, Level, MAX_SUBDIVISIONS, Rect};
use crate::engine::{Control, EngineError, Mode};

/// How deep an adaptive grid goes; the depths are numbers of subdivisions, as CMGDB's `Model` takes them.
///
/// ```
/// use doodl3::engine::dynamics::{AdaptiveMap, CornerRule, MorseDecomposition, PointMap, Refinement, Widening};
/// use doodl3::engine::grid::Rect;
/// use doodl3::engine::{Control, Mode, Role};
///
/// // the two stable points of a double well, and the saddle between them
/// let flow = PointMap::new(|x: &[f64], image: &mut [f64]| {
///     image[0] = x[0] / (x[0] * x[0] + (1.0 - x[0] * x[0]) * f64::exp(-2.0)).sqrt();
/// });
/// let refinement = Refinement { init: 4, min: 16, max: 20, limit: 10_000 };
/// let domain = Rect::new(&[-2.0], &[2.0]);
/// let control = Control::default();
/// let rule = CornerRule { map: &flow, widening: Widening::None, mode: Mode::Compatible };
/// let map = AdaptiveMap::refine(domain, &[false], refinement, &rule, &control)?;
/// assert!(map.grid().cells() < 300, "of {} cells of that size", 1 << 16);
/// let morse = MorseDecomposition::of(&map, &control)?;
/// assert_eq!(morse.sets().iter().filter(|set| set.role == Role::Attractor).count(), 2);
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    description = "How deep an adaptive grid goes; the depths are numbers of subdivisions, as CMGDB's `Model` takes them."
)]
pub struct Refinement {
    /// The first depth at which recurrence is sought; all cells are this deep at least.
    pub init: u32,
    /// What recurs is refined down to this depth.
    pub min: u32,
    /// Recurrent sets are refined further down to this depth, to see whether they hold anything.
    pub max: u32,
    /// Below `min` a set is not refined to more cells than this.
    pub limit: usize,
}

/// Recurrent components that are refined together, and what became of the rest.
struct Step {
    /// Cells that recur, component by component, each sorted by key, with their images.
    recurrent: Vec<Vec<Leaf>>,
    leaves: Vec<Leaf>,
}

/// A cell of some depth, and its image.
#[derive(Clone, Copy)]
struct Leaf {
    key: u64,
    image: DeepImage,
}

impl Leaf {
    fn recurring(self) -> Self {
        Self { image: self.image.recurring(), ..self }
    }
}

/// Leaves by depth.
#[derive(Default)]
struct Leaves {
    by_depth: Vec<Vec<Leaf>>,
    /// The largest component that was left as it is: its depth, and its cells' keys.
    connected: (u32, Vec<u64>),
}

impl Leaves {
    fn add(&mut self, depth: u32, mut leaves: Vec<Leaf>) {
        if self.by_depth.len() <= depth as usize {
            self.by_depth.resize_with(depth as usize + 1, Vec::new);
        }
        let there = &mut self.by_depth[depth as usize];
        if there.len() < leaves.len() {
            std::mem::swap(there, &mut leaves);
        }
        there.append(&mut leaves);
    }

    /// Adds a component of one depth, which is not refined further.
    fn add_component(&mut self, depth: u32, mut component: Vec<Leaf>) {
        if component.len() > self.connected.1.len() {
            self.connected = (depth, component.par_iter().map(|leaf| leaf.key).collect());
        }
        component.par_iter_mut().for_each(|leaf| *leaf = leaf.recurring());
        self.add(depth, component);
    }

    fn append(&mut self, other: Self) {
        if other.connected.1.len() > self.connected.1.len() {
            self.connected = other.connected;
        }
        for (depth, leaves) in other.by_depth.into_iter().enumerate() {
            self.add(depth as u32, leaves);
        }
    }
}

impl AdaptiveMap {
    /// Refines the recurrent components of a map, one by one and level by level, by the rules of CMGDB: a component is
    /// cut in halves, and what still recurs among them is refined further. At depth `min` it is a candidate; a candidate
    /// of which nothing recurs at some depth up to `max` holds nothing, and its cells stay refined. In compatible mode the
    /// others stay at depth `min`; in full mode each is shown at the depth where it was last resolved.
    ///
    /// Where images do not shrink with their cells (maps that are not monotone, corners without padding), something may
    /// recur that was not seen on a coarser level. Recurrence and order are therefore to be sought on the grid that comes
    /// out, and edges are never inherited from coarser levels. In compatible mode cells that did not recur on their own
    /// level are no members of a Morse set; two sets that reach each other over them are one.
    ///
    /// # Errors
    /// [`EngineError::Refinement`] if the depths do not increase, [`EngineError::TooManyCells`] if the first or the last
    /// grid has too many; [`EngineError::TooDeep`], [`EngineError::Domain`], [`EngineError::Dimension`],
    /// [`EngineError::Cancelled`].
    pub fn refine(
        domain: Rect,
        periodic: &[bool],
        refinement: Refinement,
        rule: &impl Rule,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let Refinement { init, min, max, .. } = refinement;
        if !(init <= min && min <= max) {
            return Err(EngineError::Refinement { init, min, max });
        }
        if init > MAX_SUBDIVISIONS {
            return Err(EngineError::TooManyCells { subdivisions: init });
        }
        let finest = Level::new(domain, max)?.with_periodic_axes(periodic);
        let work = Work { finest: &finest, refinement, rule, control };

        let mut leaves = Leaves::default();
        let mut nodes = vec![(0..1u64 << init).collect::<Vec<u64>>()];
        for depth in init..=min {
            let level = finest.ancestor_level(depth);
            let steps: Vec<Step> =
                nodes.into_par_iter().map(|keys| work.step(&level, keys)).collect::<Result<_, _>>()?;
            nodes = Vec::new();
            for step in steps {
                leaves.add(depth, step.leaves);
                if depth < min {
                    nodes.par_extend(step.recurrent.par_iter().map(|set| halves(&level, set)));
                } else {
                    let resolved = step.recurrent.into_par_iter().map(|candidate| work.resolve(candidate));
                    for found in resolved.collect::<Result<Vec<Leaves>, _>>()? {
                        leaves.append(found);
                    }
                }
            }
            control.report("map", f64::from(depth - init + 1) / f64::from(min - init + 1));
        }
        work.assemble(leaves)
    }
}

/// What all steps need.
struct Work<'a, R> {
    finest: &'a Level,
    refinement: Refinement,
    rule: &'a R,
    control: &'a Control,
}

impl<R: Rule> Work<'_, R> {
    /// Evaluates the map on some cells of one level, sorted by key, and tells what recurs among them alone.
    fn step(&self, level: &Level, keys: Vec<u64>) -> Result<Step, EngineError> {
        let images = self.rule.images(level, self.finest, &keys, self.control)?;
        let grid = AdaptiveGrid::new(self.finest.clone(), vec![CellSet::new(level.clone(), keys)]);
        let map = AdaptiveMap::new(grid, images, Vec::new(), self.control)?;
        let components = Components::of(&map, self.control)?;
        let leaf = |vertex: u32| Leaf {
            key: map.grid().sets()[0].keys()[vertex as usize],
            image: map.images()[vertex as usize],
        };
        let recurrent: Vec<&[u32]> = components.recurrent().collect();
        let leaves_of = |members: &[u32]| {
            let mut leaves: Vec<Leaf> = members.par_iter().copied().map(leaf).collect();
            leaves.sort_unstable_by_key(|leaf| leaf.key);
            leaves
        };
        let recurrent = recurrent.into_par_iter().map(leaves_of).collect();
        let others = (0..map.vertices()).into_par_iter().filter(|&vertex| !components.is_recurrent(vertex));
        Ok(Step { recurrent, leaves: others.map(leaf).collect() })
    }

    /// Refines a candidate further, to see whether it holds anything.
    fn resolve(&self, candidate: Vec<Leaf>) -> Result<Leaves, EngineError> {
        let Refinement { min, max, limit, .. } = self.refinement;
        let mut refined = Leaves::default();
        let mut holds = false;
        let mut open = vec![(min, Cow::Borrowed(candidate.as_slice()))];
        while let Some((depth, set)) = open.pop() {
            if depth == max || 2 * set.len() > limit {
                holds = true;
                if self.rule.mode() == Mode::Compatible {
                    break;
                }
                refined.add_component(depth, set.into_owned());
                continue;
            }
            let level = self.finest.ancestor_level(depth);
            let step = self.step(&self.finest.ancestor_level(depth + 1), halves(&level, &set))?;
            refined.add(depth + 1, step.leaves);
            open.extend(step.recurrent.into_iter().map(|set| (depth + 1, Cow::Owned(set))));
        }
        if holds && self.rule.mode() == Mode::Compatible {
            let mut unrefined = Leaves::default();
            unrefined.add_component(min, candidate);
            return Ok(unrefined);
        }
        Ok(refined)
    }

    /// The map on all leaves.
    fn assemble(&self, leaves: Leaves) -> Result<AdaptiveMap, EngineError> {
        let count: usize = leaves.by_depth.iter().map(Vec::len).sum();
        if count > 1 << MAX_SUBDIVISIONS {
            return Err(EngineError::TooManyCells { subdivisions: count.ilog2() + 1 });
        }
        let (connected_depth, connected) = leaves.connected;
        let (mut sets, mut images) = (Vec::new(), Vec::with_capacity(count));
        for (depth, mut leaves) in
            leaves.by_depth.into_iter().enumerate().filter(|(_, leaves)| !leaves.is_empty())
        {
            self.control.check()?;
            // parts one after the other, each of them sorted
            leaves.par_sort_by_key(|leaf| leaf.key);
            let keys = leaves.par_iter().map(|leaf| leaf.key).collect();
            sets.push(CellSet::new(self.finest.ancestor_level(depth as u32), keys));
            // in full mode whatever recurs on the final grid counts
            let all = self.rule.mode() == Mode::Full;
            let image = |leaf: &Leaf| if all { leaf.image.recurring() } else { leaf.image };
            images.par_extend(leaves.par_iter().map(image));
        }
        let grid = AdaptiveGrid::new(self.finest.clone(), sets);
        let level = self.finest.ancestor_level(connected_depth);
        let connected = connected.par_iter().filter_map(|&key| grid.position(&level, key)).collect();
        AdaptiveMap::new(grid, images, connected, self.control)
    }
}

/// Keys of the halves of some cells, sorted as these are.
fn halves(level: &Level, cells: &[Leaf]) -> Vec<u64> {
    let mut keys: Vec<u64> = Vec::with_capacity(2 * cells.len());
    // Cells that differ only along the axes after the one that is cut come with all their lower halves first.
    for group in cells.chunk_by(|a, b| level.is_beside(a.key, b.key)) {
        keys.extend(group.iter().map(|cell| level.halves(cell.key)[0]));
        keys.extend(group.iter().map(|cell| level.halves(cell.key)[1]));
    }
    keys
}

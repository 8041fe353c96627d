//! A map known by pairs alone: boxes around the images of nearby points.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::dynamics::BoxMap;
use crate::engine::grid::{Level, Rect, UniformGrid};
use crate::engine::trajectories::Pairs;
use crate::engine::{Control, EngineError, Mode, Points};

/// Pairs in a leaf of the index.
const LEAF: usize = 8;

/// Doublings after which any box holds every finite point.
const MOST_DOUBLINGS: usize = 2200;

/// What becomes of boxes in which no pair starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmptyBox {
    /// They are doubled about their middle until a pair starts in them.
    Interpolate,
    /// They are sent outside the domain.
    Outside,
    /// Nothing is known of them.
    Unknown,
    /// There is no map on a grid that has such cells.
    Refuse,
}

/// A box map made of pairs (x, y), without any model: the image of a box is the bounding box of the y of all pairs whose
/// x lies in it or near it. As CMGDB's `BoxMapData`, with an index over the pairs.
///
/// ```
/// use doodl3::engine::grid::Rect;
/// use doodl3::engine::surrogate::{DataMap, EmptyBox};
/// use doodl3::engine::Points;
///
/// let from = Points::from_rows(1, (0..100).map(|i| [f64::from(i) / 100.0]));
/// let to = Points::from_rows(1, from.rows().map(|x| [3.83 * x[0] * (1.0 - x[0])]));
/// let map = DataMap::new(&from, &to)?.empty(EmptyBox::Unknown).reach(0.0);
/// let image = map.enclose(&Rect::new(&[0.095], &[0.155])).expect("six pairs start here");
/// assert!((image.lower()[0] - 0.3447).abs() < 1e-9 && (image.upper()[0] - 0.488_325).abs() < 1e-9);
/// assert_eq!(map.enclose(&Rect::new(&[0.101], &[0.109])), None);
/// # Ok::<(), doodl3::engine::EngineError>(())
/// ```
#[derive(Clone, Debug)]
pub struct DataMap {
    pairs: PairTree,
    empty: EmptyBox,
    reach: f64,
    padding: f64,
    lipschitz: f64,
}

impl DataMap {
    /// The map known by the pairs of rows of `from` and `to`. A box sees pairs up to its own width away, is doubled where
    /// there are none, and its image is not widened, as CMGDB has it.
    ///
    /// # Errors
    /// [`EngineError::Parameter`] if there are no pairs, if their numbers differ, or if one is not finite.
    pub fn new(from: &Points, to: &Points) -> Result<Self, EngineError> {
        let Pairs { from, to, .. } = Pairs::of_points(from, to)?;
        let pairs = PairTree::new(&from, &to);
        Ok(Self { pairs, empty: EmptyBox::Interpolate, reach: 1.0, padding: 0.0, lipschitz: 0.0 })
    }

    /// What becomes of boxes in which no pair starts; without [`EmptyBox::Interpolate`] the box itself is meant, not what
    /// it sees around it.
    #[must_use]
    pub fn empty(self, empty: EmptyBox) -> Self {
        Self { empty, ..self }
    }

    /// How far beyond its faces a box sees pairs, in its own widths.
    #[must_use]
    pub fn reach(self, widths: f64) -> Self {
        Self { reach: widths, ..self }
    }

    /// What is added to images on each side, in widths of the box that is mapped.
    #[must_use]
    pub fn padding(self, widths: f64) -> Self {
        Self { padding: widths, ..self }
    }

    /// Widens images so that they hold those of all points of the box under any map through the pairs that has this
    /// Lipschitz constant, coordinate by coordinate for Euclidean distances: by the constant times the distance within
    /// which every point of the box has one of the pairs that were seen.
    #[must_use]
    pub fn lipschitz(self, constant: f64) -> Self {
        Self { lipschitz: constant, ..self }
    }

    /// A box around the image of a box; `None` where nothing is known.
    pub fn enclose(&self, rect: &Rect) -> Option<Rect> {
        if self.empty != EmptyBox::Interpolate && self.pairs.images(rect).is_none() {
            let nowhere = vec![f64::INFINITY; rect.dimension()];
            return (self.empty == EmptyBox::Outside).then(|| Rect::point(&nowhere));
        }
        let doubled = std::iter::successors(Some(*rect), |rect| Some(grown(rect, 0.5)));
        let (seen, mut image) = std::iter::once(grown(rect, self.reach))
            .chain(doubled.take(MOST_DOUBLINGS))
            .find_map(|around| Some((around, self.pairs.images(&around)?)))?;
        let distance = if self.lipschitz > 0.0 { self.pairs.farthest(rect, &seen) } else { 0.0 };
        let by = |axis| self.padding * rect.width(axis) + self.lipschitz * distance;
        image.widen(&(0..rect.dimension()).map(by).collect::<Vec<f64>>());
        Some(image)
    }

    /// Refuses cells of a level in which no pair starts, where that was asked for.
    ///
    /// # Errors
    /// [`EngineError::EmptyCell`] names the first.
    pub(in crate::engine) fn check(&self, level: &Level) -> Result<(), EngineError> {
        let is_empty = |&key: &u64| self.pairs.images(&level.rect(key)).is_none();
        let empty = match self.empty {
            EmptyBox::Refuse => (0..level.cells()).into_par_iter().find_first(is_empty),
            EmptyBox::Interpolate | EmptyBox::Outside | EmptyBox::Unknown => None,
        };
        empty.map_or(Ok(()), |key| {
            let rect = level.rect(key);
            Err(EngineError::EmptyCell { lower: rect.lower().to_vec(), upper: rect.upper().to_vec() })
        })
    }

    /// The map on the cells of a grid.
    ///
    /// # Errors
    /// [`EngineError::EmptyCell`] where empty cells are refused, [`EngineError::Cancelled`].
    pub fn on(&self, grid: &UniformGrid, mode: Mode, control: &Control) -> Result<BoxMap, EngineError> {
        self.check(grid.level())?;
        BoxMap::from_rects(grid, |rect| self.enclose(rect), mode, control)
    }
}

fn grown(rect: &Rect, widths: f64) -> Rect {
    let mut grown = *rect;
    grown.widen(&(0..rect.dimension()).map(|axis| widths * rect.width(axis)).collect::<Vec<f64>>());
    grown
}

/// Pairs in a balanced tree of boxes (J. L. Bentley, *Multidimensional binary search trees*, Communications of the ACM
/// 18, 1975); each node knows the bounding box of the images below it, so that large boxes cost no more than small ones.
#[derive(Clone, Debug)]
struct PairTree {
    from: Points,
    to: Points,
    /// The children of node `i` are `2i + 1` and `2i + 2`.
    nodes: Vec<Node>,
}

/// Some pairs that follow each other.
#[derive(Clone, Debug)]
struct Node {
    first: usize,
    end: usize,
    /// Bounding box of their points.
    points: Rect,
    /// Bounding box of their images.
    images: Rect,
}

impl PairTree {
    fn new(from: &Points, to: &Points) -> Self {
        let mut order: Vec<usize> = (0..from.len()).collect();
        let mut nodes: Vec<Node> = Vec::new();
        // level by level, until all leaves are small; each level halves every node along its longest side
        let mut level = vec![(0, from.len())];
        loop {
            nodes.extend(level.iter().map(|&(first, end)| Node {
                first,
                end,
                points: hull(from, &order[first..end]),
                images: hull(to, &order[first..end]),
            }));
            if level.iter().all(|(first, end)| end - first <= LEAF) {
                break;
            }
            let parents = nodes.len() - level.len();
            level = level
                .iter()
                .zip(parents..)
                .flat_map(|(&(first, end), node)| {
                    let points = &nodes[node].points;
                    let axis = (0..points.dimension())
                        .reduce(|a, b| if points.width(b) > points.width(a) { b } else { a })
                        .unwrap_or(0);
                    let middle = usize::midpoint(first, end);
                    let along = |&a: &usize, &b: &usize| {
                        from.row(a)[axis].total_cmp(&from.row(b)[axis]).then(a.cmp(&b))
                    };
                    order[first..end].select_nth_unstable_by(middle - first, along);
                    [(first, middle), (middle, end)]
                })
                .collect();
        }
        Self { from: from.select(&order), to: to.select(&order), nodes }
    }

    /// Bounding box of the images of all pairs that start in a box.
    fn images(&self, rect: &Rect) -> Option<Rect> {
        let mut hull: Option<Rect> = None;
        let mut include = |lower: &[f64], upper: &[f64]| match &mut hull {
            Some(hull) => hull.include(lower, upper),
            None => hull = Some(Rect::new(lower, upper)),
        };
        self.visit(rect, |node, is_inside| {
            if is_inside {
                include(node.images.lower(), node.images.upper());
                return;
            }
            for pair in (node.first..node.end).filter(|&pair| rect.contains(self.from.row(pair))) {
                include(self.to.row(pair), self.to.row(pair));
            }
        });
        hull
    }

    /// Least distance within which every point of `rect` has one certain pair of those that start in `seen`.
    fn farthest(&self, rect: &Rect, seen: &Rect) -> f64 {
        let mut least = f64::INFINITY;
        self.visit(seen, |node, _| {
            for pair in (node.first..node.end).map(|pair| self.from.row(pair)) {
                if seen.contains(pair) {
                    let square = |axis: usize| {
                        (pair[axis] - rect.lower()[axis]).max(rect.upper()[axis] - pair[axis]).powi(2)
                    };
                    least = least.min((0..pair.len()).map(square).sum());
                }
            }
        });
        least.sqrt()
    }

    /// Visits nodes that together hold all pairs that start in a box: those whose points all do, and leaves.
    fn visit(&self, rect: &Rect, mut visit: impl FnMut(&Node, bool)) {
        let mut stack = vec![0];
        while let Some(number) = stack.pop() {
            let node = &self.nodes[number];
            let points = &node.points;
            let meets = |axis: usize| {
                points.lower()[axis] <= rect.upper()[axis] && rect.lower()[axis] <= points.upper()[axis]
            };
            if node.first == node.end || !(0..points.dimension()).all(meets) {
                continue;
            }
            let is_inside = rect.contains(points.lower()) && rect.contains(points.upper());
            let children = 2 * number + 1;
            if is_inside || children >= self.nodes.len() {
                visit(node, is_inside);
            } else {
                stack.extend([children + 1, children]);
            }
        }
    }
}

/// The bounding box of some points.
fn hull(points: &Points, numbers: &[usize]) -> Rect {
    let Some((&first, others)) = numbers.split_first() else {
        return Rect::point(&vec![f64::NAN; points.dimension()]);
    };
    let mut hull = Rect::point(points.row(first));
    for &number in others {
        hull.include(points.row(number), points.row(number));
    }
    hull
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::random::Random;

    fn pairs(count: usize, seed: u64, f: impl Fn(f64, f64) -> [f64; 2]) -> (Points, Points) {
        let mut random = Random::new(seed);
        // half of them close together, as training's are where it slows down
        let mut at = || if random.uniform() < 0.5 { random.uniform() } else { 0.3 + 1e-3 * random.uniform() };
        let from = Points::from_rows(2, (0..count).map(|_| [at(), at()]));
        let to = Points::from_rows(2, from.rows().map(|x| f(x[0], x[1])));
        (from, to)
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(count in 1usize..200, seed: u64, at in prop::collection::vec((0.0f64..1.0, 0.0f64..0.4), 2)) {
            let (from, to) = pairs(count, seed, |x, y| [(9.0 * x).sin() + y, x * y]);
            let rect = Rect::new(&[at[0].0, at[1].0], &[at[0].0 + at[0].1, at[1].0 + at[1].1]);
            let inside: Vec<usize> = (0..count).filter(|&pair| rect.contains(from.row(pair))).collect();
            let expected = (!inside.is_empty()).then(|| hull(&to, &inside));
            prop_assert_eq!(PairTree::new(&from, &to).images(&rect), expected);
        }

        #[test]
        fn with_its_lipschitz_constant_a_map_is_enclosed(count in 1usize..60, seed: u64, at in prop::collection::vec(0.0f64..0.9, 2)) {
            // gradients of at most 1.5
            let f = |x: f64, y: f64| [(x + y).sin(), 1.5 * (y - 0.2).abs()];
            let (from, to) = pairs(count, seed, f);
            let map = DataMap::new(&from, &to).unwrap().lipschitz(1.5);
            let rect = Rect::new(&[at[0], at[1]], &[at[0] + 0.1, at[1] + 0.1]);
            let image = map.enclose(&rect).unwrap();
            for i in 0..=4 {
                for j in 0..=4 {
                    let inside = f(at[0] + 0.025 * f64::from(i), at[1] + 0.025 * f64::from(j));
                    prop_assert!(image.lower().iter().zip(inside).all(|(low, x)| *low <= x + 1e-12));
                    prop_assert!(image.upper().iter().zip(inside).all(|(high, x)| *high >= x - 1e-12));
                }
            }
        }
    }

    #[test]
    fn empty_boxes_are_treated_as_asked() {
        let from = Points::from_rows(1, [[0.1], [0.9]]);
        let to = Points::from_rows(1, [[5.0], [7.0]]);
        let map = DataMap::new(&from, &to).unwrap().reach(0.0);
        let empty = Rect::new(&[0.4], &[0.5]);
        assert_eq!(map.enclose(&empty), Some(Rect::point(&[5.0])), "the nearer one comes first");
        assert_eq!(map.clone().empty(EmptyBox::Unknown).enclose(&empty), None);
        let grid = UniformGrid::new(Rect::new(&[0.0], &[1.0]), 2).unwrap();
        let control = Control::default();
        let refused = map.clone().empty(EmptyBox::Refuse).on(&grid, Mode::Full, &control);
        assert_eq!(refused, Err(EngineError::EmptyCell { lower: vec![0.25], upper: vec![0.5] }));
        let outside = map.empty(EmptyBox::Outside).on(&grid, Mode::Full, &control).unwrap();
        assert_eq!((outside.image(1), outside.exits(1)), (None, true));
    }

    #[test]
    fn images_are_widened_by_widths_of_the_box() {
        let one = || Points::from_rows(2, [[0.5, 0.5]]);
        let map = DataMap::new(&one(), &one()).unwrap().padding(1.0);
        let image = map.enclose(&Rect::new(&[0.25, 0.0], &[0.5, 1.0])).unwrap();
        assert_eq!(image, Rect::new(&[0.25, -0.5], &[0.75, 1.5]));
    }

    #[test]
    fn impossible_pairs_are_refused() {
        let one = |x: f64| Points::from_rows(1, [[x]]);
        assert!(DataMap::new(&Points::new(1), &Points::new(1)).is_err());
        assert!(DataMap::new(&one(1.0), &Points::new(1)).is_err());
        assert!(DataMap::new(&one(1.0), &one(f64::NAN)).is_err());
    }
}

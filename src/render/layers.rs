//! Layered drawing of a directed acyclic graph: nodes without successors on the lowest row, every other node one row
//! above its highest successor (longest path), rows ordered by barycentres, columns by least squares.
//!
//! Sugiyama, Tagawa and Toda 1981, *Methods for Visual Understanding of Hierarchical System Structures*.

/// Where nodes and edges go.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layers {
    /// Width and height.
    pub(super) size: (f64, f64),
    /// Centre of each node.
    pub(super) centres: Vec<(f64, f64)>,
    /// For each edge the points that it passes, at one height per row, from the centre of its first node to that of its
    /// second.
    pub(super) routes: Vec<Vec<(f64, f64)>>,
}

/// The row of each node, 0 the lowest.
pub(super) fn rows(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut rows = vec![0; nodes];
    // At most one pass per row; the bound keeps a graph that is not acyclic from being drawn for ever.
    for _ in 0..nodes {
        let mut settled = true;
        for &(from, to) in edges {
            if rows[from] <= rows[to] && rows[to] + 1 < nodes {
                rows[from] = rows[to] + 1;
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    rows
}

/// Draws the graph with each node in a box of `pitch`, the room between boxes included.
pub(super) fn draw(nodes: usize, edges: &[(usize, usize)], pitch: (f64, f64)) -> Layers {
    let mut row_of = rows(nodes, edges);
    // Long edges are cut into pieces from row to row by points that are placed as nodes are.
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for &(from, to) in edges {
        let mut chain = vec![from];
        for row in (row_of[to] + 1..row_of[from]).rev() {
            chain.push(row_of.len());
            row_of.push(row);
        }
        chain.push(to);
        pieces.extend(chain.windows(2).map(|pair| (pair[0], pair[1])));
        chains.push(chain);
    }
    let height = row_of.iter().max().map_or(0, |row| row + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); height];
    for (point, &row) in row_of.iter().enumerate() {
        rows[row].push(point);
    }
    let neighbours = Neighbours::new(row_of.len(), &pieces);
    order(&mut rows, &neighbours, &pieces);
    // Points of edges need less room than boxes.
    let room: Vec<f64> =
        (0..row_of.len()).map(|point| if point < nodes { pitch.0 } else { pitch.0 * 0.3 }).collect();
    let columns = columns(&rows, &neighbours, &room);
    let left = (0..row_of.len()).map(|p| columns[p] - room[p] / 2.0).fold(f64::INFINITY, f64::min);
    let right = (0..row_of.len()).map(|p| columns[p] + room[p] / 2.0).fold(f64::NEG_INFINITY, f64::max);
    let place = |point: usize| {
        let from_top = height - 1 - row_of[point];
        (columns[point] - left, (from_top as f64 + 0.5) * pitch.1)
    };
    Layers {
        size: if nodes == 0 { (0.0, 0.0) } else { (right - left, height as f64 * pitch.1) },
        centres: (0..nodes).map(place).collect(),
        routes: chains.iter().map(|chain| chain.iter().map(|&point| place(point)).collect()).collect(),
    }
}

/// Neighbours of each point in the rows above and below.
struct Neighbours {
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
}

impl Neighbours {
    fn new(points: usize, pieces: &[(usize, usize)]) -> Self {
        let mut neighbours = Self { above: vec![Vec::new(); points], below: vec![Vec::new(); points] };
        for &(from, to) in pieces {
            neighbours.below[from].push(to);
            neighbours.above[to].push(from);
        }
        neighbours
    }
}

/// Sweeps over the rows, each point to the barycentre of its neighbours; keeps the order with the fewest crossings.
fn order(rows: &mut Vec<Vec<usize>>, neighbours: &Neighbours, pieces: &[(usize, usize)]) {
    let points = neighbours.above.len();
    let mut best = (crossings(rows, points, pieces), rows.clone());
    for sweep in 0..16 {
        let upward = sweep % 2 == 0;
        let order: Vec<usize> =
            if upward { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for row in order {
            let at = positions(rows, points);
            let beside = if upward { &neighbours.below } else { &neighbours.above };
            let centre = |point: usize| match beside[point].as_slice() {
                [] => at[point],
                some => some.iter().map(|&other| at[other]).sum::<f64>() / some.len() as f64,
            };
            // Stable: points of the same barycentre keep their order.
            rows[row].sort_by(|&a, &b| centre(a).total_cmp(&centre(b)));
        }
        let now = crossings(rows, points, pieces);
        if now < best.0 {
            best = (now, rows.clone());
        }
    }
    *rows = best.1;
}

/// Place of each point within its row, relative to the row's middle.
fn positions(rows: &[Vec<usize>], points: usize) -> Vec<f64> {
    let mut at = vec![0.0; points];
    for row in rows {
        for (place, &point) in row.iter().enumerate() {
            at[point] = place as f64 - (row.len() as f64 - 1.0) / 2.0;
        }
    }
    at
}

fn crossings(rows: &[Vec<usize>], points: usize, pieces: &[(usize, usize)]) -> usize {
    let mut row_of = vec![0; points];
    for (row, members) in rows.iter().enumerate() {
        for &point in members {
            row_of[point] = row;
        }
    }
    let at = positions(rows, points);
    let crossed = |a: &(usize, usize), b: &(usize, usize)| {
        row_of[a.0] == row_of[b.0] && (at[a.0] - at[b.0]) * (at[a.1] - at[b.1]) < 0.0
    };
    pieces.iter().enumerate().map(|(k, a)| pieces[k + 1..].iter().filter(|b| crossed(a, b)).count()).sum()
}

/// Columns: each row in turn as near as it can to the mean of its neighbours' columns, its order and room kept.
fn columns(rows: &[Vec<usize>], neighbours: &Neighbours, room: &[f64]) -> Vec<f64> {
    let mut columns = vec![0.0; room.len()];
    let spread = |row: &[usize], wanted: &dyn Fn(usize) -> f64, columns: &mut [f64]| {
        let mut offset = 0.0;
        let mut previous: Option<usize> = None;
        let offsets: Vec<f64> = row
            .iter()
            .map(|&point| {
                offset += previous.map_or(0.0, |before| f64::midpoint(room[before], room[point]));
                previous = Some(point);
                offset
            })
            .collect();
        let wishes: Vec<f64> =
            row.iter().zip(&offsets).map(|(&point, offset)| wanted(point) - offset).collect();
        for ((&point, offset), wish) in row.iter().zip(&offsets).zip(isotonic(&wishes)) {
            columns[point] = wish + offset;
        }
    };
    for row in rows {
        spread(row, &|_| 0.0, &mut columns);
        let middle =
            row.first().zip(row.last()).map_or(0.0, |(a, b)| f64::midpoint(columns[*a], columns[*b]));
        for &point in row {
            columns[point] -= middle;
        }
    }
    for sweep in 0..12 {
        let order: Vec<usize> =
            if sweep % 2 == 0 { (0..rows.len()).collect() } else { (0..rows.len()).rev().collect() };
        for row in order {
            let before = columns.clone();
            let mean = |point: usize| {
                let beside = neighbours.above[point].iter().chain(&neighbours.below[point]);
                let (sum, count) =
                    beside.fold((0.0, 0.0), |(sum, count), &other| (sum + before[other], count + 1.0));
                if count > 0.0 { sum / count } else { before[point] }
            };
            spread(&rows[row], &mean, &mut columns);
        }
    }
    columns
}

/// The non-decreasing sequence nearest to the wishes in the sense of least squares (pool adjacent violators).
pub(super) fn isotonic(wishes: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for &wish in wishes {
        let mut pool = (wish, 1);
        while let Some(&(value, count)) = pools.last() {
            if value <= pool.0 {
                break;
            }
            let all = count + pool.1;
            pool = ((value * count as f64 + pool.0 * pool.1 as f64) / all as f64, all);
            pools.pop();
        }
        pools.push(pool);
    }
    pools.into_iter().flat_map(|(value, count)| std::iter::repeat_n(value, count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_successor_is_lowest_and_edges_go_down() {
        let edges = [(0, 1), (1, 2), (0, 3), (4, 3), (4, 2)];
        assert_eq!(rows(6, &edges), [2, 1, 0, 0, 1, 0]);
        let layers = draw(6, &edges, (10.0, 20.0));
        for (&(from, to), route) in edges.iter().zip(&layers.routes) {
            assert_eq!(
                (route[0], *route.last().expect("an end")),
                (layers.centres[from], layers.centres[to])
            );
            assert!(route.windows(2).all(|pair| pair[0].1 < pair[1].1));
        }
    }

    #[test]
    fn boxes_do_not_overlap_and_stay_inside() {
        let edges: Vec<(usize, usize)> =
            (0..20).flat_map(|from| [(from, from * 7 % 9 + 21), (from, 20)]).collect();
        let layers = draw(30, &edges, (10.0, 20.0));
        for (at, a) in layers.centres.iter().enumerate() {
            assert!(a.0 >= 4.9 && a.0 <= layers.size.0 - 4.9 && a.1 > 0.0 && a.1 < layers.size.1);
            for b in &layers.centres[at + 1..] {
                assert!(a.1 != b.1 || (a.0 - b.0).abs() > 9.99, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn crossings_that_need_not_be_are_removed() {
        let layers = draw(4, &[(0, 3), (1, 2)], (10.0, 20.0));
        assert_eq!(layers.centres[0].0 < layers.centres[1].0, layers.centres[3].0 < layers.centres[2].0);
    }

    #[test]
    fn a_cycle_is_drawn_somehow() {
        assert_eq!(draw(2, &[(0, 1), (1, 0)], (1.0, 1.0)).centres.len(), 2);
        assert_eq!(draw(0, &[], (1.0, 1.0)).size, (0.0, 0.0));
    }

    #[test]
    fn isotonic_regression_pools_violators() {
        assert_eq!(isotonic(&[1.0, 3.0, 2.0, 5.0]), [1.0, 2.5, 2.5, 5.0]);
    }
}

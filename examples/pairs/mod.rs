//! Reads pairs from a file of lines `x y … f(x) f(y) …`.

use std::error::Error;
use std::ops::Range;

use doodl3::engine::Points;
use doodl3::engine::grid::Rect;

/// Points and their images, as many numbers each.
pub(crate) fn read(path: &str) -> Result<(Points, Points), Box<dyn Error>> {
    let rows: Vec<Vec<f64>> = std::fs::read_to_string(path)?
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split_whitespace().map(str::parse).collect::<Result<_, _>>())
        .collect::<Result<_, _>>()?;
    let width = rows.first().map_or(0, Vec::len);
    if width == 0 || width % 2 == 1 || rows.iter().any(|row| row.len() != width) {
        return Err("each line must hold a point and its image".into());
    }
    let half = |range: Range<usize>| {
        Points::from_rows(width / 2, rows.iter().map(|row| row[range.clone()].to_vec()))
    };
    Ok((half(0..width / 2), half(width / 2..width)))
}

/// The bounding box of all points.
pub(crate) fn bounding_box(from: &Points, to: &Points) -> Rect {
    let mut hull = Rect::point(from.row(0));
    from.rows().chain(to.rows()).for_each(|point| hull.include(point, point));
    hull
}

//! Lines of thousands of points drawn with hundreds, so that nobody sees the difference.

/// A line through some of the points that is nowhere farther than `tolerance` from the one through all; the first and
/// the last point stay. Ramer 1972, Douglas and Peucker 1973; without recursion.
pub(super) fn simplified(points: &[(f64, f64)], tolerance: f64) -> Vec<(f64, f64)> {
    if points.len() < 3 {
        return points.to_vec();
    }
    let mut kept = vec![false; points.len()];
    kept[0] = true;
    kept[points.len() - 1] = true;
    let mut spans = vec![(0, points.len() - 1)];
    while let Some((from, to)) = spans.pop() {
        let farthest = (from + 1..to)
            .map(|at| (distance(points[at], points[from], points[to]), at))
            .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        if let Some((_, at)) = farthest.filter(|(distance, _)| *distance > tolerance) {
            kept[at] = true;
            spans.push((from, at));
            spans.push((at, to));
        }
    }
    points.iter().zip(kept).filter_map(|(point, kept)| kept.then_some(*point)).collect()
}

/// Distance of a point from a segment.
fn distance(point: (f64, f64), from: (f64, f64), to: (f64, f64)) -> f64 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let squared = dx * dx + dy * dy;
    let along = if squared > 0.0 {
        (((point.0 - from.0) * dx + (point.1 - from.1) * dy) / squared).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (point.0 - from.0 - along * dx).hypot(point.1 - from.1 - along * dy)
}

/// At most four points for each column of `width` pixels: the first, the lowest, the highest and the last, in their
/// order. So no spike is lost, however wide the columns. The points must not go back in x.
pub(super) fn by_columns(points: &[(f64, f64)], width: f64) -> Vec<(f64, f64)> {
    let mut thin = Vec::new();
    let column = |point: &(f64, f64)| (point.0 / width).floor();
    for span in points.chunk_by(|a, b| column(a) == column(b)) {
        let extreme = |better: fn(f64, f64) -> bool| {
            (1..span.len()).fold(0, |best, at| if better(span[at].1, span[best].1) { at } else { best })
        };
        let mut kept = [0, extreme(|a, b| a < b), extreme(|a, b| a > b), span.len() - 1];
        kept.sort_unstable();
        let mut previous = None;
        for at in kept {
            if previous != Some(at) {
                thin.push(span[at]);
            }
            previous = Some(at);
        }
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_point_is_farther_from_the_thin_line_than_the_tolerance() {
        let wave: Vec<(f64, f64)> =
            (0..1000).map(|k| f64::from(k) * 0.1).map(|x| (x, 20.0 * (x * 0.3).sin())).collect();
        let thin = simplified(&wave, 0.4);
        assert!(thin.len() < 60, "{} points", thin.len());
        assert_eq!((thin[0], thin[thin.len() - 1]), (wave[0], wave[999]));
        for point in &wave {
            let nearest =
                thin.windows(2).map(|pair| distance(*point, pair[0], pair[1])).fold(f64::INFINITY, f64::min);
            assert!(nearest <= 0.4);
        }
        assert_eq!(simplified(&[(1.0, 1.0); 5], 0.4), [(1.0, 1.0); 2]);
    }

    #[test]
    fn spikes_survive_any_width() {
        let mut noise: Vec<(f64, f64)> = (0..5000).map(|k| (f64::from(k) * 0.1, f64::from(k % 7))).collect();
        noise[1234].1 = 99.0;
        noise[4321].1 = -99.0;
        let thin = by_columns(&noise, 50.0);
        assert!(thin.len() <= 44);
        assert!(thin.contains(&noise[1234]) && thin.contains(&noise[4321]));
        assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}

//! Labels beside the points that they name, none upon another.

use super::svg::{Svg, fit, text_width};

/// A rectangle: left, top, right, bottom.
pub(super) type Area = (f64, f64, f64, f64);

/// Places labels within an area.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    area: Area,
    taken: Vec<Area>,
}

/// Size of the text, in pixels.
const SIZE: f64 = 12.0;

impl Labels {
    pub(super) fn within(area: Area) -> Self {
        Self { area, taken: Vec::new() }
    }

    /// Keeps labels off a disc.
    pub(super) fn avoid(&mut self, (x, y): (f64, f64), radius: f64) {
        self.taken.push((x - radius, y - radius, x + radius, y + radius));
    }

    /// Writes a label beside a point if there is room, or, if it `must` be there, even without. Returns whether it was
    /// written.
    pub(super) fn write(
        &mut self,
        svg: &mut Svg,
        class: &str,
        text: &str,
        (x, y): (f64, f64),
        must: bool,
    ) -> bool {
        let text = fit(text, SIZE, (self.area.2 - self.area.0) * 0.5);
        let width = text_width(&text, SIZE) * 1.06;
        let spot = |dx: f64, dy: f64| {
            let left = if dx < 0.0 {
                x + dx - width
            } else if dx > 0.0 {
                x + dx
            } else {
                x - width / 2.0
            };
            let middle = y + dy;
            (left, middle - SIZE * 0.6, left + width, middle + SIZE * 0.6)
        };
        let spots: Vec<Area> = [9.0, 16.0, 26.0]
            .into_iter()
            .flat_map(|far| {
                let slant = far * 0.8;
                [
                    (far, 0.0),
                    (-far, 0.0),
                    (0.0, -far - 3.0),
                    (0.0, far + 3.0),
                    (slant, -slant),
                    (slant, slant),
                    (-slant, -slant),
                    (-slant, slant),
                ]
            })
            .map(|(dx, dy)| spot(dx, dy))
            .collect();
        let inside =
            |s: &Area| s.0 >= self.area.0 && s.1 >= self.area.1 && s.2 <= self.area.2 && s.3 <= self.area.3;
        let free = |s: &Area| self.taken.iter().all(|t| s.2 < t.0 || t.2 < s.0 || s.3 < t.1 || t.3 < s.1);
        let place = spots.iter().find(|s| inside(s) && free(s));
        let place = place.or_else(|| spots.iter().find(|s| inside(s)).filter(|_| must)).copied();
        let Some(place) = place else { return false };
        self.taken.push(place);
        let baseline = f64::midpoint(place.1, place.3) + SIZE * 0.36;
        svg.text("text", &[("class", &format!("label {class}")), ("x", &place.0), ("y", &baseline)], &text);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_meet_and_stay_inside() {
        let mut labels = Labels::within((0.0, 0.0, 200.0, 60.0));
        let mut svg = Svg::new();
        let written =
            (0..20).filter(|k| labels.write(&mut svg, "", &format!("run {k}"), (100.0, 30.0), false)).count();
        assert!((4..20).contains(&written), "{written}");
        for (at, a) in labels.taken.iter().enumerate() {
            assert!(a.0 >= 0.0 && a.2 <= 200.0 && a.1 >= 0.0 && a.3 <= 60.0);
            for b in &labels.taken[at + 1..] {
                assert!(a.2 < b.0 || b.2 < a.0 || a.3 < b.1 || b.3 < a.1);
            }
        }
        assert!(labels.write(&mut svg, "", "must", (100.0, 30.0), true));
    }
}

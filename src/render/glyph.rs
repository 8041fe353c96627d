//! Marks that stand for the role of a Morse set, the same in every picture, and the legend that explains them.

use super::palette::{Colour, NO_SET};
use super::reading::role_word;
use super::svg::{Path, Svg, text_width};
use crate::engine::Role;

/// A role in a few words.
fn meaning(role: Role) -> &'static str {
    match role {
        Role::Attractor => "what enters, stays",
        Role::Open => "may or may not hold",
        Role::Intermediate => "passed through",
        Role::Repeller => "left for good",
    }
}

/// Draws the mark of a role: disc in a ring, dashed ring, diamond, triangle.
pub(super) fn mark(svg: &mut Svg, role: Role, colour: Colour, (x, y): (f64, f64), radius: f64) {
    let filled = format!("mark f{colour}");
    let drawn = format!("ring s{colour}");
    let polygon = |svg: &mut Svg, points: &[(f64, f64)]| {
        let mut path = Path::new();
        path.polygon(&points.iter().map(|(a, b)| (x + a * radius, y + b * radius)).collect::<Vec<_>>());
        svg.leaf("path", &[("class", &filled), ("d", &path)]);
    };
    match role {
        Role::Attractor => {
            svg.leaf("circle", &[("class", &drawn), ("cx", &x), ("cy", &y), ("r", &radius)]);
            svg.leaf("circle", &[("class", &filled), ("cx", &x), ("cy", &y), ("r", &(radius * 0.55))]);
        }
        Role::Open => {
            let class = drawn + " dashed";
            svg.leaf("circle", &[("class", &class), ("cx", &x), ("cy", &y), ("r", &radius)]);
        }
        Role::Intermediate => polygon(svg, &[(0.0, -1.05), (1.05, 0.0), (0.0, 1.05), (-1.05, 0.0)]),
        Role::Repeller => polygon(svg, &[(0.0, -1.0), (1.05, 0.85), (-1.05, 0.85)]),
    }
}

/// Writes a legend of roles from `corner` (left end of the first baseline) in lines of at most `width`; returns the last
/// baseline.
pub(super) fn legend(svg: &mut Svg, roles: &[Role], corner: (f64, f64), width: f64) -> f64 {
    let mut flow = Flow::new(corner, width);
    for &role in roles {
        let text = format!("{}: {}", role_word(role), meaning(role));
        let (x, y) = flow.place(24.0 + text_width(&text, 12.0));
        mark(svg, role, NO_SET, (x + 7.0, y - 4.5), 5.5);
        svg.text("text", &[("class", &"small"), ("x", &(x + 19.0)), ("y", &y)], &text);
    }
    flow.baseline()
}

/// Places the items of a legend one after the other, in lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    left: f64,
    right: f64,
    at: (f64, f64),
}

impl Flow {
    /// Height of a line.
    const LINE: f64 = 19.0;

    pub(super) fn new(corner: (f64, f64), width: f64) -> Self {
        Self { left: corner.0, right: width - 4.0, at: corner }
    }

    /// Where an item of this width starts.
    pub(super) fn place(&mut self, width: f64) -> (f64, f64) {
        if self.at.0 + width > self.right && self.at.0 > self.left {
            self.at = (self.left, self.at.1 + Self::LINE);
        }
        let place = self.at;
        self.at.0 += width + 14.0;
        place
    }

    pub(super) fn baseline(&self) -> f64 {
        self.at.1
    }
}

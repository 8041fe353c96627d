//! Newton's method for z³ = 1 in the complex plane, z ↦ (2 z + 1/z²)/3, enclosed by interval arithmetic: what is found
//! holds for the map itself, up to rounding in the last digit. The three roots attract; between their basins lies the
//! Julia set, whose every neighbourhood meets all three. `cargo run --release --example newton [SUBDIVISIONS]`

#![expect(clippy::print_stdout, reason = "its purpose")]

mod show;

use std::error::Error;
use std::ops::{Add, Mul};

use doodl3::engine::dynamics::{BoxMap, MorseDecomposition, OrderRetraction};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::{Control, Mode};

/// All numbers between two.
#[derive(Clone, Copy)]
struct Interval(f64, f64);

impl Add for Interval {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0, self.1 + other.1)
    }
}

impl Mul for Interval {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let products = [self.0 * other.0, self.0 * other.1, self.1 * other.0, self.1 * other.1];
        Self(
            products.into_iter().fold(f64::INFINITY, f64::min),
            products.into_iter().fold(-f64::INFINITY, f64::max),
        )
    }
}

impl Interval {
    fn square(self) -> Self {
        let Self(low, high) = self * self;
        Self(if self.0 <= 0.0 && 0.0 <= self.1 { 0.0 } else { low }, high)
    }
}

/// A box around the images of all points of a cell; none where the cell meets the pole.
fn newton(cell: &Rect) -> Option<Rect> {
    let number = |x: f64| Interval(x, x);
    let [x, y] = [0, 1].map(|axis| Interval(cell.lower()[axis], cell.upper()[axis]));
    // 1/z² = (x² − y² − 2 x y i)/(x² + y²)²
    let length = x.square() + y.square();
    if length.0 <= 0.0 {
        return None;
    }
    let shrink = Interval(1.0 / length.1, 1.0 / length.0).square();
    let real = number(2.0) * x + (x.square() + number(-1.0) * y.square()) * shrink;
    let imaginary = number(2.0) * y + number(-2.0) * x * y * shrink;
    Some(Rect::new(&[real.0 / 3.0, imaginary.0 / 3.0], &[real.1 / 3.0, imaginary.1 / 3.0]))
}

fn main() -> Result<(), Box<dyn Error>> {
    let subdivisions = std::env::args().nth(1).map_or(Ok(16), |text| text.parse())?;
    let grid = UniformGrid::new(Rect::new(&[-1.7, -1.7], &[1.8, 1.8]), subdivisions)?;
    let control = Control::default();
    let map = BoxMap::from_rects(&grid, newton, Mode::Full, &control)?;
    let morse = MorseDecomposition::of(&map, &control)?;
    let retraction = OrderRetraction::of(&map, &morse, &control)?;
    show::dynamics(&grid, &map, &morse, &retraction)?;
    show::tiles(&grid, &retraction);
    println!("\nblank: from there the pole or the outside may be reached");
    Ok(())
}

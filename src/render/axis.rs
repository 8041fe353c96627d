//! Axes: from values to pixels, and the round values at which they are labelled.

use super::words::{figure, thousands};

/// An axis of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    pixels: (f64, f64),
    logarithmic: bool,
}

impl Axis {
    /// From the values `from..to` to `pixels`; an empty range is widened around its value.
    pub(super) fn linear(from: f64, to: f64, pixels: (f64, f64)) -> Self {
        let (from, to) = if to > from {
            (from, to)
        } else {
            let room = if from == 0.0 { 1.0 } else { from.abs() * 0.1 };
            (from - room, from + room)
        };
        Self { from, to, pixels, logarithmic: false }
    }

    /// Logarithmic where all values are positive and span more than a decade and a half, else linear, with a little
    /// room at both ends. Values that are not finite are left out.
    pub(super) fn of_values(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        if low > 0.0 && high / low > 30.0 {
            let room = (high / low).ln() * 0.04;
            return Some(Self {
                from: low * (-room).exp(),
                to: high * room.exp(),
                pixels,
                logarithmic: true,
            });
        }
        let plain = Self::linear(low, high, pixels);
        let room = (plain.to - plain.from) * 0.05;
        // No room below zero for what cannot be negative.
        let from = if low >= 0.0 && low - room < 0.0 { 0.0 } else { plain.from - room };
        Some(Self { from, to: plain.to + room, ..plain })
    }

    /// Where a value lies, in pixels; beyond the ends for values beyond the range, but never far or infinite.
    pub(super) fn position(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        let share = if share.is_nan() { 0.0 } else { share.clamp(-9.0, 10.0) };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Whether the scale is logarithmic.
    pub(super) fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// About `count` round values within the range, each with its label.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.logarithmic { self.decades(count) } else { self.round_values(count, 0.0) }
    }

    /// As [`Axis::ticks`] for steps: whole numbers only.
    pub(super) fn step_ticks(&self, count: usize) -> Vec<(f64, String)> {
        self.round_values(count, 1.0).into_iter().map(|(step, _)| (step, thousands(step as u64))).collect()
    }

    fn round_values(&self, count: usize, least_spacing: f64) -> Vec<(f64, String)> {
        let rough = (self.to - self.from) / count.max(1) as f64;
        let unit = 10f64.powf(rough.log10().floor());
        let spacing = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|multiple| multiple * unit)
            .find(|spacing| *spacing >= rough * 0.999)
            .unwrap_or(10.0 * unit)
            .max(least_spacing);
        let first = (self.from / spacing).ceil() as i64;
        let last = (self.to / spacing).floor() as i64;
        let decimals = (-spacing.log10().floor()).clamp(0.0, 12.0) as usize;
        let plain = self.from.abs().max(self.to.abs()) < 1e5 && decimals <= 4;
        let label = |value: f64| match plain {
            true if value == 0.0 => "0".to_owned(),
            true => format!("{value:.decimals$}").replace('-', "\u{2212}"),
            false => figure(value),
        };
        (first..=last.min(first.saturating_add(50)))
            .map(|k| k as f64 * spacing)
            .map(|v| (v, label(v)))
            .collect()
    }

    fn decades(&self, count: usize) -> Vec<(f64, String)> {
        let (first, last) = (self.from.log10().ceil() as i32, self.to.log10().floor() as i32);
        let all = (last - first + 1).max(1) as usize;
        let stride = all.div_ceil(count.max(1)).max(1);
        let multiples: &[f64] = if all < 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        (first - 1..=last)
            .filter(|exponent| exponent.rem_euclid(stride as i32) == 0)
            .flat_map(|exponent| multiples.iter().map(move |multiple| multiple * 10f64.powi(exponent)))
            .filter(|value| (self.from..=self.to).contains(value))
            .map(|value| (value, figure(value)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: Vec<(f64, String)>) -> Vec<String> {
        ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        let axis = Axis::linear(-0.83, 1.21, (0.0, 100.0));
        assert_eq!(labels(axis.ticks(5)), ["−0.5", "0", "0.5", "1.0"]);
        assert_eq!(labels(Axis::linear(0.0, 12_500.0, (0.0, 1.0)).step_ticks(3)), ["0", "5,000", "10,000"]);
        assert_eq!(labels(Axis::linear(3.0, 5.0, (0.0, 1.0)).step_ticks(9)), ["3", "4", "5"]);
    }

    #[test]
    fn an_axis_is_logarithmic_only_over_decades_of_positive_values() {
        let of = |values: &[f64]| Axis::of_values(values.iter().copied(), (100.0, 0.0)).expect("an axis");
        assert!(of(&[1e-4, 2.0]).is_logarithmic());
        assert!(!of(&[1.0, 2.0]).is_logarithmic());
        assert!(!of(&[0.0, 1e6]).is_logarithmic());
        assert_eq!(labels(of(&[1e-4, 2.0]).ticks(5)), ["1e-4", "0.001", "0.01", "0.1", "1"]);
        assert!(Axis::of_values([f64::NAN, f64::INFINITY].into_iter(), (0.0, 1.0)).is_none());
    }

    #[test]
    fn positions_are_finite_whatever_the_value() {
        let constant = Axis::of_values([2.0, 2.0].into_iter(), (100.0, 0.0)).expect("an axis");
        assert!((constant.position(2.0) - 50.0).abs() < 1e-9);
        let log = Axis::of_values([1e-4, 2.0].into_iter(), (100.0, 0.0)).expect("an axis");
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(log.position(value).is_finite() && constant.position(value).is_finite());
        }
    }
}

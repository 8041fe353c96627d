//! The few statistics that the engine needs.

/// Mean, zero for no values.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Standard deviation (of the values themselves, not an estimate for others).
pub(super) fn standard_deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let centre = mean(values.clone());
    mean(values.map(|value| (value - centre).powi(2))).sqrt()
}

/// The smallest value that at least a share of all values do not exceed; NaN for no values.
pub(super) fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

/// The lower median.
pub(super) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// Spearman's rank correlation; ties share their mean rank. Zero if one of the two is constant.
pub(super) fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let centre = (a.len() as f64 - 1.0) / 2.0;
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - centre) * (y - centre)).sum::<f64>();
    let scale = (dot(&a, &a) * dot(&b, &b)).sqrt();
    if scale > 0.0 { dot(&a, &b) / scale } else { 0.0 }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&i, &j| values[i].total_cmp(&values[j]).then(i.cmp(&j)));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let rank = first as f64 + (tied.len() - 1) as f64 / 2.0;
        for &i in tied {
            ranks[i] = rank;
        }
        first += tied.len();
    }
    ranks
}

/// Density of the standard normal distribution.
fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Probability that a standard normal variable exceeds `x ≥ 0`.
///
/// Below 3 by the series Φ(x) = ½ + φ(x) Σ x²ᵏ⁺¹ / (1·3·…·(2k+1)), beyond by Laplace's continued fraction.
pub(super) fn normal_upper_tail(x: f64) -> f64 {
    if x < 3.0 {
        let (mut sum, mut term) = (x, x);
        for k in 1..60 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        return 0.5 - normal_density(x) * sum;
    }
    let fraction = (1..=80).rev().fold(x, |below, k| x + f64::from(k) / below);
    normal_density(x) / fraction
}

/// The value that a standard normal variable exceeds with this probability, at most ½.
pub(super) fn normal_upper_quantile(probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, 38.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if normal_upper_tail(middle) > probability { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_normal_distribution() {
        for (probability, expected) in
            [(0.5, 0.0), (0.05, 1.644_853_626_951), (1e-3, 3.090_232_306_168), (1e-9, 5.997_807_014_812)]
        {
            assert!((normal_upper_quantile(probability) - expected).abs() < 1e-9, "{probability}");
        }
        assert!((normal_upper_tail(3.0 - 1e-12) - normal_upper_tail(3.0)).abs() < 1e-13, "both forms agree");
    }

    #[test]
    fn ranks_and_quantiles() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 9.0]), [1.5, 0.0, 1.5, 3.0]);
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[1.0, 8.0, 27.0]), 1.0);
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[7.0, 7.0, 7.0]), 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0, 9.0]), 2.0);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0, 9.0], 1.0), 9.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}

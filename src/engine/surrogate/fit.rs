//! Maximisation within bounds.

/// A smooth function of few variables: its value and gradient, or `None` where it cannot be evaluated.
pub(super) type Evaluate<'a> = dyn Fn(&[f64]) -> Option<(f64, Vec<f64>)> + 'a;

/// When to stop climbing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stop {
    /// At this many steps.
    pub(super) steps: usize,
    /// When no free component of the gradient is larger.
    pub(super) gradient: f64,
}

/// Climbs from `start` to a local maximum within `bounds`; returns where, and the value there.
///
/// Projected quasi-Newton steps: the BFGS approximation of the inverse Hessian, restricted to the variables that are
/// not held at a bound, gives the direction; the path is folded back into the bounds and halved until the value rises
/// enough (Bertsekas, *Projected Newton methods for optimization problems with simple constraints*, SIAM J. Control
/// Optim. 20, 1982). Returns `None` where the function cannot be evaluated at the start.
pub(super) fn maximise(
    evaluate: &Evaluate<'_>,
    start: &[f64],
    bounds: &[(f64, f64)],
    stop: Stop,
) -> Option<(Vec<f64>, f64)> {
    let n = start.len();
    let fold = |x: &mut [f64]| x.iter_mut().zip(bounds).for_each(|(x, &(low, high))| *x = x.clamp(low, high));
    let mut x = start.to_vec();
    fold(&mut x);
    let (mut value, mut gradient) = evaluate(&x)?;
    let mut inverse_hessian = identity(n);
    for _ in 0..stop.steps {
        let is_free = |i: usize| {
            let (low, high) = bounds[i];
            !(x[i] <= low && gradient[i] < 0.0 || x[i] >= high && gradient[i] > 0.0)
        };
        let free: Vec<usize> = (0..n).filter(|&i| is_free(i)).collect();
        if free.iter().all(|&i| gradient[i].abs() <= stop.gradient) {
            break;
        }
        let mut direction = vec![0.0; n];
        for &i in &free {
            direction[i] = free.iter().map(|&j| inverse_hessian[i * n + j] * gradient[j]).sum();
        }
        if dot(&direction, &gradient) <= 0.0 {
            inverse_hessian = identity(n);
            for i in 0..n {
                direction[i] = if is_free(i) { gradient[i] } else { 0.0 };
            }
        }
        // variables are logarithms: no step of more than a factor e², however steep the slope
        let longest = direction.iter().fold(0.0f64, |longest, d| longest.max(d.abs()));
        let mut length = (2.0 / longest).min(1.0);
        let mut next = None;
        for _ in 0..30 {
            let mut candidate: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            fold(&mut candidate);
            let step: Vec<f64> = candidate.iter().zip(&x).map(|(new, old)| new - old).collect();
            if let Some((new_value, new_gradient)) = evaluate(&candidate)
                && new_value >= value + 1e-4 * dot(&step, &gradient)
            {
                next = Some((candidate, step, new_value, new_gradient));
                break;
            }
            length *= 0.5;
        }
        let Some((candidate, step, new_value, new_gradient)) = next else { break };
        let bend: Vec<f64> = gradient.iter().zip(&new_gradient).map(|(old, new)| old - new).collect();
        update_inverse_hessian(&mut inverse_hessian, &step, &bend);
        let gain = new_value - value;
        (x, value, gradient) = (candidate, new_value, new_gradient);
        if gain <= 1e-10 * value.abs().max(1.0) {
            break;
        }
    }
    Some((x, value))
}

/// H ← (1 − ρ s yᵀ) H (1 − ρ y sᵀ) + ρ s sᵀ with ρ = 1/sᵀy, where the function bends down along the step.
fn update_inverse_hessian(h: &mut [f64], s: &[f64], y: &[f64]) {
    let n = s.len();
    let curvature = dot(s, y);
    if curvature <= 1e-12 * dot(s, s).sqrt() * dot(y, y).sqrt() {
        return;
    }
    let hy: Vec<f64> = (0..n).map(|i| dot(&h[i * n..(i + 1) * n], y)).collect();
    let scale = (1.0 + dot(y, &hy) / curvature) / curvature;
    for i in 0..n {
        for j in 0..n {
            h[i * n + j] += scale * s[i] * s[j] - (hy[i] * s[j] + s[i] * hy[j]) / curvature;
        }
    }
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|at| if at % (n + 1) == 0 { 1.0 } else { 0.0 }).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOP: Stop = Stop { steps: 200, gradient: 1e-8 };

    #[expect(clippy::unnecessary_wraps, reason = "it is a function to be evaluated")]
    /// Minus Rosenbrock's valley, highest at (1, 1).
    fn valley(x: &[f64]) -> Option<(f64, Vec<f64>)> {
        let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
        Some((-(a * a + 100.0 * b * b), vec![2.0 * a + 400.0 * x[0] * b, -200.0 * b]))
    }

    #[test]
    fn finds_the_top_of_a_curved_ridge() {
        let (x, value) = maximise(&valley, &[-1.2, 1.0], &[(-5.0, 5.0); 2], STOP).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-6 && (x[1] - 1.0).abs() < 1e-6, "{x:?}");
        assert!(value > -1e-10);
    }

    #[test]
    fn stays_within_bounds_and_finds_the_best_point_on_them() {
        let (x, _) = maximise(&valley, &[-1.2, 1.0], &[(-5.0, 0.5), (-5.0, 5.0)], STOP).unwrap();
        assert_eq!(x[0], 0.5);
        assert!((x[1] - 0.25).abs() < 1e-6);
    }

    #[test]
    fn backs_off_where_the_function_is_not_defined() {
        let logarithm = |x: &[f64]| (x[0] > 0.0).then(|| (x[0].ln() - x[0], vec![1.0 / x[0] - 1.0]));
        let (x, _) = maximise(&logarithm, &[0.01], &[(-3.0, 3.0)], STOP).unwrap();
        assert!((x[0] - 1.0).abs() < 1e-6);
        assert_eq!(maximise(&logarithm, &[-1.0], &[(-3.0, 3.0)], STOP), None);
    }
}

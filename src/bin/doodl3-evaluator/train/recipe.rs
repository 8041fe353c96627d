//! How each run of the demonstration is trained: the healthy ones, and three in which something goes wrong.

/// Examples in a step.
pub(super) const BATCH: usize = 5;

/// Adam's default learning rate.
const RATE: f64 = 1e-3;

/// How a run's weights are updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Optimizer {
    /// Adam with its default decay rates.
    Adam,
    /// Stochastic gradient descent on the loss plus half the squared weights times this.
    Sgd { weight_decay: f64 },
}

/// How a run's learning rate changes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Schedule {
    Constant,
    /// Multiplied for a while: a schedule file with a wrong line.
    Spike {
        from: f64,
        steps: u64,
        factor: f64,
    },
    /// Multiplied again and again: a decay with the wrong sign.
    Growth {
        from: f64,
        times: u64,
        factor: f64,
    },
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipe {
    /// Name of the run's folder.
    pub(super) name: String,
    /// How its weights are updated.
    pub(super) optimizer: Optimizer,
    rate: f64,
    schedule: Schedule,
}

impl Recipe {
    /// Learning rate in the step number `step` (from 0) of `steps`.
    pub(super) fn rate(&self, step: u64, steps: u64) -> f64 {
        let at = |share: f64| (share * steps as f64).round() as u64;
        let factor = match self.schedule {
            Schedule::Spike { from, steps: duration, factor }
                if (at(from)..at(from) + duration).contains(&step) =>
            {
                factor
            }
            Schedule::Growth { from, times, factor } if step >= at(from) => {
                let stage = (step - at(from)) * times / (steps - at(from)) + 1;
                factor.powf(stage as f64)
            }
            _ => 1.,
        };
        self.rate * factor
    }
}

/// The runs of the demonstration: `healthy` that differ in their seeds alone, then three faulty ones.
///
/// The faulty runs train on the same data. In time they are placed by shares of the training, so that they come at
/// epochs 220 and 150 of the usual 450.
pub(super) fn recipes(healthy: usize) -> Vec<Recipe> {
    let run = |name: &str, optimizer, rate, schedule| Recipe { name: name.into(), optimizer, rate, schedule };
    let mut recipes: Vec<_> = (0..healthy)
        .map(|number| run(&format!("seed-{number:03}"), Optimizer::Adam, RATE, Schedule::Constant))
        .collect();
    // Far from the data's scale the loss no longer pulls, and weight decay multiplies the weights by 1 - 20.6 × 0.1
    // in every step: they swing from side to side and grow by 6 %, beyond what f32 can hold after about 1,500 steps.
    recipes.push(run("sgd-rate-20.6", Optimizer::Sgd { weight_decay: 0.1 }, 20.6, Schedule::Constant));
    recipes.push(run(
        "rate-spike",
        Optimizer::Sgd { weight_decay: 0. },
        0.05,
        Schedule::Spike { from: 220. / 450., steps: 20, factor: 1000. },
    ));
    recipes.push(run(
        "rate-growing",
        Optimizer::Adam,
        RATE,
        Schedule::Growth { from: 1. / 3., times: 30, factor: 1.3 },
    ));
    recipes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_change_where_they_should() {
        let steps = 450 * 15;
        let recipes = recipes(2);
        let rates = |name: &str, step| {
            let recipe = recipes.iter().find(|recipe| recipe.name == name).unwrap();
            recipe.rate(step, steps)
        };
        assert_eq!(recipes.len(), 5);
        assert_eq!(rates("seed-001", 6749), 1e-3);
        assert_eq!(rates("rate-spike", 220 * 15 - 1), 0.05);
        assert_eq!(rates("rate-spike", 220 * 15), 50.);
        assert_eq!(rates("rate-spike", 220 * 15 + 20), 0.05);
        for (step, stages) in [(150 * 15 - 1, 0), (150 * 15, 1), (160 * 15 - 1, 1), (160 * 15, 2), (6749, 30)]
        {
            let ratio = rates("rate-growing", step) / (1e-3 * 1.3_f64.powi(stages));
            assert!((ratio - 1.).abs() < 1e-12, "step {step}");
        }
    }
}

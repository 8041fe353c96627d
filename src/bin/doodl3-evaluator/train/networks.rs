//! Many softmax regressions trained at once: their weights are stacked, and one operation of libtorch updates them all.

use tch::{Kind, Reduction, Tensor};

use super::iris::{CLASSES, Examples, FEATURES};
use super::random::Random;
use super::recipe::{Optimizer, Recipe};

/// Weights and bias of one class: the bias is the weight of an input that is always 1.
const ROW: usize = FEATURES + 1;

/// Stacked networks with the state of their optimisers. Each run behaves as if it were trained alone.
pub(super) struct Networks {
    /// Shape (runs, classes, features + 1), the bias last.
    parameters: Tensor,
    first_moments: Tensor,
    second_moments: Tensor,
    /// Shape (runs, 1, 1): true where Adam updates.
    by_adam: Tensor,
    /// Shape (runs, 1, 1).
    weight_decay: Tensor,
    steps_done: i32,
}

/// Examples with a 1 appended to each input, on which networks are trained or evaluated.
pub(super) struct Batch {
    /// Shape (runs or 1, examples, features + 1).
    inputs: Tensor,
    /// Shape (runs or 1, examples).
    targets: Tensor,
}

impl Batch {
    /// All examples, the same for every run.
    pub(super) fn all(examples: &Examples) -> Self {
        let ones = Tensor::ones([examples.len() as i64, 1], (Kind::Float, tch::Device::Cpu));
        let inputs = Tensor::cat(&[examples.input_tensor(), ones], 1).unsqueeze(0);
        Self { inputs, targets: examples.target_tensor().unsqueeze(0) }
    }

    /// The examples in an order of their own for each run; `orders` holds one permutation after the other.
    pub(super) fn in_orders(&self, orders: &[i64]) -> Self {
        let examples = self.targets.size()[1];
        let index = Tensor::from_slice(orders);
        Self {
            inputs: self.inputs.squeeze_dim(0).index_select(0, &index).view([-1, examples, ROW as i64]),
            targets: self.targets.squeeze_dim(0).index_select(0, &index).view([-1, examples]),
        }
    }

    /// `length` examples from `start` on.
    pub(super) fn narrow(&self, start: usize, length: usize) -> Self {
        let narrow = |tensor: &Tensor| tensor.narrow(1, start as i64, length as i64);
        Self { inputs: narrow(&self.inputs), targets: narrow(&self.targets) }
    }
}

impl Networks {
    /// Networks before training: kernels uniform on (-2, 2), biases zero.
    pub(super) fn new(recipes: &[Recipe], initial: &mut [Random]) -> Self {
        let runs = recipes.len() as i64;
        let weights: Vec<f32> = initial
            .iter_mut()
            .flat_map(|random| {
                std::array::from_fn::<_, { CLASSES * ROW }, _>(|i| {
                    if i % ROW == FEATURES { 0. } else { random.uniform(-2., 2.) as f32 }
                })
            })
            .collect();
        let parameters = Tensor::from_slice(&weights).view([runs, CLASSES as i64, ROW as i64]);
        let by_adam: Vec<bool> = recipes.iter().map(|recipe| recipe.optimizer == Optimizer::Adam).collect();
        let weight_decay: Vec<f32> = recipes
            .iter()
            .map(|recipe| match recipe.optimizer {
                Optimizer::Adam => 0.,
                Optimizer::Sgd { weight_decay } => weight_decay as f32,
            })
            .collect();
        Self {
            first_moments: parameters.zeros_like(),
            second_moments: parameters.zeros_like(),
            parameters: parameters.set_requires_grad(true),
            by_adam: Tensor::from_slice(&by_adam).view([runs, 1, 1]),
            weight_decay: Tensor::from_slice(&weight_decay).view([runs, 1, 1]),
            steps_done: 0,
        }
    }

    /// Mean cross-entropy of each run, in nats, of shape (runs).
    pub(super) fn losses(&self, batch: &Batch) -> Tensor {
        let runs = self.parameters.size()[0];
        let examples = batch.targets.size()[1];
        let inputs = batch.inputs.expand([runs, examples, ROW as i64], false);
        let targets = batch.targets.expand([runs, examples], false);
        let logits = inputs.bmm(&self.parameters.transpose(1, 2));
        logits
            .view([-1, CLASSES as i64])
            .cross_entropy_loss::<Tensor>(&targets.reshape([-1]), None, Reduction::None, -100, 0.)
            .view([runs, examples])
            .mean_dim(1, false, Kind::Float)
    }

    /// One step of each run on its batch at its learning rate; the losses before it.
    pub(super) fn step(&mut self, batch: &Batch, rates: &[f32]) -> Tensor {
        let losses = self.losses(batch);
        // No run's loss depends on another's weights, so the sum's gradient holds each run's own.
        losses.sum(Kind::Float).backward();
        let gradient = self.parameters.grad();
        self.steps_done += 1;
        tch::no_grad(|| {
            let rates = Tensor::from_slice(rates).view([-1, 1, 1]);
            let update = self.adam(&gradient).where_self(&self.by_adam, &self.sgd(&gradient));
            self.parameters -= rates * update;
        });
        self.parameters.zero_grad();
        losses.detach()
    }

    /// Kingma and Ba 2015, algorithm 1, with PyTorch's defaults.
    fn adam(&mut self, gradient: &Tensor) -> Tensor {
        const BETA: (f64, f64) = (0.9, 0.999);
        self.first_moments = &self.first_moments * BETA.0 + gradient * (1. - BETA.0);
        self.second_moments = &self.second_moments * BETA.1 + gradient * gradient * (1. - BETA.1);
        let correction = (1. - BETA.0.powi(self.steps_done), 1. - BETA.1.powi(self.steps_done));
        (&self.first_moments / correction.0) / (self.second_moments.sqrt() / correction.1.sqrt() + 1e-8)
    }

    fn sgd(&self, gradient: &Tensor) -> Tensor {
        gradient + &self.weight_decay * &self.parameters
    }

    /// Weight (classes × features, row after row) and bias of each run.
    pub(super) fn weights(&self) -> Vec<(Vec<f32>, Vec<f32>)> {
        let all = to_vec(&self.parameters);
        all.chunks_exact(CLASSES * ROW)
            .map(|run| {
                let rows = run.chunks_exact(ROW);
                (
                    rows.clone().flat_map(|row| &row[..FEATURES]).copied().collect(),
                    rows.map(|row| row[FEATURES]).collect(),
                )
            })
            .collect()
    }
}

/// The elements of an f32 tensor.
pub(super) fn to_vec(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.detach().flatten(0, -1)).expect("an f32 tensor of one axis")
}

#[cfg(test)]
mod tests {
    use super::super::{iris, recipe};
    use super::*;

    #[test]
    fn updates_are_those_of_libtorchs_own_optimisers() {
        use tch::nn::{self, OptimizerConfig as _};

        let (train, _) = iris::halves();
        let batch = Batch::all(&train);
        let recipes = recipe::recipes(1);
        let rates: Vec<f32> = recipes.iter().map(|recipe| recipe.rate(0, 100) as f32).collect();
        let mut random: Vec<_> = (0..recipes.len() as u64).map(|run| Random::new(3, run)).collect();
        let mut networks = Networks::new(&recipes, &mut random);
        let before = networks.weights();
        for _ in 0..20 {
            drop(networks.step(&batch, &rates));
        }
        for (run, recipe) in recipes.iter().enumerate() {
            let variables = nn::VarStore::new(tch::Device::Cpu);
            let variable = |name: &str, values: &[f32], shape: &[i64]| {
                variables.root().var_copy(name, &Tensor::from_slice(values).view(shape))
            };
            let weight = variable("weight", &before[run].0, &[CLASSES as i64, FEATURES as i64]);
            let bias = variable("bias", &before[run].1, &[CLASSES as i64]);
            let rate = f64::from(rates[run]);
            let mut optimizer = match recipe.optimizer {
                Optimizer::Adam => nn::Adam::default().build(&variables, rate),
                Optimizer::Sgd { weight_decay } => {
                    nn::Sgd { wd: weight_decay, ..nn::Sgd::default() }.build(&variables, rate)
                }
            }
            .unwrap();
            for _ in 0..20 {
                let logits = train.input_tensor().linear(&weight, Some(&bias));
                optimizer.backward_step(&logits.cross_entropy_for_logits(&train.target_tensor()));
            }
            let (our_weight, our_bias) = &networks.weights()[run];
            let ours = our_weight.iter().chain(our_bias);
            for (ours, theirs) in ours.zip(to_vec(&weight).iter().chain(&to_vec(&bias))) {
                assert!(
                    (ours - theirs).abs() < 1e-4 * (1. + theirs.abs()),
                    "{}: {ours} {theirs}",
                    recipe.name
                );
            }
        }
    }

    #[test]
    fn a_run_trains_the_same_alone_and_in_company() {
        tch::set_num_threads(1);
        let (train, _) = iris::halves();
        let batch = Batch::all(&train);
        let recipes = recipe::recipes(3);
        let train = |recipes: &[Recipe], numbers: &[u64]| {
            let mut random: Vec<_> = numbers.iter().map(|number| Random::new(7, *number)).collect();
            let mut networks = Networks::new(recipes, &mut random);
            let rates: Vec<f32> = recipes.iter().map(|recipe| recipe.rate(0, 20) as f32).collect();
            for _ in 0..20 {
                drop(networks.step(&batch, &rates));
            }
            networks.weights()
        };
        let together = train(&recipes, &[0, 1, 2, 3, 4, 5]);
        for (number, recipe) in recipes.iter().enumerate() {
            let alone = train(std::slice::from_ref(recipe), &[number as u64]);
            assert_eq!(alone[0], together[number], "{}", recipe.name);
        }
    }
}

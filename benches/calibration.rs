//! Do enclosures hold as often as they promise, and are they narrow enough to be of use?
//!
//! Four hundred maps are drawn: Gaussian processes of several smoothnesses (in one dimension and in two, by a thousand
//! random waves of the kernel's spectrum each), the logistic map, the double well's flow and the Leslie map with
//! random parameters. Each is seen at random points, with noise of one per cent of its spread, and fitted. An enclosure
//! holds if the images of all cells lie in their boxes, at corners and inside. Its width is compared with that of an
//! oracle that knows the map: the bounding boxes of the true images of cells.
//!
//! `cargo bench --bench calibration` prints, for each confidence, how often all cells held at once, whether that is
//! significantly less than promised (one-sided binomial test at 5 %), and the median of the ratio of widths.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::f64::consts::PI;

use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::surrogate::FittedMap;
use doodl3::engine::{Control, Enclosure, Hyperparameters, Kernel, Points, PriorMean, SurrogateParameters};
use rayon::prelude::*;

const MAPS: u64 = 400;
const CONFIDENCES: [f64; 3] = [0.5, 0.9, 0.95];
const NOISE: f64 = 0.01;
const WAVES: usize = 1000;

type Map = Box<dyn Fn(&[f64]) -> Vec<f64> + Sync>;

/// Where a map is seen, and how well.
struct Setting {
    name: &'static str,
    domain: Rect,
    pairs: usize,
    subdivisions: u32,
    /// Kernel and length scale, of maps drawn from a Gaussian process.
    process: Option<(Kernel, f64)>,
}

fn settings() -> Vec<Setting> {
    let line = || Rect::new(&[-1.0], &[1.0]);
    let square = |half: f64| Rect::new(&[-half; 2], &[half; 2]);
    let setting = |name, domain: Rect, process| {
        let (pairs, subdivisions) = if domain.dimension() == 1 { (40, 5) } else { (160, 8) };
        Setting { name, domain, pairs, subdivisions, process }
    };
    vec![
        setting("1-D squared exponential, 0.3", line(), Some((Kernel::Rbf, 0.3))),
        setting("1-D squared exponential, 0.8", line(), Some((Kernel::Rbf, 0.8))),
        setting("1-D Matérn 5/2, 0.8", line(), Some((Kernel::Matern52, 0.8))),
        setting("2-D squared exponential, 0.8", square(1.0), Some((Kernel::Rbf, 0.8))),
        setting("2-D Matérn 5/2, 1.5", square(1.0), Some((Kernel::Matern52, 1.5))),
        setting("logistic map", Rect::new(&[0.0], &[1.0]), None),
        setting("double well", square(1.5), None),
        setting("Leslie map, fertility 3 to 5", Rect::new(&[0.0; 2], &[20.0, 14.0]), None),
    ]
}

/// No draw from any stationary process: within a tenth of the domain it rises as high as it gets and falls again, in the
/// rest it is flat. Not one of the four hundred; it shows what the assumption is worth.
fn steep_in_a_corner() -> Setting {
    let domain = Rect::new(&[0.0; 2], &[90.0, 70.0]);
    Setting { name: "Leslie map, fertility 18 to 22", domain, pairs: 160, subdivisions: 8, process: None }
}

impl Setting {
    fn draw(&self, random: &mut Random) -> Map {
        match (self.process, self.name) {
            (Some((kernel, scale)), _) => process(kernel, scale, self.domain.dimension(), random),
            (None, "logistic map") => {
                let rate = 3.5 + 0.5 * random.uniform();
                Box::new(move |x| vec![rate * x[0] * (1.0 - x[0])])
            }
            (None, "double well") => {
                let tilt = 0.2 + 0.2 * random.uniform();
                Box::new(move |x| double_well(tilt, [x[0], x[1]]))
            }
            (None, _) => {
                let (least, range) = if self.domain.width(0) > 50.0 { (18.0, 4.0) } else { (3.0, 2.0) };
                let rate = least + range * random.uniform();
                let leslie =
                    move |x: &[f64]| (rate * x[0] + 1.2 * rate * x[1]) * (-0.1 * (x[0] + x[1])).exp();
                Box::new(move |x| vec![leslie(x), 0.7 * x[0]])
            }
        }
    }
}

/// A draw from a process with unit variance: a sum of waves whose frequencies follow the kernel's spectrum.
fn process(kernel: Kernel, scale: f64, dimension: usize, random: &mut Random) -> Map {
    let wave = |random: &mut Random| -> (Vec<f64>, f64, f64) {
        // Matérn 5/2: Student's distribution with five degrees of freedom
        let spread = match kernel {
            Kernel::Rbf => 1.0,
            Kernel::Matern52 => ((0..5).map(|_| random.normal().powi(2)).sum::<f64>() / 5.0).sqrt(),
        };
        let frequency = (0..dimension).map(|_| random.normal() / spread / scale).collect();
        let (cosine, sine) = (random.normal(), random.normal());
        (frequency, cosine.hypot(sine) / (WAVES as f64).sqrt(), sine.atan2(cosine))
    };
    let waves: Vec<Vec<_>> = (0..dimension).map(|_| (0..WAVES).map(|_| wave(random)).collect()).collect();
    Box::new(move |x| {
        let value = |waves: &Vec<(Vec<f64>, f64, f64)>| {
            let at = |(frequency, amplitude, phase): &(Vec<f64>, f64, f64)| {
                amplitude * (frequency.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() - phase).cos()
            };
            waves.iter().map(at).sum()
        };
        waves.iter().map(value).collect()
    })
}

/// Time one of the gradient flow of (x² − 1)²/4 + (y − tilt x)²/2.
fn double_well(tilt: f64, start: [f64; 2]) -> Vec<f64> {
    let step = 0.05;
    let velocity = |[x, y]: [f64; 2]| [x - x * x * x + tilt * (y - tilt * x), tilt * x - y];
    let mut at = start;
    for _ in 0..20 {
        let slope = velocity(at);
        let middle = velocity([at[0] + step / 2.0 * slope[0], at[1] + step / 2.0 * slope[1]]);
        at = [at[0] + step * middle[0], at[1] + step * middle[1]];
    }
    at.to_vec()
}

/// What one map showed at each confidence.
#[derive(Clone)]
struct Outcome {
    setting: usize,
    held: [bool; 3],
    /// Median over cells and axes of our width by the oracle's.
    ratio: [f64; 3],
    trusted: f64,
}

fn judge(setting: &Setting, number: usize, seed: u64, is_fitted: bool) -> Outcome {
    let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95));
    let map = setting.draw(&mut random);
    let dimension = setting.domain.dimension();
    let (lower, control) = (setting.domain.lower(), Control::default());
    let mut from = Points::new(dimension);
    for _ in 0..setting.pairs {
        let point: Vec<f64> =
            (0..dimension).map(|axis| lower[axis] + random.uniform() * setting.domain.width(axis)).collect();
        from.push(&point);
    }
    let clean = Points::from_rows(dimension, from.rows().map(&map));
    let noise: Vec<f64> = match setting.process {
        Some(_) => vec![NOISE; dimension],
        None => (0..dimension).map(|axis| NOISE * spread(clean.column(axis))).collect(),
    };
    let noisy = |image: &[f64], random: &mut Random| -> Vec<f64> {
        image.iter().zip(&noise).map(|(x, noise)| x + noise * random.normal()).collect()
    };
    let to = Points::from_rows(dimension, clean.rows().map(|image| noisy(image, &mut random)));

    let default = SurrogateParameters { enclosure: Enclosure::Confidence(0.95), ..Default::default() };
    let fitted = match setting.process {
        Some((kernel, scale)) if !is_fitted => {
            let parameters = SurrogateParameters { kernel, prior_mean: PriorMean::Zero, ..default };
            let known = Hyperparameters {
                length_scales: vec![scale; dimension],
                signal_variance: 1.0,
                noise_variance: NOISE * NOISE,
                log_marginal_likelihood: 0.0,
            };
            FittedMap::with_hyperparameters(&from, &to, &parameters, &[known])
        }
        _ => FittedMap::fit(&from, &to, &default, &control),
    }
    .expect("pairs are finite");

    let grid = UniformGrid::new(setting.domain, setting.subdivisions).expect("the domain is finite");
    let truth: Vec<Vec<Vec<f64>>> = (0..grid.cells()).map(|cell| images(&map, &grid.rect(cell))).collect();
    let mut outcome = Outcome { setting: number, held: [true; 3], ratio: [0.0; 3], trusted: 0.0 };
    for (level, &confidence) in CONFIDENCES.iter().enumerate() {
        let boxes = fitted.enclosures(&grid, confidence, 1.0, &control).expect("nobody cancels");
        let mut ratios = Vec::new();
        for (enclosure, images) in boxes.iter().zip(&truth) {
            let Some(enclosure) = enclosure else { continue };
            outcome.held[level] &= images.iter().all(|image| enclosure.contains(image));
            let mut oracle = Rect::point(&images[0]);
            for image in images {
                oracle.include(image, image);
            }
            ratios.extend((0..dimension).map(|axis| enclosure.width(axis) / oracle.width(axis)));
        }
        outcome.trusted = ratios.len() as f64 / (boxes.len() * dimension) as f64;
        outcome.ratio[level] = median(ratios);
    }
    outcome
}

/// Images of points of a cell, corners among them.
fn images(map: &Map, cell: &Rect) -> Vec<Vec<f64>> {
    let (dimension, parts) = (cell.dimension(), if cell.dimension() == 1 { 16 } else { 4usize });
    (0..(parts + 1).pow(dimension as u32))
        .map(|number| {
            let coordinate = |axis: usize| {
                let part = number / (parts + 1).pow(axis as u32) % (parts + 1);
                cell.lower()[axis] + cell.width(axis) * part as f64 / parts as f64
            };
            map(&(0..dimension).map(coordinate).collect::<Vec<_>>())
        })
        .collect()
}

/// Probability of at most `held` successes in `trials`.
fn at_most(held: usize, trials: usize, probability: f64) -> f64 {
    let mut term = trials as f64 * (1.0 - probability).ln();
    let mut sum = term.exp();
    for k in 1..=held {
        term += ((trials - k + 1) as f64 / k as f64 * probability / (1.0 - probability)).ln();
        sum += term.exp();
    }
    sum
}

fn report(title: &str, outcomes: &[Outcome], settings: &[Setting]) {
    println!("\n{title}\n");
    println!(
        "{:32} {:>5} {:>8}   held at 0.50, 0.90, 0.95   median width by the oracle's",
        "", "maps", "trusted"
    );
    let row = |name: &str, outcomes: &[&Outcome]| {
        if outcomes.is_empty() {
            return;
        }
        let count = |level: usize| outcomes.iter().filter(|outcome| outcome.held[level]).count();
        let ratio = |level: usize| median(outcomes.iter().map(|outcome| outcome.ratio[level]).collect());
        let trusted = outcomes.iter().map(|outcome| outcome.trusted).sum::<f64>() / outcomes.len() as f64;
        print!("{name:32} {:>5} {trusted:>8.3} ", outcomes.len());
        for (level, &confidence) in CONFIDENCES.iter().enumerate() {
            let share = count(level) as f64 / outcomes.len() as f64;
            let is_short = at_most(count(level), outcomes.len(), confidence) < 0.05;
            print!("  {share:.3}{}", if is_short { "!" } else { " " });
        }
        println!("       {:.2}  {:.2}  {:.2}", ratio(0), ratio(1), ratio(2));
    };
    for (number, setting) in settings.iter().enumerate() {
        row(setting.name, &outcomes.iter().filter(|outcome| outcome.setting == number).collect::<Vec<_>>());
    }
    row("all", &outcomes.iter().collect::<Vec<_>>());
}

fn main() {
    let settings = settings();
    let all = |is_fitted: bool| -> Vec<Outcome> {
        (0..MAPS)
            .into_par_iter()
            .map(|seed| (seed as usize % settings.len(), seed))
            .filter(|&(number, _)| is_fitted || settings[number].process.is_some())
            .map(|(number, seed)| judge(&settings[number], number, seed, is_fitted))
            .collect()
    };
    report("hyperparameters given", &all(false), &settings);
    report("hyperparameters fitted to the pairs", &all(true), &settings);
    let steep = [steep_in_a_corner()];
    let outcomes: Vec<Outcome> =
        (0..50).into_par_iter().map(|seed| judge(&steep[0], 0, seed, true)).collect();
    report("where the map is no such process", &outcomes, &steep);
    println!("\n! significantly less than promised (one-sided binomial test at 5 %)");
}

fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `SplitMix64`: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.uniform()).ln()).sqrt() * (2.0 * PI * self.uniform()).cos()
    }
}

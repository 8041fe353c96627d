//! Do enclosures hold as often as they promise, and are they narrow enough to be of use?
//!
//! Four hundred maps are drawn: Gaussian processes of several smoothnesses (in one dimension and in two, by thousands
//! of random waves of the kernel's spectrum each), the logistic map, the double well's flow, and the Leslie map on a domain
//! where it is tame and on that of CMGDB's example, all with random parameters. Each is seen at random points, with noise
//! of one per cent of its spread, and fitted. Enclosures hold if the images of all trusted cells lie in their boxes, at
//! corners and inside. Their width is compared with that of an oracle that knows the map: the bounding boxes of the true
//! images of cells.
//!
//! `cargo bench --bench calibration` prints, for each confidence, the share of maps for which all cells held at once, the
//! probability of so few among maps of which the promised share holds (one-sided binomial test), and the median of the
//! ratio of widths. `docs/calibration.md` shows what it printed.
//!
//! After `--`: `--seed 7` draws other maps, `--maps 80` fewer, `--family Leslie` only those whose name holds the word, and
//! `--misses` lists every box that its image leaves.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::f64::consts::PI;

use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::surrogate::FittedMap;
use doodl3::engine::{Control, Enclosure, Hyperparameters, Kernel, Points, PriorMean, SurrogateParameters};
use rayon::prelude::*;

const CONFIDENCES: [f64; 3] = [0.5, 0.9, 0.95];
const SIGNIFICANT: f64 = 0.05;
const NOISE: f64 = 0.01;
/// Waves of a draw in one dimension and in two: the fewer, the less of a Gaussian process its finest details are.
const WAVES: [usize; 2] = [16_000, 4000];

type Map = Box<dyn Fn(&[f64]) -> Vec<f64> + Sync>;

/// Where a map is seen, and how well.
struct Family {
    name: &'static str,
    domain: Rect,
    pairs: usize,
    subdivisions: u32,
    /// Kernel and length scale, of maps drawn from a Gaussian process.
    process: Option<(Kernel, f64)>,
}

fn families() -> Vec<Family> {
    let line = || Rect::new(&[-1.0], &[1.0]);
    let square = |half: f64| Rect::new(&[-half; 2], &[half; 2]);
    let family = |name, domain: Rect, process| {
        let (pairs, subdivisions) = if domain.dimension() == 1 { (40, 5) } else { (160, 8) };
        Family { name, domain, pairs, subdivisions, process }
    };
    vec![
        family("1-D squared exponential, 0.3", line(), Some((Kernel::Rbf, 0.3))),
        family("1-D squared exponential, 0.8", line(), Some((Kernel::Rbf, 0.8))),
        family("1-D Matérn 5/2, 0.8", line(), Some((Kernel::Matern52, 0.8))),
        family("2-D squared exponential, 0.8", square(1.0), Some((Kernel::Rbf, 0.8))),
        family("2-D Matérn 5/2, 1.5", square(1.0), Some((Kernel::Matern52, 1.5))),
        family("logistic map", Rect::new(&[0.0], &[1.0]), None),
        family("double well", square(1.5), None),
        family("Leslie map, fertility 3 to 5", Rect::new(&[0.0; 2], &[20.0, 14.0]), None),
        // no draw from any stationary process: in a tenth of the domain it rises as high as it gets and falls again
        family("Leslie map, fertility 18 to 22", Rect::new(&[0.0; 2], &[90.0, 70.0]), None),
    ]
}

impl Family {
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

    /// Noisy pairs.
    fn observe(&self, map: &Map, random: &mut Random) -> (Points, Points) {
        let dimension = self.domain.dimension();
        let mut from = Points::new(dimension);
        for _ in 0..self.pairs {
            let coordinate =
                |axis: usize| self.domain.lower()[axis] + random.uniform() * self.domain.width(axis);
            from.push(&(0..dimension).map(coordinate).collect::<Vec<_>>());
        }
        let clean = Points::from_rows(dimension, from.rows().map(map));
        let noise: Vec<f64> = match self.process {
            Some(_) => vec![NOISE; dimension],
            None => (0..dimension).map(|axis| NOISE * spread(clean.column(axis))).collect(),
        };
        let noisy = |image: &[f64]| -> Vec<f64> {
            image.iter().zip(&noise).map(|(x, noise)| x + noise * random.normal()).collect()
        };
        let to = Points::from_rows(dimension, clean.rows().map(noisy));
        (from, to)
    }

    /// What is learned from pairs, and what would be if the process were known from which the map was drawn.
    fn learn(&self, from: &Points, to: &Points) -> (FittedMap, Option<FittedMap>) {
        let default = SurrogateParameters { enclosure: Enclosure::Confidence(0.95), ..Default::default() };
        let fitted = FittedMap::fit(from, to, &default, &Control::default()).expect("pairs are finite");
        let given = self.process.map(|(kernel, scale)| {
            let parameters = SurrogateParameters { kernel, prior_mean: PriorMean::Zero, ..default };
            let known = Hyperparameters {
                length_scales: vec![scale; self.domain.dimension()],
                signal_variance: 1.0,
                noise_variance: NOISE * NOISE,
                log_marginal_likelihood: 0.0,
            };
            FittedMap::with_hyperparameters(from, to, &parameters, &[known]).expect("pairs are finite")
        });
        (fitted, given)
    }
}

/// A draw from a process with unit variance: a sum of waves whose frequencies follow the kernel's spectrum.
fn process(kernel: Kernel, scale: f64, dimension: usize, random: &mut Random) -> Map {
    let count = WAVES[dimension - 1];
    let wave = |random: &mut Random| -> (Vec<f64>, f64, f64) {
        // Matérn 5/2: Student's distribution with five degrees of freedom
        let spread = match kernel {
            Kernel::Rbf => 1.0,
            Kernel::Matern52 => ((0..5).map(|_| random.normal().powi(2)).sum::<f64>() / 5.0).sqrt(),
        };
        let frequency = (0..dimension).map(|_| random.normal() / spread / scale).collect();
        let (cosine, sine) = (random.normal(), random.normal());
        (frequency, cosine.hypot(sine) / (count as f64).sqrt(), sine.atan2(cosine))
    };
    let waves: Vec<Vec<_>> = (0..dimension).map(|_| (0..count).map(|_| wave(random)).collect()).collect();
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
    family: usize,
    held: [bool; 3],
    /// Median over cells and axes of our width by the oracle's, without end where the map is not trusted.
    ratio: [f64; 3],
    trusted: f64,
    misses: Vec<String>,
}

/// Outcomes with hyperparameters fitted, and with those from which the map was drawn.
fn judge(families: &[Family], number: u64, seed: u64) -> (Outcome, Option<Outcome>) {
    let index = number as usize % families.len();
    let family = &families[index];
    let mut random = Random((seed << 32 | number).wrapping_mul(0xd134_2543_de82_ef95));
    let map = family.draw(&mut random);
    let dimension = family.domain.dimension();
    let (from, to) = family.observe(&map, &mut random);
    let (fitted, given) = family.learn(&from, &to);
    let grid = UniformGrid::new(family.domain, family.subdivisions).expect("the domain is finite");
    let cells: Vec<Points> = (0..grid.cells()).map(|cell| inside(&grid.rect(cell))).collect();
    let truth: Vec<Points> =
        cells.iter().map(|points| Points::from_rows(dimension, points.rows().map(&map))).collect();
    let outcome = |learned: &FittedMap| {
        let mut outcome = compare(learned, &grid, &cells, &truth);
        outcome.family = index;
        outcome.misses.iter_mut().for_each(|miss| miss.insert_str(0, &format!("{} {number}, ", family.name)));
        outcome
    };
    (outcome(&fitted), given.as_ref().map(outcome))
}

/// Enclosures against the images of points of cells.
fn compare(learned: &FittedMap, grid: &UniformGrid, cells: &[Points], truth: &[Points]) -> Outcome {
    let dimension = grid.dimension();
    let mut outcome =
        Outcome { family: 0, held: [true; 3], ratio: [0.0; 3], trusted: 0.0, misses: Vec::new() };
    for (level, &confidence) in CONFIDENCES.iter().enumerate() {
        let boxes = learned.enclosures(grid, confidence, 1.0, &Control::default()).expect("nobody cancels");
        outcome.trusted = boxes.iter().flatten().count() as f64 / boxes.len() as f64;
        let mut ratios = Vec::new();
        for ((enclosure, points), images) in boxes.iter().zip(cells).zip(truth) {
            let Some(enclosure) = enclosure else {
                ratios.extend(std::iter::repeat_n(f64::INFINITY, dimension));
                continue;
            };
            let mut oracle = Rect::point(images.row(0));
            for image in images.rows() {
                oracle.include(image, image);
            }
            ratios.extend((0..dimension).map(|axis| enclosure.width(axis) / oracle.width(axis)));
            if images.rows().all(|image| enclosure.contains(image)) {
                continue;
            }
            outcome.held[level] = false;
            let farthest = farthest(learned, points, images);
            outcome.misses.push(format!("confidence {confidence}: {farthest}"));
        }
        outcome.ratio[level] = median(ratios);
    }
    outcome
}

/// Where in a cell the map is farthest from what was learned, counted in standard deviations.
fn farthest(learned: &FittedMap, points: &Points, truth: &Points) -> String {
    let told = learned.images(points);
    let errors = points.rows().zip(truth.rows()).enumerate().flat_map(|(number, (point, truth))| {
        let (mean, deviation) = (told.mean.row(number), told.deviation.row(number));
        let error = |axis: usize| (truth[axis] - mean[axis]) / deviation[axis];
        (0..truth.len()).map(move |axis| (point, axis, error(axis))).collect::<Vec<_>>()
    });
    match errors.max_by(|a, b| a.2.abs().total_cmp(&b.2.abs())) {
        Some((point, axis, error)) => {
            format!("cell at {point:.3?}, coordinate {axis}, {error:.1} standard deviations")
        }
        None => "an empty cell".to_owned(),
    }
}

/// Points of a cell, corners among them.
fn inside(cell: &Rect) -> Points {
    let (dimension, parts) = (cell.dimension(), if cell.dimension() == 1 { 16 } else { 4usize });
    let point = |number: usize| {
        let coordinate = |axis: usize| {
            let part = number / (parts + 1).pow(axis as u32) % (parts + 1);
            cell.lower()[axis] + cell.width(axis) * part as f64 / parts as f64
        };
        (0..dimension).map(coordinate).collect::<Vec<_>>()
    };
    Points::from_rows(dimension, (0..(parts + 1).pow(dimension as u32)).map(point))
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

fn report(title: &str, outcomes: &[Outcome], families: &[Family]) {
    println!("\n### {title}\n");
    println!(
        "| maps | number | trusted | held at 0.5 | held at 0.9 | held at 0.95 | width by the oracle's |"
    );
    println!("|---|---|---|---|---|---|---|");
    let row = |name: &str, outcomes: &[&Outcome]| {
        let mean = |value: &dyn Fn(&Outcome) -> f64| {
            outcomes.iter().map(|outcome| value(outcome)).sum::<f64>() / outcomes.len() as f64
        };
        let trusted = mean(&|outcome| outcome.trusted);
        print!("| {name} | {} | {trusted:.3} ", outcomes.len());
        for (level, &confidence) in CONFIDENCES.iter().enumerate() {
            let count = outcomes.iter().filter(|outcome| outcome.held[level]).count();
            let probability = at_most(count, outcomes.len(), confidence);
            let mark = if probability < SIGNIFICANT { " **short**" } else { "" };
            print!("| {:.3} (p {probability:.2}){mark} ", count as f64 / outcomes.len() as f64);
        }
        let ratio = |level: usize| median(outcomes.iter().map(|outcome| outcome.ratio[level]).collect());
        println!("| {:.2}, {:.2}, {:.2} |", ratio(0), ratio(1), ratio(2));
    };
    for (number, family) in families.iter().enumerate() {
        let own: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.family == number).collect();
        if !own.is_empty() {
            row(family.name, &own);
        }
    }
    row("**all**", &outcomes.iter().collect::<Vec<_>>());
}

/// What is asked for on the command line.
struct Options {
    seed: u64,
    maps: u64,
    family: String,
    misses: bool,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { seed: 1, maps: 400, family: String::new(), misses: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            let mut number = || value().parse().unwrap_or_else(|_| panic!("{word} needs a whole number"));
            match word.as_str() {
                "--seed" => options.seed = number(),
                "--maps" => options.maps = number(),
                "--family" => options.family = value(),
                "--misses" => options.misses = true,
                // cargo says so of itself
                "--bench" => {}
                _ => panic!("{word} is no option: --seed, --maps, --family, --misses are"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::read();
    let families = families();
    // every map is the same whichever others are asked for
    let wanted = |number: &u64| families[*number as usize % families.len()].name.contains(&options.family);
    let numbers: Vec<u64> = (0..options.maps).filter(wanted).collect();
    let (fitted, given): (Vec<Outcome>, Vec<Option<Outcome>>) =
        numbers.par_iter().map(|&number| judge(&families, number, options.seed)).unzip();
    let given: Vec<Outcome> = given.into_iter().flatten().collect();
    println!("seed {}", options.seed);
    let both = [("fitted to the pairs", fitted), ("that the maps were drawn with", given)];
    for (which, outcomes) in both.iter().filter(|(_, outcomes)| !outcomes.is_empty()) {
        report(&format!("Hyperparameters {which}"), outcomes, &families);
        if options.misses {
            println!();
            outcomes.iter().flat_map(|outcome| &outcome.misses).for_each(|miss| println!("- {miss}"));
        }
    }
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

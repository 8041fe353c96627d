//! The analysis of Eslami et al. 2021 on a file of pairs, lines `w … w' …` of some weights after the second epoch and
//! after the last: a Gaussian process fitted as scikit-learn fits `RBF(0.5, (0.01, 2)) + WhiteKernel()`, the images of
//! cells padded by one cell, half a unit around the data, the Morse graph and the order retraction. One JSON object tells
//! what was found and how long each part took; `benches/compare_with_recipe.py` times it beside the published recipe.
//! `cargo run --release --example paper_analysis FILE [SUBDIVISIONS [THREADS [LENGTH_SCALE NOISE_VARIANCE]]]`

#![expect(clippy::print_stdout, reason = "its purpose")]

mod pairs;

use std::error::Error;
use std::time::Instant;

use doodl3::engine::dynamics::{MorseDecomposition, OrderRetraction, RecurrentSet};
use doodl3::engine::grid::UniformGrid;
use doodl3::engine::surrogate::{FittedMap, Specification};
use doodl3::engine::{Control, Enclosure, Hyperparameters, Kernel, Mode, PriorMean, SurrogateParameters};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What is added around the data on each side, in units of the weights.
const MARGIN: f64 = 0.5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let file = arguments.first().ok_or("which file of pairs?")?;
    let subdivisions = arguments.get(1).map_or(Ok(15), |text| text.parse())?;
    let threads = arguments.get(2).map_or(Ok(1), |text| text.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let given = match &arguments[arguments.len().min(3)..] {
        [] => None,
        [length_scale, noise_variance] => {
            Some((length_scale.parse::<f64>()?, noise_variance.parse::<f64>()?))
        }
        _ => return Err("a length scale and a variance of the noise go together".into()),
    };
    let (from, to) = pairs::read(file)?;
    let control = Control::default();
    let parameters = SurrogateParameters {
        kernel: Kernel::Rbf,
        prior_mean: PriorMean::Zero,
        enclosure: Enclosure::Padding,
        ..SurrogateParameters::default()
    };

    let started = Instant::now();
    let hyperparameters = match given {
        None => Specification::paper(parameters.kernel, from.dimension()).fit(&from, &to, &control)?,
        Some((length_scale, noise_variance)) => Hyperparameters {
            length_scales: vec![length_scale; from.dimension()],
            signal_variance: 1.0,
            noise_variance,
            log_marginal_likelihood: f64::NAN,
        },
    };
    let map =
        FittedMap::with_hyperparameters(&from, &to, &parameters, std::slice::from_ref(&hyperparameters))?;
    let fitted = Instant::now();

    let mut domain = pairs::bounding_box(&from, &to);
    domain.widen(&vec![MARGIN; from.dimension()]);
    let grid = UniformGrid::new(domain, subdivisions)?;
    let boxes = map.with_padding(&grid, parameters.trust, Mode::Compatible, &control)?;
    let mapped = Instant::now();
    let morse = MorseDecomposition::of(&boxes, &control)?;
    let ordered = Instant::now();
    let retraction = OrderRetraction::of(&boxes, &morse, &control)?;
    let done = Instant::now();

    let found = json!({
        "length_scale": hyperparameters.length_scales[0],
        "noise_variance": hyperparameters.noise_variance,
        "log_marginal_likelihood": hyperparameters.log_marginal_likelihood,
        "seconds": {
            "fit": (fitted - started).as_secs_f64(),
            "map": (mapped - fitted).as_secs_f64(),
            "Morse graph": (ordered - mapped).as_secs_f64(),
            "order retraction": (done - ordered).as_secs_f64(),
        },
        "Morse sets": morse.sets().iter().map(known).collect::<Vec<Value>>(),
        "order": morse.edges(),
        "tiles": retraction.tile_sizes(),
        "without tile": retraction.uncoloured(),
    });
    println!("{found}");
    Ok(())
}

/// By what a Morse set is known: its number of cells, and a digest of their numbers, row by row with the last axis fastest.
fn known(set: &RecurrentSet) -> Value {
    let cells: Vec<String> = set.iter().map(|cell| cell.to_string()).collect();
    let digest = Sha256::digest(cells.join(","));
    json!([set.size, format!("{:08x}", u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))])
}

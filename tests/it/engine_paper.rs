//! The analysis of Eslami et al. 2021, compared with what scikit-learn and CMGDB find on the same pairs.

use doodl3::engine::dynamics::{Existence, MorseDecomposition, OrderRetraction};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::surrogate::{FittedMap, Specification};
use doodl3::engine::{
    Control, Enclosure, Hyperparameters, Kernel, Mode, Parameters, Points, PriorMean, Subdivisions,
    SurrogateParameters,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const PAIRS: &str = include_str!("../fixtures/paper/2.txt");
const FOUND: &str = include_str!("../fixtures/paper/2_15.json");

/// What the recipe finds.
#[derive(Deserialize)]
struct Found {
    length_scale: f64,
    noise_variance: f64,
    log_marginal_likelihood: f64,
    /// Number of cells of each Morse set, and a digest of the cells.
    #[serde(rename = "Morse sets")]
    sets: Vec<(usize, String)>,
    order: Vec<(usize, usize)>,
}

/// The parameters of the published code.
fn parameters() -> Parameters {
    let configuration = include_str!("../../examples/paper/doodl3.yaml");
    let plan = doodl3::config::parse(configuration, "doodl3.yaml").unwrap();
    plan.validate(std::path::Path::new("")).unwrap().parameters
}

fn pairs() -> (Points, Points) {
    let rows: Vec<Vec<f64>> = PAIRS
        .lines()
        .map(|line| line.split_whitespace().map(|number| number.parse().unwrap()).collect())
        .collect();
    (
        Points::from_rows(2, rows.iter().map(|row| &row[..2])),
        Points::from_rows(2, rows.iter().map(|row| &row[2..])),
    )
}

#[test]
fn one_configuration_is_the_published_analysis() {
    let Parameters { surrogate, grid: grid_parameters, .. } = parameters();
    assert_eq!(grid_parameters.mode, Mode::Compatible);
    assert_eq!(grid_parameters.subdivisions, Subdivisions::Uniform(15));
    assert_eq!(
        surrogate,
        SurrogateParameters {
            kernel: Kernel::Rbf,
            prior_mean: PriorMean::Zero,
            enclosure: Enclosure::Padding,
            ..SurrogateParameters::default()
        }
    );
    let found: Found = serde_json::from_str(FOUND).unwrap();
    let (from, to) = pairs();
    let control = Control::default();

    let fitted = Specification::paper(surrogate.kernel, 2).fit(&from, &to, &control).unwrap();
    let theirs = Hyperparameters {
        length_scales: vec![found.length_scale; 2],
        signal_variance: 1.0,
        noise_variance: found.noise_variance,
        log_marginal_likelihood: found.log_marginal_likelihood,
    };
    let difference = fitted.log_marginal_likelihood - theirs.log_marginal_likelihood;
    assert!(difference.abs() < 1e-6, "{fitted:?} {theirs:?}");

    let mut domain = Rect::point(from.row(0));
    from.rows().chain(to.rows()).for_each(|point| domain.include(point, point));
    domain.widen(&[0.5; 2]);
    let grid = UniformGrid::new(domain, 15).unwrap();
    for hyperparameters in [theirs, fitted] {
        let map = FittedMap::with_hyperparameters(&from, &to, &surrogate, &[hyperparameters]).unwrap();
        let boxes = map.with_padding(&grid, surrogate.trust, grid_parameters.mode, &control).unwrap();
        let morse = MorseDecomposition::of(&boxes, &control).unwrap();
        let sets = morse.sets().iter().map(|set| {
            let cells: Vec<String> = set.iter().map(|cell| cell.to_string()).collect();
            let digest = Sha256::digest(cells.join(","));
            (set.size, format!("{:08x}", u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])))
        });
        assert_eq!(sets.collect::<Vec<_>>(), found.sets);
        assert_eq!(morse.edges(), found.order);

        let retraction = OrderRetraction::of(&boxes, &morse, &control).unwrap();
        assert_eq!((retraction.existence(), retraction.uncoloured()), (Existence::Found, 0));
        assert_eq!(retraction.tile_sizes().iter().sum::<usize>(), grid.cells() as usize);
    }
}

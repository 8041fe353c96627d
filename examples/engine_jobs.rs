//! Runs one of the jobs that `benches/compare_with_cmgdb.py` times beside CMGDB, and prints what it found:
//! `engine_jobs JOB SUBDIVISIONS THREADS`, where SUBDIVISIONS is one number for a uniform grid, and MIN/MAX for an
//! adaptive one, and JOB is `leslie2`, `leslie3` or `newton`, with `-index` behind it where Conley indices are to be told.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::error::Error;

use doodl3::engine::dynamics::{
    AdaptiveMap, BoxMap, CornerRule, MorseDecomposition, PointMap, Refinement, Widening,
};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::homology::{ConleyIndex, adaptive_conley_indices, conley_indices};
use doodl3::engine::{Control, Mode};

/// The prime of CMGDB's coefficients.
const PRIME: u32 = 5;

struct Job {
    subdivisions: String,
    domain: Rect,
    widening: Widening,
    with_index: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, job, subdivisions, threads] = arguments.as_slice() else {
        return Err("usage: engine_jobs leslie2|leslie3|newton[-index] SUBDIVISIONS THREADS".into());
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let (name, with_index) = job.strip_suffix("-index").map_or((job.as_str(), false), |name| (name, true));
    let job = |domain, widening| Job { subdivisions: subdivisions.clone(), domain, widening, with_index };
    match name {
        "leslie2" => {
            let domain = Rect::new(&[-0.001; 2], &[90.0, 70.0]);
            job(domain, Widening::CellWidth).run(|x, image| {
                image[0] = (19.6 * x[0] + 23.68 * x[1]) * (-0.1 * (x[0] + x[1])).exp();
                image[1] = 0.7 * x[0];
            })
        }
        "leslie3" => {
            let domain = Rect::new(&[-0.001; 3], &[90.0, 65.0, 45.0]);
            job(domain, Widening::None).run(|x, image| {
                let all = x[0] + x[1] + x[2];
                image[0] = (19.6 * x[0] + 23.68 * x[1] + 19.6 * x[2]) * (-0.1 * all).exp();
                image[1] = 0.7 * x[0];
                image[2] = 0.7 * x[1];
            })
        }
        // Newton's method for z³ = 1
        "newton" => {
            let domain = Rect::new(&[-2.0; 2], &[2.1, 2.05]);
            job(domain, Widening::CellWidth).run(|z, image| {
                let square = [z[0] * z[0] - z[1] * z[1], 2.0 * z[0] * z[1]];
                let norm = square[0] * square[0] + square[1] * square[1];
                image[0] = (2.0 * z[0] + square[0] / norm) / 3.0;
                image[1] = (2.0 * z[1] - square[1] / norm) / 3.0;
            })
        }
        _ => Err(format!("no such job: {name}").into()),
    }
}

impl Job {
    fn run(&self, map: impl Fn(&[f64], &mut [f64]) + Sync) -> Result<(), Box<dyn Error>> {
        let map = PointMap::new(map);
        let control = Control::default();
        if let Some((min, max)) = self.subdivisions.split_once('/') {
            let refinement = Refinement { init: 0, min: min.parse()?, max: max.parse()?, limit: 10_000 };
            let rule = CornerRule { map: &map, widening: self.widening, mode: Mode::Compatible };
            let periodic = vec![false; self.domain.dimension()];
            let map = AdaptiveMap::refine(self.domain, &periodic, refinement, &rule, &control)?;
            let morse = MorseDecomposition::of(&map, &control)?;
            let indices = || adaptive_conley_indices(&map, &rule, &morse, PRIME, &control);
            print(&morse, &if self.with_index { indices()? } else { Vec::new() });
        } else {
            let grid = UniformGrid::new(self.domain, self.subdivisions.parse()?)?;
            let map = BoxMap::from_corners(&grid, &map, self.widening, Mode::Compatible, &control)?;
            let morse = MorseDecomposition::of(&map, &control)?;
            let indices = || conley_indices(&grid, &map, &morse, PRIME, &control);
            print(&morse, &if self.with_index { indices()? } else { Vec::new() });
        }
        Ok(())
    }
}

/// Size and index of each Morse set, sorted, for a comparison with another program's.
fn print(morse: &MorseDecomposition, indices: &[ConleyIndex]) {
    let mut found: Vec<String> = morse
        .sets()
        .iter()
        .enumerate()
        .map(|(number, set)| {
            let index = indices.get(number).map(ConleyIndex::unseparated).unwrap_or_default();
            [vec![set.size.to_string()], index].concat().join(" ")
        })
        .collect();
    found.sort();
    println!("{}", found.join(", "));
}

//! How soon the engine stops when it is told to, at any moment of a large job:
//! `cargo bench --bench cancellation [-- SUBDIVISIONS ...]`.
//!
//! Each job is run once to the end, then told to stop at twenty moments spread over the time that this took. Printed are
//! the median and the longest time until it was back, with all its memory given back.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::time::{Duration, Instant};

use doodl3::engine::dynamics::{
    AdaptiveMap, BoxMap, CornerRule, MorseDecomposition, PointMap, Refinement, Widening,
};
use doodl3::engine::grid::{Rect, UniformGrid};
use doodl3::engine::homology::{adaptive_conley_indices, conley_indices};
use doodl3::engine::{Cancel, Control, EngineError, Mode};

/// Moments at which each job is told to stop.
const MOMENTS: u32 = 20;

fn main() {
    let asked: Vec<u32> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let subdivisions = if asked.is_empty() { vec![20, 24, 26] } else { asked };
    println!("| job | whole | median until stopped | longest |");
    println!("|---|---|---|---|");
    for subdivisions in subdivisions {
        tell(&format!("uniform, 2^{subdivisions} cells"), |control| uniform(subdivisions, control));
        tell(&format!("adaptive, to depth {subdivisions}"), |control| adaptive(subdivisions, control));
    }
}

fn tell(name: &str, job: impl Fn(&Control) -> Result<(), EngineError> + Sync) {
    let started = Instant::now();
    job(&Control::default()).expect("the job ends");
    let whole = started.elapsed();
    let mut delays: Vec<Duration> =
        (0..MOMENTS).map(|number| delay(whole * number / MOMENTS, &job)).collect();
    delays.sort_unstable();
    let milliseconds = |time: Duration| format!("{:.1} ms", 1e3 * time.as_secs_f64());
    let median = milliseconds(delays[delays.len() / 2]);
    println!(
        "| {name} | {:.2} s | {median} | {} |",
        whole.as_secs_f64(),
        milliseconds(delays[delays.len() - 1])
    );
}

/// How long a job goes on after it was told to stop; not at all if it had ended.
fn delay(after: Duration, job: &(impl Fn(&Control) -> Result<(), EngineError> + Sync)) -> Duration {
    let cancel = Cancel::new();
    let control = Control::new(cancel.clone());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| (job(&control), Instant::now()));
        std::thread::sleep(after);
        let told = Instant::now();
        cancel.raise();
        let (result, ended) = running.join().expect("the job does not panic");
        assert!(matches!(result, Ok(()) | Err(EngineError::Cancelled)), "{result:?}");
        ended.saturating_duration_since(told)
    })
}

fn leslie(x: &[f64], image: &mut [f64]) {
    image[0] = (19.6 * x[0] + 23.68 * x[1]) * (-0.1 * (x[0] + x[1])).exp();
    image[1] = 0.7 * x[0];
}

fn domain() -> Rect {
    Rect::new(&[-0.001; 2], &[90.0, 70.0])
}

fn uniform(subdivisions: u32, control: &Control) -> Result<(), EngineError> {
    let grid = UniformGrid::new(domain(), subdivisions)?;
    let map = PointMap::new(leslie);
    let map = BoxMap::from_corners(&grid, &map, Widening::CellWidth, Mode::Compatible, control)?;
    let morse = MorseDecomposition::of(&map, control)?;
    conley_indices(&grid, &map, &morse, 5, control).map(|_| ())
}

fn adaptive(subdivisions: u32, control: &Control) -> Result<(), EngineError> {
    let map = PointMap::new(leslie);
    let rule = CornerRule { map: &map, widening: Widening::CellWidth, mode: Mode::Compatible };
    let refinement = Refinement { init: 0, min: subdivisions, max: subdivisions, limit: 10_000 };
    let map = AdaptiveMap::refine(domain(), &[false; 2], refinement, &rule, control)?;
    let morse = MorseDecomposition::of(&map, control)?;
    adaptive_conley_indices(&map, &rule, &morse, 5, control).map(|_| ())
}

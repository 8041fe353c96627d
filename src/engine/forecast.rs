//! Where runs end, by random paths of the surrogate.

use rayon::prelude::*;

use super::dynamics::{CellMap, MorseDecomposition};
use super::losses::KnownLosses;
use super::random::Random;
use super::surrogate::FittedMap;
use super::{Control, End, Ending, EngineError, Fate, Forecast, Role};

/// Most and fewest paths from a point, and paths in all between these.
const MOST_PATHS: usize = 200;
const FEWEST_PATHS: usize = 40;
const PATHS_IN_ALL: usize = 4000;

/// Lags after which a path is given up.
const HORIZON: usize = 50;

/// Around an attractor's bounding box, standard deviations of the noise within which a path has arrived.
const ARRIVED: f64 = 2.0;

const SEED: u64 = 0x00d0_0d13;

/// What paths run through.
pub(super) struct Scene<'a, M> {
    fitted: &'a FittedMap,
    map: &'a M,
    morse: &'a MorseDecomposition,
    losses: Option<KnownLosses>,
    /// Of each Morse set that attracts, the corners of the box where paths have arrived.
    arrival: Vec<Option<(Vec<f64>, Vec<f64>)>>,
}

/// Where a path ended, after how many lags, and the loss there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ended {
    end: End,
    lags: usize,
    loss: Option<f64>,
}

impl<'a, M: CellMap> Scene<'a, M> {
    pub(super) fn new(
        fitted: &'a FittedMap,
        map: &'a M,
        morse: &'a MorseDecomposition,
        losses: Option<KnownLosses>,
    ) -> Self {
        let arrival = morse.sets().iter().map(|set| {
            (set.role == Role::Attractor).then(|| {
                let hull = map.hull(set);
                let noise = |axis: usize| ARRIVED * fitted.noise(axis);
                let lower = hull.lower().iter().enumerate().map(|(axis, x)| x - noise(axis)).collect();
                let upper = hull.upper().iter().enumerate().map(|(axis, x)| x + noise(axis)).collect();
                (lower, upper)
            })
        });
        Self { fitted, map, morse, losses, arrival: arrival.collect() }
    }

    /// Where paths from each of these points end.
    ///
    /// Path number n of every point follows the same map, so that points are compared on equal terms; its noise is its
    /// own.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub(super) fn forecasts(
        &self,
        points: &[&[f64]],
        control: &Control,
    ) -> Result<Vec<Forecast>, EngineError> {
        let moving: Vec<usize> =
            (0..points.len()).filter(|&number| self.end(points[number]).is_none()).collect();
        let paths = (PATHS_IN_ALL / moving.len().max(1)).clamp(FEWEST_PATHS, MOST_PATHS);
        let follow = |path: usize| -> Result<Vec<Ended>, EngineError> {
            let mut map = self.fitted.draw(&mut Random::new(SEED ^ path as u64));
            let mut ended = Vec::with_capacity(moving.len());
            for &number in &moving {
                let mut noise = Random::new(SEED ^ ((number as u64 + 1) << 32) ^ path as u64);
                let mut point = points[number].to_vec();
                let mut lags = 0;
                let end = loop {
                    match self.end(&point) {
                        Some(end) => break end,
                        None if lags == HORIZON => break End::Undecided,
                        None => {}
                    }
                    control.check()?;
                    point = map.step(&point, &mut noise);
                    lags += 1;
                };
                ended.push(Ended { end, lags, loss: self.loss(end, &point) });
            }
            Ok(ended)
        };
        let followed: Vec<Vec<Ended>> = if moving.is_empty() {
            Vec::new()
        } else {
            (0..paths).into_par_iter().map(follow).collect::<Result<_, EngineError>>()?
        };
        let forecast = |(number, point): (usize, &&[f64])| {
            if let Some(end) = self.end(point) {
                return summary(vec![Ended { end, lags: 0, loss: self.loss(end, point) }; paths]);
            }
            let place = moving.partition_point(|&moving| moving < number);
            summary(followed.iter().map(|path| path[place]).collect())
        };
        Ok(points.iter().enumerate().map(forecast).collect())
    }

    /// The end that a path at this point has come to, if any.
    fn end(&self, point: &[f64]) -> Option<End> {
        let Some(cell) = self.map.cell_at(point) else { return Some(End::Exit) };
        if self.map.is_unknown(cell) {
            return Some(End::Unknown);
        }
        if let Some(set) = self.morse.set_of(cell).filter(|&set| self.arrival[set].is_some()) {
            return Some(End::Attractor(set));
        }
        let Fate::Certain(set) = self.morse.fates().of_vertex(cell) else { return None };
        let (lower, upper) = self.arrival.get(set)?.as_ref()?;
        let arrived = point.iter().zip(lower).zip(upper).all(|((x, low), high)| low <= x && x <= high);
        arrived.then_some(End::Attractor(set))
    }

    fn loss(&self, end: End, point: &[f64]) -> Option<f64> {
        matches!(end, End::Attractor(_) | End::Undecided)
            .then(|| self.losses.as_ref())?
            .map(|losses| losses.near(point))
    }
}

/// Counts where paths ended.
fn summary(mut paths: Vec<Ended>) -> Forecast {
    let count = paths.len();
    // stable, so that sums are taken in the order of the paths
    paths.sort_by_key(|path| path.end);
    let ends = paths.chunk_by(|a, b| a.end == b.end).map(|same| {
        let n = same.len() as f64;
        let smoothed = (n + 2.0) / (count as f64 + 4.0);
        let losses: Vec<f64> = same.iter().filter_map(|path| path.loss).collect();
        Ending {
            end: same[0].end,
            paths: same.len(),
            probability: n / count as f64,
            standard_error: (smoothed * (1.0 - smoothed) / (count as f64 + 4.0)).sqrt(),
            lags: same.iter().map(|path| path.lags as f64).sum::<f64>() / n,
            loss: (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64),
        }
    });
    Forecast { paths: count, horizon: HORIZON, ends: ends.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_and_a_certain_one_still_has_an_error() {
        let path = |end, lags, loss| Ended { end, lags, loss };
        let forecast = summary(vec![
            path(End::Attractor(4), 3, Some(0.1)),
            path(End::Exit, 1, None),
            path(End::Attractor(4), 5, Some(0.3)),
            path(End::Attractor(1), 2, Some(1.0)),
        ]);
        let ends: Vec<(End, usize, f64)> = forecast.ends.iter().map(|e| (e.end, e.paths, e.lags)).collect();
        assert_eq!(ends, [(End::Attractor(1), 1, 2.0), (End::Attractor(4), 2, 4.0), (End::Exit, 1, 1.0)]);
        assert_eq!(forecast.ends[1].loss, Some(0.2));
        assert_eq!(forecast.ends.iter().map(|e| e.probability).sum::<f64>(), 1.0);
        let certain = summary(vec![path(End::Exit, 0, None); 200]);
        assert!((0.005..0.02).contains(&certain.ends[0].standard_error));
    }
}

//! The detectors that look at weights, on one run.

use serde::{Deserialize, Serialize};

use super::{
    Detector, Observation, Reading, Settings,
    movement::Movement,
    surrogate_exit::{ExitEvidence, Surrogate},
    update_growth::{self, GrowthEvidence, GrowthLoss},
    update_jump::{self, JumpEvidence},
};
use crate::alert::{LifeCycle, Opening, Position, Severity, Signal};

/// Largest absolute value in a sketch with which sums and squares stay finite.
const LARGEST: f32 = 1e34;

/// State of the detectors that look at weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Weights {
    movement: Movement,
    surrogate: Surrogate,
    pub(super) jump: LifeCycle<JumpEvidence>,
    pub(super) growth: LifeCycle<GrowthEvidence>,
    /// One for each episode of growth.
    pub(super) growth_loss: Vec<GrowthLoss>,
    /// Where the growth's score crossed its threshold, while it is above.
    growth_crossed: Option<Position>,
    pub(super) exit: LifeCycle<ExitEvidence>,
    speaks_from: SpeaksFrom,
}

/// Step of the first checkpoint that each detector scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct SpeaksFrom {
    update_jump: Option<u64>,
    update_growth: Option<u64>,
    surrogate_exit: Option<u64>,
}

/// What a checkpoint's weights gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WeightsReading {
    pub(super) readings: Vec<Reading>,
    /// ‖θₜ − θₜ₋₁‖ / ‖θₜ₋₁‖.
    pub(super) update_ratio: Option<f64>,
    /// Detectors that could not run, and why.
    pub(super) not_checked: Vec<String>,
}

impl Weights {
    /// Step of the last checkpoint with finite weights.
    pub(super) fn last_finite_step(&self) -> Option<u64> {
        self.movement.last_step()
    }

    /// Step of the first checkpoint that a detector scored.
    pub(super) fn speaks_from(&self, detector: Detector) -> Option<u64> {
        match detector {
            Detector::Nonfinite | Detector::LossSpike => None,
            Detector::UpdateJump => self.speaks_from.update_jump,
            Detector::UpdateGrowth => self.speaks_from.update_growth,
            Detector::SurrogateExit => self.speaks_from.surrogate_exit,
        }
    }

    /// Takes in a checkpoint. Where its weights are not finite (`nonfinite`), everything stays as it was.
    pub(super) fn advance(
        &mut self,
        at: Position,
        observation: &Observation<'_>,
        nonfinite: bool,
        norm: f64,
        settings: &Settings,
    ) -> WeightsReading {
        let last_finite_step = self.movement.last_step();
        let scores = Scores::of(self, observation, nonfinite, norm, settings);
        let mut not_checked = scores.not_checked();
        if !settings.loss_spike.enabled {
            not_checked.push(format!("{}: {OFF}", Detector::LossSpike));
        }
        let Scores { update_ratio, jump, growth, exit } = scores;
        let opening = || Opening { last_good_step: last_finite_step, not_checked: not_checked.clone() };

        let mut readings = Vec::new();
        if settings.update_jump.enabled {
            let own = &settings.update_jump;
            readings.push(reading(Detector::UpdateJump, own.threshold, &jump));
            if let Ok((score, evidence)) = jump {
                self.speaks_from.update_jump.get_or_insert(at.step);
                let severity = if score >= own.high { Severity::High } else { Severity::Warning };
                let on_since = (score >= own.threshold).then_some(at);
                let signal = Signal { at, score, threshold: own.threshold, on_since, severity };
                self.jump.advance(signal, settings.cooldown, || evidence, opening);
            }
        }
        if settings.update_growth.enabled {
            let own = &settings.update_growth;
            readings.push(reading(Detector::UpdateGrowth, own.threshold, &growth));
            let crosses = growth.as_ref().is_ok_and(|(score, _)| *score >= own.threshold);
            let crossed = self.growth_crossed.filter(|_| crosses);
            self.growth_crossed = crosses.then(|| crossed.unwrap_or(at));
            if let Ok((score, evidence)) = growth {
                self.speaks_from.update_growth.get_or_insert(at.step);
                let severity = Severity::Warning;
                let signal = Signal { at, score, threshold: own.threshold, on_since: crossed, severity };
                let last_good_step = Some(evidence.last_good_step());
                let opening = || Opening { last_good_step, ..opening() };
                self.growth.advance(signal, settings.cooldown, || evidence, opening);
                if crossed.is_some() {
                    self.growth_loss.resize_with(self.growth.episodes().len(), GrowthLoss::default);
                    if let Some(loss) = self.growth_loss.last_mut() {
                        loss.on(at.index);
                    }
                }
            }
        }
        if settings.surrogate_exit.enabled {
            let own = &settings.surrogate_exit;
            readings.push(reading(Detector::SurrogateExit, own.threshold, &exit));
            if let Ok((score, evidence)) = exit {
                self.speaks_from.surrogate_exit.get_or_insert(at.step);
                let on_since = (score >= own.threshold).then_some(at);
                let signal =
                    Signal { at, score, threshold: own.threshold, on_since, severity: Severity::Warning };
                self.exit.advance(signal, settings.cooldown, || evidence, opening);
            }
        }
        for reading in &mut readings {
            reading.on = match reading.detector {
                Detector::UpdateJump => self.jump.is_open(),
                Detector::UpdateGrowth => self.growth.is_open(),
                Detector::SurrogateExit => self.exit.is_open(),
                Detector::Nonfinite | Detector::LossSpike => false,
            };
        }
        WeightsReading { readings, update_ratio, not_checked }
    }
}

/// Why a detector is silent that the user wants silent.
const OFF: &str = "switched off";

type Score<E> = Result<(f64, E), String>;

/// The scores of one checkpoint, or why there are none.
struct Scores {
    update_ratio: Option<f64>,
    jump: Score<JumpEvidence>,
    growth: Score<GrowthEvidence>,
    exit: Score<ExitEvidence>,
}

impl Scores {
    fn of(
        state: &mut Weights,
        observation: &Observation<'_>,
        nonfinite: bool,
        norm: f64,
        settings: &Settings,
    ) -> Self {
        let too_large = observation.sketch.iter().any(|x| x.is_nan() || x.abs() > LARGEST);
        let mut scores = if nonfinite {
            Self::none("the weights are not finite")
        } else if too_large {
            Self::none("the weights are too large to compute with")
        } else {
            let moved = state.movement.advance(observation, norm);
            let threshold = settings.surrogate_exit.threshold;
            let exit =
                state.surrogate.advance(observation.step, observation.sketch, moved.as_ref().ok(), threshold);
            match moved {
                Ok(moved) => Self {
                    update_ratio: Some(moved.ratio),
                    jump: update_jump::score(&state.movement, &moved),
                    growth: update_growth::score(&state.movement, &moved),
                    exit,
                },
                Err(why) => Self { exit, ..Self::none(&why) },
            }
        };
        if !settings.update_jump.enabled {
            scores.jump = Err(OFF.into());
        }
        if !settings.update_growth.enabled {
            scores.growth = Err(OFF.into());
        }
        if !settings.surrogate_exit.enabled {
            scores.exit = Err(OFF.into());
        }
        scores
    }

    fn none(why: &str) -> Self {
        Self { update_ratio: None, jump: Err(why.into()), growth: Err(why.into()), exit: Err(why.into()) }
    }

    fn not_checked(&self) -> Vec<String> {
        [
            (Detector::UpdateJump, self.jump.as_ref().err()),
            (Detector::UpdateGrowth, self.growth.as_ref().err()),
            (Detector::SurrogateExit, self.exit.as_ref().err()),
        ]
        .into_iter()
        .filter_map(|(detector, why)| why.map(|why| format!("{detector}: {why}")))
        .collect()
    }
}

fn reading<E>(detector: Detector, threshold: f64, score: &Score<E>) -> Reading {
    let (score, why_not) = match score {
        Ok((score, _)) => (Some(*score), None),
        Err(why) => (None, Some(why.clone())),
    };
    Reading { detector, score, threshold, on: false, why_not }
}

//! From what was computed to plain data.

use super::dynamics::{CellMap, MorseDecomposition, OrderRetraction, RecurrentSet, Tile};
use super::forecast::Scene;
use super::grid::{Level, Rect};
use super::homology::ConleyIndex;
use super::limits::{
    DOUBTFUL_COVERAGE_GAP, DOUBTFUL_SKILL, DOUBTFUL_SKILL_OVER_PERSISTENCE, DOUBTFUL_TRUSTED_POINTS,
    FEW_PAIRS, FEW_RUNS, MUCH_NEGLECTED,
};
use super::losses::KnownLosses;
use super::projection::{Choice, FEWEST_CHECKPOINTS};
use super::quality::{Assessment, NOMINAL_COVERAGE};
use super::statistics::median;
use super::surrogate::{FittedMap, GaussianProcess};
use super::trajectories::Path;
use super::{
    Analysis, Basins, Control, Enclosure, EngineError, Extent, Fate, Grid, GridLevel, LossSummary, MapChoice,
    MorseGraph, MorseSet, Outlook, Parameters, Places, Quality, Retraction, Role, Surrogate, Trajectory,
    Visit,
};

/// All results of an analysis.
pub(super) struct Findings<'a, M> {
    pub(super) parameters: &'a Parameters,
    pub(super) choice: &'a Choice<'a>,
    pub(super) fitted: &'a FittedMap,
    pub(super) widening: Option<f64>,
    pub(super) bending: Option<Vec<f64>>,
    pub(super) domain: Rect,
    pub(super) map: &'a M,
    pub(super) morse: &'a MorseDecomposition,
    /// Of each Morse set.
    pub(super) conley_indices: Vec<ConleyIndex>,
    pub(super) retraction: Option<OrderRetraction>,
    pub(super) assessment: Assessment,
}

impl<M: CellMap> Findings<'_, M> {
    pub(super) fn describe(self, control: &Control) -> Result<Analysis, EngineError> {
        let grid = describe_grid(&self.domain, self.map);
        let places = Places::of(&grid);
        let cells: Vec<Vec<Option<u32>>> = self
            .paths()
            .iter()
            .map(|path| path.points.rows().map(|point| self.map.cell_at(point)).collect())
            .collect();
        let sets: Vec<Vec<Option<usize>>> = cells
            .iter()
            .map(|cells| cells.iter().map(|cell| cell.and_then(|cell| self.morse.set_of(cell))).collect())
            .collect();
        let basins = self.basins(&cells, control)?;
        let quality = self.quality(&cells, &basins.fates, &places);
        let morse_graph = self.morse_graph(&sets, &places);
        let retraction =
            self.retraction.as_ref().map(|retraction| self.describe_retraction(retraction, &places));
        Ok(Analysis {
            parameters: self.parameters.clone(),
            projection: self.choice.coordinates.projection.clone(),
            lag: self.choice.pairs.lag(),
            candidates: self.choice.candidates.clone(),
            trajectories: self.trajectories(&sets),
            morse_graph,
            grid,
            basins,
            retraction,
            quality,
            surrogate: self.surrogate(),
        })
    }

    fn paths(&self) -> &[Path<'_>] {
        &self.choice.coordinates.paths
    }

    fn trajectories(&self, sets: &[Vec<Option<usize>>]) -> Vec<Trajectory> {
        let describe = |(path, sets): (&Path<'_>, &Vec<Option<usize>>)| Trajectory {
            run: path.run.run.clone(),
            steps: path.steps.clone(),
            points: path.points.rows().map(<[f64]>::to_vec).collect(),
            losses: path.losses.clone(),
            morse_sets: sets.clone(),
        };
        self.paths().iter().zip(sets).map(describe).collect()
    }

    fn surrogate(self) -> Surrogate {
        let processes = self.fitted.processes();
        let of_axis = |axis| self.fitted.process(axis).0.hyperparameters().clone();
        Surrogate {
            kernel: self.parameters.surrogate.kernel,
            outputs: (0..self.fitted.dimension()).map(of_axis).collect(),
            widening: self.widening,
            bending: self.bending,
            pairs: self.fitted.pairs(),
            centres: processes.iter().map(GaussianProcess::centres).max().unwrap_or(0),
            neglected_variance: self.fitted.neglected_variance(),
        }
    }

    fn morse_graph(&self, sets: &[Vec<Option<usize>>], places: &Places<'_>) -> MorseGraph {
        let describe = |(number, set): (usize, &RecurrentSet)| {
            let hull = self.map.hull(set);
            let cells: Vec<(usize, usize)> =
                set.cells.iter().map(|&(first, length)| (first as usize, length as usize)).collect();
            MorseSet {
                size: set.size,
                volume_share: places.volume_share(cells.iter().copied()),
                cells,
                lower: hull.lower().to_vec(),
                upper: hull.upper().to_vec(),
                role: set.role,
                conley_index: self.conley_indices[number].clone(),
                loss: self.loss_inside(number, sets),
                visits: self.visits(number, sets),
            }
        };
        MorseGraph {
            sets: self.morse.sets().iter().enumerate().map(describe).collect(),
            edges: self.morse.edges().to_vec(),
            reduced: self.morse.reduced(|set| self.conley_indices[set].is_trivial()),
        }
    }

    fn loss_inside(&self, number: usize, sets: &[Vec<Option<usize>>]) -> Option<LossSummary> {
        let points = self.paths().iter().zip(sets).flat_map(|(path, sets)| path.losses.iter().zip(sets));
        let mut losses: Vec<f64> =
            points.filter(|(_, set)| **set == Some(number)).filter_map(|(loss, _)| *loss).collect();
        let middle = median(&mut losses);
        losses.first().map(|&min| LossSummary { min, median: middle, count: losses.len() })
    }

    fn visits(&self, number: usize, sets: &[Vec<Option<usize>>]) -> Vec<Visit> {
        let visit = |(path, sets): (&Path<'_>, &Vec<Option<usize>>)| {
            let mut steps =
                path.steps.iter().zip(sets).filter(|(_, set)| **set == Some(number)).map(|(step, _)| *step);
            let first_step = steps.next()?;
            let (last_step, others) = steps.fold((first_step, 0), |(_, count), step| (step, count + 1));
            Some(Visit {
                run: path.run.run.clone(),
                checkpoints: others + 1,
                first_step,
                last_step,
                ends_here: sets.last() == Some(&Some(number)),
            })
        };
        self.paths().iter().zip(sets).filter_map(visit).collect()
    }

    fn fate(&self, cell: u32) -> Fate {
        if self.map.is_unknown(cell) { Fate::Untrusted } else { self.morse.fates().of_vertex(cell) }
    }

    fn basins(&self, cells: &[Vec<Option<u32>>], control: &Control) -> Result<Basins, EngineError> {
        let fates = runs((0..self.map.vertices()).map(|cell| self.fate(cell)));
        let attractors = self.morse.sets().iter().enumerate().filter(|(_, set)| set.role == Role::Attractor);
        let sizes = attractors.map(|(number, _)| {
            let (certain, singleton) = self.morse.fates().basin_sizes(number);
            (number, certain, singleton)
        });
        let last: Vec<Option<u32>> = cells.iter().map(|cells| cells.last().copied().flatten()).collect();
        let inside: Vec<u32> = last.iter().copied().flatten().collect();
        let mut reachable = self.morse.reachable_from(self.map, &inside, control)?.into_iter();
        control.report("outlook", 0.0);
        let ends: Vec<&[f64]> =
            self.paths().iter().map(|path| path.points.row(path.points.len() - 1)).collect();
        let losses = KnownLosses::of(self.paths());
        let scene = Scene::new(self.fitted, self.map, self.morse, losses);
        let forecasts = scene.forecasts(&ends, control)?;
        let outlook = self.paths().iter().zip(last).zip(forecasts).map(|((path, cell), forecast)| Outlook {
            run: path.run.run.clone(),
            fate: cell.map(|cell| self.fate(cell)),
            reachable: cell.and_then(|_| reachable.next()).unwrap_or_default(),
            forecast,
        });
        Ok(Basins { fates, sizes: sizes.collect(), outlook: outlook.collect() })
    }

    fn describe_retraction(&self, retraction: &OrderRetraction, places: &Places<'_>) -> Retraction {
        let tiles = runs((0..self.map.vertices()).map(|cell| retraction.tile(cell)));
        let mut sets = vec![Extent::default(); self.morse.sets().len()];
        let (mut escape, mut uncoloured) = (Extent::default(), Extent::default());
        for ((first, length), tile) in placed(&tiles) {
            let extent = match tile {
                Tile::MorseSet(set) => &mut sets[set],
                Tile::Escape => &mut escape,
                Tile::None => &mut uncoloured,
            };
            extent.cells += length;
            extent.volume_share += places.volume_share([(first, length)]);
        }
        let (existence, classes) = (retraction.existence(), retraction.classes());
        Retraction { existence, classes, tiles, sets, escape, uncoloured }
    }

    fn quality(&self, cells: &[Vec<Option<u32>>], fates: &[(Fate, usize)], places: &Places<'_>) -> Quality {
        let known_cells = placed(fates).filter(|(_, fate)| *fate != Fate::Untrusted).map(|(cells, _)| cells);
        let known = |cell: &Option<u32>| cell.is_some_and(|cell| !self.map.is_unknown(cell));
        let points: usize = cells.iter().map(Vec::len).sum();
        let trusted = cells.iter().flatten().filter(|cell| known(cell)).count();
        let assessment = &self.assessment;
        let mut quality = Quality {
            explained_variance: self.choice.coordinates.projection.explained_variance.iter().sum(),
            skill: assessment.skill.clone(),
            displacement_skill: assessment.displacement_skill.clone(),
            skill_over_persistence: assessment.skill_over_persistence,
            negative_log_predictive_density: assessment.negative_log_predictive_density,
            nominal_coverage: NOMINAL_COVERAGE,
            coverage: assessment.coverage,
            trusted_points: trusted as f64 / points as f64,
            trusted_cells: places.volume_share(known_cells),
            confidence: match (self.parameters.surrogate.map, self.parameters.surrogate.enclosure) {
                (MapChoice::GaussianProcess, Enclosure::Confidence(probability)) => Some(probability),
                (MapChoice::GaussianProcess, Enclosure::Padding) | (MapChoice::Data(_), _) => None,
            },
            assessed_runs: assessment.runs,
            left_out: self.choice.coordinates.left_out,
            low_confidence: Vec::new(),
        };
        quality.low_confidence = self.doubts(&quality);
        quality
    }

    /// Why the picture should not be relied on, in plain words.
    fn doubts(&self, quality: &Quality) -> Vec<String> {
        let lag = self.choice.pairs.lag();
        let mut doubts = Vec::new();
        if let Some(shortcomings) = &self.choice.shortcomings {
            doubts.push(format!(
                "no combination of coordinates and lag is good enough; of the best: {shortcomings}"
            ));
        }
        if lag.runs < FEW_RUNS {
            let runs = if lag.runs == 1 { "one run".into() } else { format!("{} runs", lag.runs) };
            doubts.push(format!(
                "the map was learned from {runs} only, so it is not known how a new run would behave"
            ));
        }
        let checkpoints: usize =
            self.paths().iter().map(|path| path.usable.iter().filter(|usable| **usable).count()).sum();
        if lag.runs == 1 && checkpoints < FEWEST_CHECKPOINTS {
            doubts.push(format!(
                "of a single run at least {FEWEST_CHECKPOINTS} checkpoints are needed to tell its course from chance, and there are {checkpoints}: only the detectors speak"
            ));
        }
        if lag.pairs < FEW_PAIRS * self.fitted.dimension() {
            doubts.push(format!("the map was learned from only {} pairs of checkpoints", lag.pairs));
        }
        let skill = quality.skill.iter().copied().fold(f64::INFINITY, f64::min);
        if self.choice.shortcomings.is_none() && skill < DOUBTFUL_SKILL {
            doubts.push(format!("the map predicts runs that it has not seen hardly better than their mean does (R² {skill:.2})"));
        }
        if self.choice.shortcomings.is_none()
            && quality.skill_over_persistence < DOUBTFUL_SKILL_OVER_PERSISTENCE
        {
            doubts.push(format!(
                "the map predicts runs that it has not seen hardly better than saying that nothing moves (it removes {:.0} % of that error)",
                100.0 * quality.skill_over_persistence.max(0.0)
            ));
        }
        if quality.coverage < quality.nominal_coverage - DOUBTFUL_COVERAGE_GAP {
            doubts.push(format!(
                "the map is too sure of itself: {:.0} % of what runs did lies in intervals that should hold {:.0} %",
                100.0 * quality.coverage,
                100.0 * quality.nominal_coverage
            ));
        }
        let neglected = self.fitted.neglected_variance();
        if neglected > MUCH_NEGLECTED {
            doubts.push(format!(
                "the map bends more than can be represented: up to {:.0} % of its variance is left out",
                100.0 * neglected
            ));
        }
        if quality.trusted_points < DOUBTFUL_TRUSTED_POINTS {
            doubts.push(format!(
                "at {:.0} % of the checkpoints the map is not known well enough: more runs are needed",
                100.0 * (1.0 - quality.trusted_points)
            ));
        }
        doubts
    }
}

/// Equal values that follow each other, each with their number.
fn runs<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<(T, usize)> {
    let mut runs: Vec<(T, usize)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, length)) if *last == value => *length += 1,
            _ => runs.push((value, 1)),
        }
    }
    runs
}

/// The cells that runs of values are of, as runs (first cell, length).
fn placed<T: Copy>(runs: &[(T, usize)]) -> impl Iterator<Item = ((usize, usize), T)> {
    let place = |first: &mut usize, &(value, length): &(T, usize)| {
        let run = (*first, length);
        *first += length;
        Some((run, value))
    };
    runs.iter().scan(0, place)
}

fn describe_grid<M: CellMap>(domain: &Rect, map: &M) -> Grid {
    let level = |(level, keys): (Level, Vec<(u64, u64)>)| GridLevel {
        subdivisions: level.depth(),
        cells_per_axis: (0..level.dimension()).map(|axis| level.cells_along(axis) as usize).collect(),
        keys: keys.into_iter().map(|(first, length)| (first as usize, length as usize)).collect(),
    };
    let levels: Vec<GridLevel> = map.levels().into_iter().map(level).collect();
    Grid {
        lower: domain.lower().to_vec(),
        upper: domain.upper().to_vec(),
        cells_per_axis: levels.last().map(|level| level.cells_per_axis.clone()).unwrap_or_default(),
        cells: map.vertices() as usize,
        edges: map.edges(),
        levels,
    }
}

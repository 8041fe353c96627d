//! Input for reports, made up but lifelike, the same on every machine: a flow with two attractors and a saddle, runs
//! that follow it, and three that go wrong.

use doodl3::alert::{Alert, AlertState, Severity};
use doodl3::detect::Detector;
use doodl3::engine::dynamics::{Classes, Existence, ReducedMorseGraph, Tile};
use doodl3::engine::homology::{ConleyIndex, Polynomial, Undefined};
use doodl3::engine::{
    Analysis, Basins, Candidate, End, Ending, Errors, Extent, Fate, Forecast, Grid, GridLevel,
    Hyperparameters, Kernel, Lag, LeftOut, LossSummary, MorseGraph, MorseSet, Outlook, Parameters,
    Projection, ProjectionChoice, Quality, Retraction, Role, Surrogate, Trajectory, Visit,
};
use doodl3::render::{Group, ReportInput, RunState, RunView};

/// How large a sample is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) healthy: usize,
    pub(super) checkpoints: usize,
    /// Cells are halved this often, in turn along both axes.
    pub(super) subdivisions: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { healthy: 100, checkpoints: 46, subdivisions: 14 }
    }
}

/// A linear congruential generator (Knuth's constants), so that the sample needs no crate and never changes.
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal: the sum of twelve uniform numbers.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// One step of the flow: wells at (−1, 0) and (1, 0), a saddle between them.
fn flow((x, y): (f64, f64), time: f64) -> (f64, f64) {
    let (mut x, mut y) = (x, y);
    for _ in 0..8 {
        let h = time / 8.0;
        x += h * (x - x * x * x);
        y += h * (0.15 * x - 0.9 * y);
    }
    (x, y)
}

fn loss((x, y): (f64, f64)) -> f64 {
    let well = (x * x - 1.0).powi(2) * 0.25 + 0.4 * y * y;
    0.035 + if x > 0.0 { 0.06 } else { 0.0 } + 0.9 * well / (1.0 + 0.4 * well)
}

/// A run: its steps and its points.
struct Path {
    name: String,
    steps: Vec<u64>,
    points: Vec<(f64, f64)>,
}

/// The lifelike input.
pub(super) fn report(size: Size) -> ReportInput {
    let mut chance = Chance(7);
    let stride = 450 / (size.checkpoints as u64 - 1).max(1);
    let stride = stride.max(1) * 10;
    let time = 5.0 / size.checkpoints as f64;
    let mut paths: Vec<Path> = (0..size.healthy)
        .map(|seed| {
            let start = (chance.uniform() * 3.2 - 1.6, 1.1 + chance.uniform());
            walk(format!("seed-{seed:03}"), start, size.checkpoints, stride, time, &mut chance)
        })
        .collect();
    let onset = size.checkpoints / 3;
    let mut hot = walk("lr-3.0".to_owned(), (0.9, 1.9), size.checkpoints, stride, time, &mut chance);
    for at in onset..hot.points.len() {
        let wild = 1.22f64.powi((at - onset) as i32) * 0.12;
        let sign = if at % 2 == 0 { 1.0 } else { -1.0 };
        hot.points[at].0 += sign * wild.min(40.0);
        hot.points[at].1 += (sign * wild * 0.6).min(30.0);
    }
    let kept = (onset + 22).min(hot.points.len());
    hot.points.truncate(kept);
    hot.steps.truncate(kept);
    let mut swinging = walk("lr-0.8".to_owned(), (-1.4, 1.6), size.checkpoints, stride, time, &mut chance);
    for at in onset..swinging.points.len() {
        swinging.points[at].0 += 0.45 * (at as f64 * 2.4).sin();
        swinging.points[at].1 += 0.3 * (at as f64 * 1.9).cos();
    }
    let mut spiked = walk("spike".to_owned(), (1.2, 1.3), size.checkpoints, stride, time, &mut chance);
    let blow = size.checkpoints / 2;
    for (after, at) in (blow..(blow + 4).min(spiked.points.len())).enumerate() {
        spiked.points[at].1 += 0.9 * 0.45f64.powi(after as i32);
        spiked.points[at].0 -= 0.5 * 0.45f64.powi(after as i32);
    }
    paths.extend([hot, swinging, spiked]);
    paths.sort_by(|a, b| a.name.cmp(&b.name));
    let step = |at: usize| at as u64 * stride;
    let runs = paths.iter().map(|path| view(path, step(onset), &mut chance)).collect();
    let analysis = analysis(&paths, size, stride);
    ReportInput {
        title: "iris-softmax".to_owned(),
        focus: None,
        group: Group {
            source: "local".to_owned(),
            experiment: "iris-softmax".to_owned(),
            signature: "5f1c0d2b8e7a4493".to_owned(),
        },
        analysis_id: "c2a91f7bd04e55d8a3b6407e9d1f8c2aa07b53ee61d94f08b7c3125d9e640fab".to_owned(),
        analysis: Ok(analysis),
        since: None,
        runs,
        alerts: alerts(step(onset), step(blow), stride),
        skipped: vec![
            ("seed-017/step-310.safetensors.tmp".to_owned(), "a temporary file of the writer".to_owned()),
            (
                "lr-3.0/step-400.safetensors".to_owned(),
                "the header says 9,812 bytes, the file has 4,096".to_owned(),
            ),
        ],
        not_available: vec!["sharpness of the loss: no model is configured that gives gradients".to_owned()],
        versions: vec![
            ("doodl3".to_owned(), "0.1.0".to_owned()),
            ("libtorch".to_owned(), "2.13.0".to_owned()),
        ],
    }
}

fn walk(
    name: String,
    start: (f64, f64),
    checkpoints: usize,
    stride: u64,
    time: f64,
    chance: &mut Chance,
) -> Path {
    let mut at = start;
    let mut points = vec![at];
    while points.len() < checkpoints {
        let next = flow(at, time);
        let noise = 0.02 * (5.0 * time).sqrt().min(1.0);
        at = (next.0 + noise * chance.normal(), next.1 + noise * chance.normal());
        points.push(at);
    }
    Path { name, steps: (0..points.len() as u64).map(|k| k * stride).collect(), points }
}

fn view(path: &Path, onset: u64, chance: &mut Chance) -> RunView {
    let mut run = RunView {
        run: path.name.clone(),
        steps: path.steps.clone(),
        state: RunState::Ended,
        ..RunView::default()
    };
    for (at, (&step, &point)) in path.steps.iter().zip(&path.points).enumerate() {
        let truth = loss(point);
        run.evaluated_losses.push((step, truth));
        let stride = path.steps.get(1).map_or(10, |second| second - path.steps[0]);
        for part in 0..5 {
            run.logged_losses.push((step + part * stride / 5, truth * (0.18 * chance.normal()).exp()));
        }
        let grown = 2.0 + 1.6 * (1.0 - (-(at as f64) / 12.0).exp()) + 0.35 * point.0;
        run.weight_norms.push((step, grown.abs() + 0.2 * (point.1 * point.1).min(900.0)));
        if at > 0 {
            let before = path.points[at - 1];
            let moved = (point.0 - before.0).hypot(point.1 - before.1);
            run.update_ratios.push((step, moved / grown));
            let calm = 0.25 + 0.1 * chance.normal().abs();
            let wild = (moved / 0.14).min(9.0);
            run.instability.push((step, if step >= onset { calm.max(wild * 0.8) } else { calm }));
        }
    }
    run.logged_losses.dedup_by_key(|(step, _)| *step);
    if path.name == "lr-3.0" {
        let last = *path.steps.last().expect("a step");
        let stride = last / (path.steps.len() as u64 - 1);
        run.logged_losses
            .extend((1..30).map(|k| (last + k * stride, if k < 2 { f64::INFINITY } else { f64::NAN })));
        run.state = RunState::Training;
    }
    run
}

fn alerts(onset: u64, blow: u64, stride: u64) -> Vec<Alert> {
    let jump = Alert {
        run: "lr-3.0".to_owned(),
        detector: Detector::UpdateJump,
        episode: 1,
        state: AlertState::Open,
        severity: Severity::High,
        opened_step: onset + 2 * stride,
        last_step: onset + 21 * stride,
        resolved_step: None,
        repeats: 19,
        peak_score: Some(31.42),
        threshold: 4.5,
        headline: format!("update 14 times the usual at step {}", onset + 2 * stride),
        evidence: "ln(update / weights): \u{2212}0.52 against a median of \u{2212}3.16 over 24 checkpoints"
            .to_owned(),
        advice: "Lower the learning rate or clip gradients, and go back to the last good checkpoint."
            .to_owned(),
        last_good_step: Some(onset + stride),
        not_checked: vec!["surrogate_exit: fewer than 40 checkpoints".to_owned()],
    };
    let lost = Alert {
        detector: Detector::Nonfinite,
        severity: Severity::Critical,
        opened_step: onset + 22 * stride,
        last_step: onset + 22 * stride,
        repeats: 1,
        peak_score: None,
        threshold: 1.0,
        headline: format!("the loss is not a number since step {}", onset + 22 * stride),
        evidence: "train/loss: NaN; 12 of 12 weights are finite in the last checkpoint".to_owned(),
        advice: "Stop the run: it cannot come back by itself. Restart from the last good checkpoint with a lower learning rate.".to_owned(),
        ..jump.clone()
    };
    let growth = Alert {
        run: "lr-0.8".to_owned(),
        detector: Detector::UpdateGrowth,
        severity: Severity::Warning,
        opened_step: onset + 4 * stride,
        last_step: onset + 6 * stride,
        repeats: 3,
        peak_score: Some(0.171),
        threshold: 0.12,
        headline: "updates grow by 17 % from checkpoint to checkpoint".to_owned(),
        evidence: "slope of ln update over 6 checkpoints: 0.171 above its own earlier maximum".to_owned(),
        advice: "Watch the loss; lower the learning rate if it rises.".to_owned(),
        last_good_step: Some(onset),
        ..jump.clone()
    };
    let spike = Alert {
        run: "spike".to_owned(),
        detector: Detector::LossSpike,
        state: AlertState::Resolved,
        severity: Severity::Warning,
        opened_step: blow,
        last_step: blow + 2 * stride,
        resolved_step: Some(blow + 7 * stride),
        repeats: 3,
        peak_score: Some(12.6),
        threshold: 8.0,
        headline: "loss 9 times its recent level".to_owned(),
        evidence: "train/loss: 0.91 against a median of 0.101 over 200 steps".to_owned(),
        advice: "Look at the batches of that step. The run has come back by itself.".to_owned(),
        last_good_step: Some(blow - stride),
        not_checked: Vec::new(),
        ..jump.clone()
    };
    vec![spike, jump, lost, growth]
}

/// Cells and their centres.
struct Cells {
    lower: [f64; 2],
    upper: [f64; 2],
    per_axis: [usize; 2],
}

impl Cells {
    fn new(subdivisions: u32) -> Self {
        let per_axis = [1 << subdivisions.div_ceil(2), 1 << (subdivisions / 2)];
        Self { lower: [-2.1, -0.75], upper: [2.1, 2.45], per_axis }
    }

    fn count(&self) -> usize {
        self.per_axis[0] * self.per_axis[1]
    }

    fn centre(&self, cell: usize) -> (f64, f64) {
        let at = [cell / self.per_axis[1], cell % self.per_axis[1]];
        let along = |axis: usize| {
            let width = (self.upper[axis] - self.lower[axis]) / self.per_axis[axis] as f64;
            self.lower[axis] + (at[axis] as f64 + 0.5) * width
        };
        (along(0), along(1))
    }

    fn cell(&self, (x, y): (f64, f64)) -> Option<usize> {
        let along = |value: f64, axis: usize| {
            let share = (value - self.lower[axis]) / (self.upper[axis] - self.lower[axis]);
            (0.0..1.0).contains(&share).then(|| (share * self.per_axis[axis] as f64) as usize)
        };
        Some(along(x, 0)? * self.per_axis[1] + along(y, 1)?)
    }
}

/// Runs of equal, neighbouring values.
fn runs_of<T: PartialEq + Copy>(values: &[T]) -> Vec<(T, usize)> {
    values.chunk_by(|a, b| a == b).map(|span| (span[0], span.len())).collect()
}

fn analysis(paths: &[Path], size: Size, stride: u64) -> Analysis {
    let cells = Cells::new(size.subdivisions);
    let near = |(x, y): (f64, f64)| {
        paths
            .iter()
            .filter(|path| path.name.starts_with("seed"))
            .flat_map(|path| path.points.iter().step_by((size.checkpoints / 40).max(1)))
            .map(|point| (point.0 - x).hypot(point.1 - y))
            .fold(f64::INFINITY, f64::min)
    };
    let labels: Vec<Option<usize>> = (0..cells.count()).map(|cell| inside(cells.centre(cell))).collect();
    let fates: Vec<Fate> = (0..cells.count()).map(|cell| fate(cells.centre(cell), &near)).collect();
    let trusted = fates.iter().filter(|fate| **fate != Fate::Untrusted).count() as f64 / cells.count() as f64;
    let trajectories: Vec<Trajectory> = paths
        .iter()
        .map(|path| Trajectory {
            run: path.name.clone(),
            steps: path.steps.clone(),
            points: path.points.iter().map(|point| vec![point.0, point.1]).collect(),
            losses: path.points.iter().map(|point| Some(loss(*point))).collect(),
            morse_sets: path
                .points
                .iter()
                .map(|point| cells.cell(*point).and_then(|cell| labels[cell]))
                .collect(),
        })
        .collect();
    let roles = [
        Role::Intermediate,
        Role::Attractor,
        Role::Repeller,
        Role::Intermediate,
        Role::Attractor,
        Role::Open,
    ];
    let sets = roles
        .into_iter()
        .enumerate()
        .map(|(id, role)| set(id, role, &cells, &labels, &trajectories))
        .collect();
    let outlook = trajectories
        .iter()
        .map(|trajectory| {
            let last = trajectory.points.last().expect("a point");
            let fate = cells.cell((last[0], last[1])).map(|cell| fates[cell]);
            let reachable = match fate {
                Some(Fate::Certain(set)) => vec![set],
                _ => vec![1, 4],
            };
            Outlook { run: trajectory.run.clone(), fate, forecast: forecast(&reachable), reachable }
        })
        .collect();
    let basin = |set: usize| fates.iter().filter(|fate| **fate == Fate::Certain(set)).count();
    let sizes = [1, 4].map(|set| (set, basin(set), basin(set) * 9 / 10)).to_vec();
    Analysis {
        parameters: Parameters::default(),
        projection: Projection {
            kind: ProjectionChoice::FunctionSpace,
            axes: vec!["predictions, component 1".to_owned(), "predictions, component 2".to_owned()],
            explained_variance: vec![0.627, 0.184],
        },
        lag: Lag { steps: 15 * stride, pairs: 3_106, runs: size.healthy },
        candidates: candidates(stride),
        trajectories,
        surrogate: surrogate(),
        grid: uniform_grid(&cells.lower, &cells.upper, &cells.per_axis, 812_331),
        quality: quality(trusted),
        morse_graph: morse_graph(sets, vec![(0, 1), (2, 0), (2, 3), (3, 1), (3, 4)]),
        basins: Basins { fates: runs_of(&fates), sizes, outlook },
        retraction: Some(retraction(&fates, &labels, roles.len())),
    }
}

fn uniform_grid(lower: &[f64], upper: &[f64], per_axis: &[usize], edges: u64) -> Grid {
    let cells: usize = per_axis.iter().product();
    let level = GridLevel {
        subdivisions: cells.trailing_zeros(),
        cells_per_axis: per_axis.to_vec(),
        keys: vec![(0, cells)],
    };
    Grid {
        lower: lower.to_vec(),
        upper: upper.to_vec(),
        cells_per_axis: per_axis.to_vec(),
        cells,
        edges,
        levels: vec![level],
    }
}

/// The graph with these edges, which are the whole Hasse diagram.
fn morse_graph(sets: Vec<MorseSet>, edges: Vec<(usize, usize)>) -> MorseGraph {
    let mut graph = MorseGraph { sets, edges, reduced: ReducedMorseGraph::default() };
    reduce(&mut graph);
    graph
}

/// Takes out the sets of trivial index.
fn reduce(graph: &mut MorseGraph) {
    let MorseGraph { sets, edges, reduced } = graph;
    reduced.sets = (0..sets.len()).filter(|&set| !sets[set].conley_index.is_trivial()).collect();
    let mut reached: Vec<Vec<bool>> = Vec::new();
    for start in 0..sets.len() {
        let (mut seen, mut stack) = (vec![false; sets.len()], vec![start]);
        while let Some(set) = stack.pop() {
            for &(_, to) in edges.iter().filter(|(from, _)| *from == set) {
                if !std::mem::replace(&mut seen[to], true) {
                    stack.push(to);
                }
            }
        }
        reached.push(seen);
    }
    let kept = &reduced.sets;
    let pairs = kept.iter().flat_map(|&from| kept.iter().map(move |&to| (from, to)));
    let direct = |&(from, to): &(usize, usize)| {
        reached[from][to] && !kept.iter().any(|&between| reached[from][between] && reached[between][to])
    };
    reduced.edges = pairs.filter(direct).collect();
}

/// Cells given to where they lead, those that lead to several attractors to the saddle between them.
fn retraction(fates: &[Fate], labels: &[Option<usize>], sets: usize) -> Retraction {
    let tile = |(fate, label): (&Fate, &Option<usize>)| match (label, fate) {
        (Some(set), _) | (None, Fate::Certain(set)) => Tile::MorseSet(*set),
        (None, Fate::Undecided) => Tile::MorseSet(sets.min(4) - 1),
        (None, Fate::Escapes | Fate::Untrusted) => Tile::Escape,
    };
    let tiles: Vec<Tile> = fates.iter().zip(labels).map(tile).collect();
    let extent = |tile: Tile| {
        let cells = tiles.iter().filter(|other| **other == tile).count();
        Extent { cells, volume_share: cells as f64 / tiles.len() as f64 }
    };
    Retraction {
        existence: Existence::Found,
        classes: Classes { recurrent: sets, successor: 400, predecessor: 30, ..Classes::default() },
        sets: (0..sets).map(|set| extent(Tile::MorseSet(set))).collect(),
        escape: extent(Tile::Escape),
        uncoloured: Extent::default(),
        tiles: runs_of(&tiles),
    }
}

fn surrogate() -> Surrogate {
    let process = Hyperparameters {
        length_scales: vec![1.31, 2.4],
        signal_variance: 3.2,
        noise_variance: 0.012,
        log_marginal_likelihood: 812.4,
    };
    Surrogate {
        kernel: Kernel::Matern52,
        outputs: vec![process; 2],
        widening: Some(4.86),
        bending: Some(vec![0.004, 0.003]),
        pairs: 3_106,
        centres: 2_000,
        neglected_variance: 2.1e-4,
    }
}

fn quality(trusted_cells: f64) -> Quality {
    Quality {
        explained_variance: 0.811,
        skill: vec![0.987, 0.962],
        displacement_skill: vec![0.914, 0.902],
        skill_over_persistence: 0.931,
        negative_log_predictive_density: -1.84,
        nominal_coverage: 0.9,
        coverage: 0.884,
        trusted_points: 0.968,
        trusted_cells,
        confidence: Some(0.95),
        assessed_runs: 20,
        left_out: LeftOut { without_predictions: 0, without_loss: 0, far: 9, disturbed: 31 },
        low_confidence: Vec::new(),
    }
}

/// The shapes of the Morse sets; the numbers follow the smallest cell, so from left to right.
fn inside((x, y): (f64, f64)) -> Option<usize> {
    let disc = |cx: f64, cy: f64, rx: f64, ry: f64| ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) < 1.0;
    if disc(-1.0, -0.16, 0.17, 0.11) {
        Some(1)
    } else if disc(1.0, 0.17, 0.12, 0.10) {
        Some(4)
    } else if disc(0.0, 0.01, 0.06, 0.05) {
        Some(3)
    } else if disc(-1.32, 1.48, 0.10, 0.035) {
        Some(0)
    } else if disc(-0.05, 1.95, 0.09, 0.04) {
        Some(2)
    } else if disc(1.62, 1.9, 0.05, 0.045) {
        Some(5)
    } else {
        None
    }
}

/// What becomes of a place.
fn fate((x, y): (f64, f64), near: &impl Fn((f64, f64)) -> f64) -> Fate {
    let distance = near((x, y));
    if distance > 0.26 {
        Fate::Untrusted
    } else if distance > 0.16 && (x.abs() > 1.2 || y > 2.0) && flow_leaves((x, y), near) {
        Fate::Escapes
    } else if (x + 0.04 * y).abs() < 0.05 + 0.03 * y.abs() {
        Fate::Undecided
    } else if x < 0.0 {
        Fate::Certain(1)
    } else {
        Fate::Certain(4)
    }
}

/// Whether the flow goes away from the data.
fn flow_leaves(point: (f64, f64), near: &impl Fn((f64, f64)) -> f64) -> bool {
    near(flow(point, 0.2)) > near(point) - 0.1
}

fn set(
    id: usize,
    role: Role,
    cells: &Cells,
    labels: &[Option<usize>],
    trajectories: &[Trajectory],
) -> MorseSet {
    let mut spans = Vec::new();
    let mut first = 0;
    for (label, length) in runs_of(labels) {
        if label == Some(id) {
            spans.push((first, length));
        }
        first += length;
    }
    let size: usize = spans.iter().map(|span| span.1).sum();
    let centres: Vec<(f64, f64)> = spans
        .iter()
        .flat_map(|&(first, length)| first..first + length)
        .map(|cell| cells.centre(cell))
        .collect();
    let extreme = |pick: fn(f64, f64) -> f64, from: f64| {
        let of = |get: fn(&(f64, f64)) -> f64| centres.iter().map(get).fold(from, pick);
        vec![of(|centre| centre.0), of(|centre| centre.1)]
    };
    let mut losses = Vec::new();
    let mut visits = Vec::new();
    for trajectory in trajectories {
        let here: Vec<usize> =
            (0..trajectory.steps.len()).filter(|&at| trajectory.morse_sets[at] == Some(id)).collect();
        losses.extend(here.iter().filter_map(|&at| trajectory.losses[at]));
        if let (Some(&first), Some(&last)) = (here.first(), here.last()) {
            visits.push(Visit {
                run: trajectory.run.clone(),
                checkpoints: here.len(),
                first_step: trajectory.steps[first],
                last_step: trajectory.steps[last],
                ends_here: last + 1 == trajectory.steps.len(),
            });
        }
    }
    losses.sort_by(f64::total_cmp);
    MorseSet {
        cells: spans,
        size,
        volume_share: size as f64 / cells.count() as f64,
        lower: extreme(f64::min, f64::INFINITY),
        upper: extreme(f64::max, f64::NEG_INFINITY),
        role,
        conley_index: conley_index(role),
        loss: (!losses.is_empty()).then(|| LossSummary {
            min: losses[0],
            median: losses[losses.len() / 2],
            count: losses.len(),
        }),
        visits,
    }
}

/// That of a set which may hold nothing.
fn trivial() -> ConleyIndex {
    ConleyIndex::Defined { prime: 5, degrees: vec![vec![]; 3] }
}

/// That of a stable fixed point, of a saddle, or none.
fn conley_index(role: Role) -> ConleyIndex {
    let factor = || vec![Polynomial { coefficients: vec![-1, 1] }];
    let degrees = match role {
        Role::Attractor => vec![factor(), vec![], vec![]],
        Role::Intermediate => vec![vec![], factor(), vec![]],
        Role::Repeller => vec![vec![], vec![], factor()],
        Role::Open => return ConleyIndex::Undefined { reason: Undefined::Escapes },
    };
    ConleyIndex::Defined { prime: 5, degrees }
}

/// Two hundred paths, most of them to the first of some attractors.
fn forecast(reachable: &[usize]) -> Forecast {
    let shares: &[usize] = if reachable.len() == 1 { &[200] } else { &[150, 50] };
    let ending = |(&set, &paths): (&usize, &usize)| Ending {
        end: End::Attractor(set),
        paths,
        probability: paths as f64 / 200.0,
        standard_error: 0.03,
        lags: 4.2,
        loss: Some(0.25),
    };
    Forecast { paths: 200, horizon: 50, ends: reachable.iter().zip(shares).map(ending).collect() }
}

fn candidates(stride: u64) -> Vec<Candidate> {
    let candidate = |lag: u64, skill: [f64; 2], persistence: f64, motion: f64, reason: &str| Candidate {
        projection: ProjectionChoice::FunctionSpace,
        lag_steps: lag * stride,
        skill: skill.to_vec(),
        displacement_skill: skill.map(|skill| 2.0 * skill - 1.0).to_vec(),
        skill_over_persistence: persistence,
        errors: Errors { surrogate: 0.08, persistence: 0.08 / (1.0 - persistence).sqrt(), constant: 1.0 },
        motion_cells: motion,
        loss_correlation: Some(0.93),
        qualifies: reason.is_empty(),
        reason: reason.to_owned(),
    };
    vec![
        candidate(1, [0.998, 0.991], 0.21, 0.9, "moves by less than 3 cells in one lag"),
        candidate(5, [0.992, 0.978], 0.74, 2.6, "moves by less than 3 cells in one lag"),
        candidate(15, [0.987, 0.962], 0.931, 7.4, ""),
    ]
}

/// The same training seen in one coordinate or in three.
pub(super) fn in_dimension(dimension: usize) -> ReportInput {
    let mut input = report(Size { healthy: 30, ..Size::default() });
    let analysis = input.analysis.as_mut().expect("an analysis");
    let per_axis: Vec<usize> = if dimension == 1 { vec![64] } else { vec![32, 32, 16] };
    let lower = [-2.1, -0.75, -1.2];
    let upper = [2.1, 2.45, 1.2];
    let depth = |x: f64, y: f64| 0.35 * x * y;
    for trajectory in &mut analysis.trajectories {
        for point in &mut trajectory.points {
            point.push(depth(point[0], point[1]));
            point.truncate(dimension);
        }
    }
    let cells: usize = per_axis.iter().product();
    let centre = |cell: usize| {
        let mut rest = cell;
        let mut point = vec![0.0; dimension];
        for axis in (0..dimension).rev() {
            let at = rest % per_axis[axis];
            rest /= per_axis[axis];
            point[axis] =
                lower[axis] + (at as f64 + 0.5) * (upper[axis] - lower[axis]) / per_axis[axis] as f64;
        }
        point
    };
    let label = |cell: usize| {
        let point = centre(cell);
        let near = |x: f64, z: f64, size: f64| {
            let third = point.get(2).map_or(0.0, |at| at - z);
            (point[0] - x).hypot(third) < size && point.get(1).is_none_or(|y| (y - 0.0).abs() < 0.25)
        };
        [(-1.0, 0.0, 0.2, 1), (1.0, 0.0, 0.16, 4), (0.0, 0.0, 0.09, 3)]
            .into_iter()
            .find(|(x, z, size, _)| near(*x, *z, *size))
            .map(|found| found.3)
    };
    let labels: Vec<Option<usize>> = (0..cells).map(label).collect();
    let fates: Vec<Fate> = (0..cells)
        .map(centre)
        .map(|point| {
            let off = point.get(2).map_or(0.0, |z| (z - depth(point[0], point[1])).abs());
            match point[0] {
                x if off > 0.4 || x.abs() > 1.8 => Fate::Untrusted,
                x if x.abs() < 0.12 => Fate::Undecided,
                x if x < 0.0 => Fate::Certain(1),
                _ => Fate::Certain(4),
            }
        })
        .collect();
    for (id, set) in analysis.morse_graph.sets.iter_mut().enumerate() {
        let mut first = 0;
        set.cells.clear();
        for (label, length) in runs_of(&labels) {
            if label == Some(id) {
                set.cells.push((first, length));
            }
            first += length;
        }
        set.size = set.cells.iter().map(|span| span.1).sum();
        set.lower.resize(dimension, -0.2);
        set.upper.resize(dimension, 0.2);
    }
    analysis.grid = uniform_grid(&lower[..dimension], &upper[..dimension], &per_axis, 9_000);
    analysis.basins.fates = runs_of(&fates);
    analysis.retraction = Some(retraction(&fates, &labels, analysis.morse_graph.sets.len()));
    analysis.projection.axes = (1..=dimension).map(|axis| format!("predictions, component {axis}")).collect();
    analysis.projection.explained_variance = [0.627, 0.184, 0.071][..dimension].to_vec();
    input
}

/// A map so near to the identity that it has hundreds of Morse sets.
pub(super) fn near_identity() -> ReportInput {
    let mut input = report(Size { healthy: 12, ..Size::default() });
    let analysis = input.analysis.as_mut().expect("an analysis");
    let rows = analysis.grid.cells_per_axis[1];
    let graph = &mut analysis.morse_graph;
    let mut chance = Chance(3);
    for number in 0..240 {
        let cell = (20 + (chance.uniform() * 90.0) as usize) * rows + 20 + (chance.uniform() * 90.0) as usize;
        let mut set = graph.sets[0].clone();
        set.cells = vec![(cell, 2)];
        set.size = 2;
        set.visits.clear();
        if number % 3 == 0 {
            set.conley_index = trivial();
        }
        let id = graph.sets.len();
        graph.sets.push(set);
        let above = (chance.uniform() * id as f64) as usize;
        graph.edges.push((id, above));
    }
    for attractor in 0..14 {
        let mut set = graph.sets[1].clone();
        set.cells = vec![((25 + attractor * 5) * rows + 30, 3)];
        set.size = 3;
        set.visits.truncate(attractor);
        let id = graph.sets.len();
        graph.sets.push(set);
        graph.edges.extend([(6 + attractor, id), (90 + attractor * 3, id)]);
    }
    graph.edges.sort_unstable();
    reduce(graph);
    analysis.retraction = None;
    analysis.quality.low_confidence = vec![
        "the map was learned from one run only, so it is not known how a new run would behave".to_owned(),
        "the map was learned from only 38 pairs of checkpoints".to_owned(),
    ];
    input
}

/// A picture small enough to be read: 4 × 4 cells, three Morse sets, two runs.
pub(super) fn tiny() -> ReportInput {
    let mut input = report(Size { healthy: 1, checkpoints: 12, subdivisions: 4 });
    input.alerts.retain(|alert| alert.run == "lr-0.8");
    let kept = ["lr-0.8", "seed-000"];
    input.runs.retain(|run| kept.contains(&run.run.as_str()));
    let analysis = input.analysis.as_mut().expect("an analysis");
    analysis.trajectories.retain(|trajectory| kept.contains(&trajectory.run.as_str()));
    analysis.grid = uniform_grid(&[0.0, 0.0], &[4.0, 4.0], &[4, 4], 31);
    let paths = [vec![(0.5, 3.5), (1.2, 2.0), (0.5, 0.5)], vec![(3.5, 3.5), (2.2, 2.0), (3.6, 0.4)]];
    for (trajectory, path) in analysis.trajectories.iter_mut().zip(paths) {
        trajectory.steps = vec![0, 100, 200];
        trajectory.points = path.into_iter().map(|(x, y)| vec![x, y]).collect();
        trajectory.losses = vec![Some(1.5), Some(0.4), Some(0.25)];
        trajectory.morse_sets = vec![None; 3];
    }
    analysis.trajectories[0].morse_sets[2] = Some(0);
    analysis.trajectories[1].morse_sets[2] = Some(2);
    let set = |cells: Vec<(usize, usize)>, role: Role, run: Option<&str>| {
        let size = cells.iter().map(|span| span.1).sum();
        let visit = |run: &str| Visit {
            run: run.to_owned(),
            checkpoints: 1,
            first_step: 200,
            last_step: 200,
            ends_here: true,
        };
        MorseSet {
            cells,
            size,
            volume_share: size as f64 / 16.0,
            lower: vec![0.0, 0.0],
            upper: vec![1.0, 1.0],
            role,
            conley_index: conley_index(role),
            loss: run.map(|_| LossSummary { min: 0.25, median: 0.25, count: 1 }),
            visits: run.map(visit).into_iter().collect(),
        }
    };
    let mut sets = vec![
        set(vec![(0, 2)], Role::Attractor, Some("lr-0.8")),
        set(vec![(6, 1)], Role::Intermediate, None),
        set(vec![(12, 1)], Role::Open, Some("seed-000")),
        set(vec![(14, 1)], Role::Repeller, None),
    ];
    sets[3].conley_index = trivial();
    analysis.morse_graph = morse_graph(sets, vec![(1, 0), (1, 2), (3, 1)]);
    analysis.basins = Basins {
        fates: vec![
            (Fate::Certain(0), 7),
            (Fate::Untrusted, 1),
            (Fate::Escapes, 2),
            (Fate::Undecided, 1),
            (Fate::Untrusted, 1),
            (Fate::Escapes, 3),
            (Fate::Untrusted, 1),
        ],
        sizes: vec![(0, 7, 6)],
        outlook: Vec::new(),
    };
    let extent = |cells: usize| Extent { cells, volume_share: cells as f64 / 16.0 };
    analysis.retraction = Some(Retraction {
        existence: Existence::Impossible,
        classes: Classes { recurrent: 4, successor: 11, empty: 1, ..Classes::default() },
        tiles: vec![
            (Tile::MorseSet(0), 6),
            (Tile::MorseSet(1), 1),
            (Tile::Escape, 3),
            (Tile::None, 1),
            (Tile::Escape, 1),
            (Tile::MorseSet(2), 2),
            (Tile::MorseSet(3), 1),
            (Tile::Escape, 1),
        ],
        sets: [6, 1, 2, 1].map(extent).to_vec(),
        escape: extent(5),
        uncoloured: extent(1),
    });
    input
}

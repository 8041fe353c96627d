//! Answers another program's questions about the dynamics of *its* map, over this process' standard streams. So
//! `benches/peer_suite/` has CMGDB's own tests and examples computed by this engine.
//!
//! A message is a line of JSON. Where it says `"images": n`, the lower and upper corners of n boxes follow it, 8-byte
//! floating-point numbers in little-endian order.
//!
//! The other program begins with a [`Job`]. While it is worked on, and later when an index is asked for, this one asks
//! for the images of n cells at a time by such a message and gets their boxes by another, or is told to `"stop"`. The job
//! is answered by a [`Solution`], and each [`Question`] after it by its value, or by an `"error"`.
//!
//! Cells are numbered as CMGDB numbers them, from left to right in the tree of all bisections.

#![expect(clippy::print_stderr, reason = "its purpose")]

use std::io::{self, BufRead, BufReader, BufWriter, Read, Stdin, Stdout, Write};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use doodl3::engine::dynamics::{
    AdaptiveMap, BoxMap, Digraph, MorseDecomposition, RectRule, Refinement, Rule,
};
use doodl3::engine::grid::{Level, Rect, UniformGrid};
use doodl3::engine::homology::{
    ConleyIndex, adaptive_conley_index_of_cells, adaptive_conley_indices, conley_index_of_cells,
    conley_indices,
};
use doodl3::engine::{Cancel, Control, EngineError, Mode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The prime of CMGDB's coefficients.
const PRIME: u32 = 5;

/// What to compute first.
#[derive(Deserialize)]
struct Job {
    lower: Vec<f64>,
    upper: Vec<f64>,
    /// Whether the ends of each axis are glued together.
    periodic: Vec<bool>,
    init: u32,
    min: u32,
    max: u32,
    limit: usize,
    /// Whether Conley indices are wanted.
    index: bool,
    /// Most images asked for at a time.
    chunk: usize,
}

/// The Morse graph. Sets come by their smallest cells.
#[derive(Serialize)]
struct Solution {
    /// Number of cells of the grid.
    cells: u32,
    sets: Vec<Vec<u32>>,
    /// Pairs of sets of which the second can be reached from the first.
    order: Vec<(usize, usize)>,
    /// Those that do not follow from others.
    edges: Vec<(usize, usize)>,
    /// A string for each degree, none of them where the index is undefined, and no indices if none were wanted.
    indices: Vec<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    /// Lower and upper corner of each cell.
    Boxes(Vec<u32>),
    /// The cells to which each cell is sent, increasing.
    Successors(Vec<u32>),
    /// The Morse sets that each cell can reach, increasing.
    Reachable(Vec<u32>),
    /// The cells on paths from some Morse sets to others.
    Between(Vec<usize>, Vec<usize>),
    /// The Conley index of some cells together.
    Index(Vec<u32>),
}

fn main() -> ExitCode {
    match Pipe::standard().and_then(|(pipe, job)| serve(&pipe, &job)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does the job, and answers questions until the other side closes its pipe.
fn serve(pipe: &Pipe, job: &Job) -> io::Result<()> {
    let control = Control::new(pipe.cancel.clone());
    let enclose = |cells: &[Rect], images: &mut [Option<Rect>]| pipe.images(cells, images);
    let rule = RectRule { enclose, mode: Mode::Compatible };
    let domain = Rect::new(&job.lower, &job.upper);
    if job.init == job.max {
        talk(pipe, &uniform(domain, job, &rule, &control), &rule, job.index, &control)
    } else {
        let refinement = Refinement { init: job.init, min: job.min, max: job.max, limit: job.limit };
        let map = AdaptiveMap::refine(domain, &job.periodic, refinement, &rule, &control);
        talk(pipe, &map, &rule, job.index, &control)
    }
}

fn talk<M: CellMap>(
    pipe: &Pipe,
    map: &Result<M, EngineError>,
    rule: &impl Rule,
    with_indices: bool,
    control: &Control,
) -> io::Result<()> {
    let served = map.as_ref().map_err(Clone::clone).and_then(|map| Served::of(map, rule, control));
    match served {
        Ok(served) => served.answer_all(pipe, with_indices),
        Err(error) => pipe.answer(&json!({ "error": error.to_string() })),
    }
}

fn uniform<F: Fn(&[Rect], &mut [Option<Rect>]) + Sync>(
    domain: Rect,
    job: &Job,
    rule: &RectRule<F>,
    control: &Control,
) -> Result<BoxMap, EngineError> {
    let grid = UniformGrid::new(domain, job.max)?.with_periodic_axes(&job.periodic);
    let cells: Vec<Rect> = (0..grid.cells()).map(|cell| grid.rect(cell)).collect();
    let mut images = vec![None; cells.len()];
    (rule.enclose)(&cells, &mut images);
    control.check()?;
    BoxMap::from_boxes(&grid, &images, rule.mode, control)
}

/// A map on the cells of any grid.
trait CellMap: Digraph {
    fn place(&self, cell: u32) -> (&Level, u64);

    fn indices(
        &self,
        rule: &impl Rule,
        morse: &MorseDecomposition,
        control: &Control,
    ) -> Result<Vec<ConleyIndex>, EngineError>;

    fn index(&self, rule: &impl Rule, cells: &[u32], control: &Control) -> Result<ConleyIndex, EngineError>;
}

impl CellMap for BoxMap {
    fn place(&self, cell: u32) -> (&Level, u64) {
        (self.grid().level(), cell.into())
    }

    fn indices(
        &self,
        _: &impl Rule,
        morse: &MorseDecomposition,
        control: &Control,
    ) -> Result<Vec<ConleyIndex>, EngineError> {
        conley_indices(self.grid(), self, morse, PRIME, control)
    }

    fn index(&self, _: &impl Rule, cells: &[u32], control: &Control) -> Result<ConleyIndex, EngineError> {
        conley_index_of_cells(self, cells, PRIME, control)
    }
}

impl CellMap for AdaptiveMap {
    fn place(&self, cell: u32) -> (&Level, u64) {
        self.grid().cell(cell)
    }

    fn indices(
        &self,
        rule: &impl Rule,
        morse: &MorseDecomposition,
        control: &Control,
    ) -> Result<Vec<ConleyIndex>, EngineError> {
        adaptive_conley_indices(self, rule, morse, PRIME, control)
    }

    fn index(&self, rule: &impl Rule, cells: &[u32], control: &Control) -> Result<ConleyIndex, EngineError> {
        adaptive_conley_index_of_cells(self, rule, cells, PRIME, control)
    }
}

/// A map with its Morse graph, and CMGDB's numbers for its cells.
struct Served<'a, M, R> {
    map: &'a M,
    rule: &'a R,
    control: &'a Control,
    morse: MorseDecomposition,
    /// The Morse sets, by CMGDB's number of their smallest cells.
    order: Vec<usize>,
    /// Our number of each of CMGDB's cells.
    cell_of: Vec<u32>,
    /// CMGDB's number of each of our cells.
    rank_of: Vec<u32>,
}

impl<'a, M: CellMap, R: Rule> Served<'a, M, R> {
    fn of(map: &'a M, rule: &'a R, control: &'a Control) -> Result<Self, EngineError> {
        let morse = MorseDecomposition::of(map, control)?;
        let mut cell_of: Vec<u32> = (0..map.vertices()).collect();
        cell_of.sort_by_cached_key(|&cell| path(map.place(cell)));
        let mut rank_of = vec![0; cell_of.len()];
        for (rank, &cell) in (0..).zip(&cell_of) {
            rank_of[cell as usize] = rank;
        }
        let mut order: Vec<usize> = (0..morse.sets().len()).collect();
        order.sort_by_key(|&set| morse.sets()[set].iter().map(|cell| rank_of[cell as usize]).min());
        Ok(Self { map, rule, control, morse, order, cell_of, rank_of })
    }

    fn answer_all(&self, pipe: &Pipe, with_indices: bool) -> io::Result<()> {
        let told = |value: Result<Value, EngineError>| {
            value.unwrap_or_else(|error| json!({ "error": error.to_string() }))
        };
        pipe.answer(&told(self.solution(with_indices)))?;
        while let Some(question) = pipe.question()? {
            pipe.answer(&told(self.answer(question)))?;
        }
        Ok(())
    }

    fn solution(&self, with_indices: bool) -> Result<Value, EngineError> {
        let mut indices = Vec::new();
        if with_indices {
            let found = self.map.indices(self.rule, &self.morse, self.control)?;
            indices = self.order.iter().map(|&set| found[set].unseparated()).collect();
        }
        let place = self.places();
        let pairs = self.order.iter().flat_map(|&from| self.order.iter().map(move |&to| (from, to)));
        let named = |(from, to): (usize, usize)| (place[from], place[to]);
        let solution = Solution {
            cells: self.map.vertices(),
            sets: self.order.iter().map(|&set| self.ranks(self.morse.sets()[set].iter())).collect(),
            order: pairs
                .filter(|&(from, to)| from != to && self.morse.reaches(from, to))
                .map(named)
                .collect(),
            edges: self.morse.edges().iter().copied().map(named).collect(),
            indices,
        };
        Ok(json!(solution))
    }

    fn answer(&self, question: Question) -> Result<Value, EngineError> {
        let (place, cells) = (self.places(), question.cells());
        if let Some(odd) = cells.iter().find(|&&cell| cell >= self.map.vertices()) {
            return Ok(
                json!({ "error": format!("there is no cell {odd}: the grid has {}", self.map.vertices()) }),
            );
        }
        let mut own: Vec<u32> = cells.iter().map(|&rank| self.cell_of[rank as usize]).collect();
        match question {
            Question::Boxes(_) => {
                let corners = |cell: u32| {
                    let (level, key) = self.map.place(cell);
                    let rect = level.rect(key);
                    [rect.lower(), rect.upper()].concat()
                };
                Ok(own.into_iter().map(corners).collect())
            }
            Question::Successors(_) => Ok(own.into_iter().map(|cell| json!(self.successors(cell))).collect()),
            Question::Reachable(_) => {
                let reachable = self.morse.reachable_from(self.map, &own, self.control)?;
                let named = |sets: Vec<usize>| {
                    let mut named: Vec<usize> = sets.into_iter().map(|set| place[set]).collect();
                    named.sort_unstable();
                    json!(named)
                };
                Ok(reachable.into_iter().map(named).collect())
            }
            Question::Between(from, to) => {
                let named = |sets: &[usize]| sets.iter().map(|&set| self.order[set]).collect::<Vec<_>>();
                let cells =
                    self.morse.connecting_cells(self.map, &named(&from), &named(&to), self.control)?;
                Ok(json!(self.ranks(cells.into_iter())))
            }
            Question::Index(_) => {
                own.sort_unstable();
                own.dedup();
                Ok(json!(self.map.index(self.rule, &own, self.control)?.unseparated()))
            }
        }
    }

    /// What place each of our Morse sets has in the answers.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![0; self.order.len()];
        for (place, &set) in self.order.iter().enumerate() {
            places[set] = place;
        }
        places
    }

    fn successors(&self, cell: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut run = self.map.successors(cell, 0);
        while !run.is_empty() {
            found.extend(run.clone());
            run = self.map.successors(cell, run.end);
        }
        self.ranks(found.into_iter())
    }

    /// CMGDB's numbers of some cells, increasing.
    fn ranks(&self, cells: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut ranks: Vec<u32> = cells.map(|cell| self.rank_of[cell as usize]).collect();
        ranks.sort_unstable();
        ranks
    }
}

impl Question {
    fn cells(&self) -> &[u32] {
        match self {
            Self::Boxes(cells) | Self::Successors(cells) | Self::Reachable(cells) | Self::Index(cells) => {
                cells
            }
            Self::Between(..) => &[],
        }
    }
}

/// The way to a cell in the tree of bisections, a bit for each from the highest on. No leaf's way begins with another's,
/// so leaves come from left to right in the order of these.
fn path((level, key): (&Level, u64)) -> u64 {
    let mut below: Vec<u32> = (0..level.dimension()).map(|axis| level.cells_along(axis).ilog2()).collect();
    let mut path = 0;
    for depth in 0..level.depth() {
        let axis = depth as usize % level.dimension();
        below[axis] -= 1;
        path |= u64::from(level.coordinate(key, axis) >> below[axis] & 1) << (63 - depth);
    }
    path
}

/// The other program.
struct Pipe {
    streams: Mutex<(BufReader<Stdin>, BufWriter<Stdout>)>,
    /// Raised when the other side says so or is gone.
    cancel: Cancel,
    /// Most images asked for at a time.
    chunk: usize,
}

impl Pipe {
    /// Reads the job from standard input.
    fn standard() -> io::Result<(Self, Job)> {
        let mut streams = (BufReader::new(io::stdin()), BufWriter::new(io::stdout()));
        let job: Job = serde_json::from_str(&line(&mut streams.0)?)?;
        Ok((Self { streams: Mutex::new(streams), cancel: Cancel::new(), chunk: job.chunk.max(1) }, job))
    }

    fn answer(&self, value: &Value) -> io::Result<()> {
        let (_, out) = &mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_writer(&mut *out, value)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// `None` once the other side has no more.
    fn question(&self) -> io::Result<Option<Question>> {
        let (input, _) = &mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line(input)?;
        Ok(if line.is_empty() { None } else { Some(serde_json::from_str(&line)?) })
    }

    /// Gets the images of some cells. They stay unknown, and the computation is cancelled, where the other side fails.
    fn images(&self, cells: &[Rect], images: &mut [Option<Rect>]) {
        for (cells, images) in cells.chunks(self.chunk).zip(images.chunks_mut(self.chunk)) {
            if self.cancel.is_raised() || self.exchange(cells, images).is_err() {
                self.cancel.raise();
                return;
            }
        }
    }

    fn exchange(&self, cells: &[Rect], images: &mut [Option<Rect>]) -> io::Result<()> {
        let (input, out) = &mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(out, "{}", json!({ "images": cells.len() }))?;
        for corner in cells.iter().flat_map(|cell| [cell.lower(), cell.upper()]) {
            corner.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?;
        }
        out.flush()?;
        let reply: Value = serde_json::from_str(&line(input)?)?;
        if reply["images"] != cells.len() {
            return Err(io::Error::other("told to stop"));
        }
        for (cell, image) in cells.iter().zip(images) {
            let mut bytes = vec![0; 16 * cell.dimension()];
            input.read_exact(&mut bytes)?;
            let (numbers, _) = bytes.as_chunks();
            let ends: Vec<f64> = numbers.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
            *image = Some(Rect::new(&ends[..cell.dimension()], &ends[cell.dimension()..]));
        }
        Ok(())
    }
}

/// The next line, empty at the end.
fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line)
}

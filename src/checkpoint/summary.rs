//! Reducing a checkpoint to what is kept of it, in one pass and bounded memory.

#![expect(
    clippy::inline_always,
    reason = "the loops must become part of a function compiled for the machine"
)]

use std::ops::ControlFlow;
use std::path::Path;

use pulp::{Simd, WithSimd};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use super::dtype::Values;
use super::error::CheckpointError;
use super::layout::Buffer;
use super::open::{Contents, FileIdentity, TensorInfo, open};
use super::select;
use super::sketch::{DIMENSIONS, Key, TensorSketch, fold};
use super::statistics::{Moments, PIECE, Real};
use crate::engine::Cancel;

/// Length of the small sketch of each tensor: the standard deviation of a squared distance is 18 per cent of it.
pub const TENSOR_SKETCH: usize = 64;

/// Number of single weights that are kept as they are.
pub const COORDINATES: usize = 256;

/// How sketches are made. Only sketches of equal parameters are comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct SketchParameters {
    seed: u64,
    dimension: usize,
}

#[derive(Deserialize)]
struct Unchecked {
    seed: u64,
    dimension: usize,
}

impl TryFrom<Unchecked> for SketchParameters {
    type Error = InvalidDimension;

    fn try_from(Unchecked { seed, dimension }: Unchecked) -> Result<Self, InvalidDimension> {
        Self::new(seed, dimension)
    }
}

/// The length of a sketch is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sketch must have 2048, 4096, 8192, 16384 or 32768 numbers, not {0}")]
pub struct InvalidDimension(usize);

impl SketchParameters {
    /// Sketches of `dimension` numbers, with random numbers from `seed`.
    ///
    /// # Errors
    /// When `dimension` is not a power of two from 2,048 to 32,768.
    pub fn new(seed: u64, dimension: usize) -> Result<Self, InvalidDimension> {
        if DIMENSIONS.contains(&dimension) && dimension.is_power_of_two() {
            Ok(Self { seed, dimension })
        } else {
            Err(InvalidDimension(dimension))
        }
    }

    /// Numbers in a sketch of a model that has more parameters than that.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Seed of the random numbers.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl Default for SketchParameters {
    /// 4,096 numbers: squared distances hold within about 2 per cent.
    fn default() -> Self {
        Self { seed: 0, dimension: 4096 }
    }
}

/// What is kept of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Names the content, in hexadecimal: blake3 of the name, shape, type and XXH3-128 of the bytes of each tensor, in
    /// the order of their names. The same weights have the same digest in every format. It tells contents apart that
    /// differ by chance; somebody who sets out to make two files of one digest may succeed.
    pub digest: String,
    /// blake3, in hexadecimal, of the names and shapes of the weights: runs of one architecture have one signature.
    pub signature: String,
    /// The trainer's step: from the file's metadata, else from its name.
    pub step: Option<u64>,
    /// The epoch, likewise.
    pub epoch: Option<f64>,
    /// Number of floating-point elements.
    pub parameters: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The file as it was when it was read.
    pub identity: FileIdentity,
    /// Sketch of all weights.
    pub sketch: Sketch,
    /// Statistics of each tensor, by name; tied ones once, integers too.
    pub statistics: Vec<TensorStatistics>,
    /// A few single weights, the same ones for every checkpoint of this signature, sketched with the same parameters.
    pub coordinates: Vec<Coordinate>,
}

/// A linear sketch of a model's weights: distances of sketches are distances of weights. NaN and infinities count as 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// The numbers.
    pub values: Vec<f32>,
    /// Whether they are the weights themselves, tensor after tensor in the order of the names.
    pub exact: bool,
}

/// One weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// Its tensor, as index into [`Summary::statistics`].
    pub tensor: usize,
    /// Its position in that tensor, row-major.
    pub element: usize,
    /// Its value; NaN and infinities as 0.
    pub value: f32,
}

/// Exact statistics of one tensor's finite elements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorStatistics {
    /// The parameter's name, without wrapper prefixes.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Euclidean norm.
    pub norm: f64,
    /// Mean.
    pub mean: f64,
    /// Variance (population).
    pub variance: f64,
    /// Smallest element; 0 where there is none.
    pub min: f64,
    /// Largest element; 0 where there is none.
    pub max: f64,
    /// Number of elements that are zero.
    pub zeros: u64,
    /// Number of elements that are NaN, infinite or (in `f64`) too large for an `f32`.
    pub nonfinite: u64,
    /// A small linear sketch of this tensor alone, so that the movement of each layer can be told: exact for tensors of
    /// no more elements than its length.
    pub sketch: Vec<f32>,
}

/// Reads the checkpoint at `path` once and reduces it.
///
/// # Errors
/// As [`open`], and when the file changes meanwhile ([`CheckpointError::Changing`]) or `cancel` is raised.
pub fn summarize(
    path: &Path,
    parameters: &SketchParameters,
    cancel: &Cancel,
) -> Result<Summary, CheckpointError> {
    let checkpoint = open(path)?;
    let contents = checkpoint.contents();
    let signature = signature(contents);
    let mut pass = Pass::new(*parameters, &signature, contents.parameters());
    let mut digest = blake3::Hasher::new();
    let mut statistics = Vec::with_capacity(contents.tensors.len());
    let mut buffer = Buffer::default();
    for (index, tensor) in contents.tensors.iter().enumerate() {
        describe(&mut digest, tensor);
        digest.update(tensor.dtype.name().as_bytes());
        if let Some(first) = tensor.tied_to {
            digest.update(contents.tensors[first].name.as_bytes());
            continue;
        }
        pass.begin(tensor, statistics.len());
        let mut content = XxHash3_128::default();
        checkpoint.read_blocks(index, &mut buffer, |block| {
            content.write(block.bytes);
            pass.add(block.start, block.values);
            if cancel.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        digest.update(&content.finish_128().to_le_bytes());
        statistics.push(pass.end(tensor));
    }
    checkpoint.check_unchanged()?;
    Ok(Summary {
        digest: digest.finalize().to_string(),
        signature,
        step: contents.step,
        epoch: contents.epoch,
        parameters: contents.parameters(),
        bytes: contents.file_bytes,
        identity: checkpoint.identity(),
        sketch: pass.whole.finish(),
        statistics,
        coordinates: pass.coordinates,
    })
}

/// Adds a tensor's name and shape to a digest, so that no two lists of tensors give the same bytes.
fn describe(digest: &mut blake3::Hasher, tensor: &TensorInfo) {
    digest.update(&(tensor.name.len() as u64).to_le_bytes()).update(tensor.name.as_bytes());
    digest.update(&(tensor.shape.len() as u64).to_le_bytes());
    for &length in &tensor.shape {
        digest.update(&(length as u64).to_le_bytes());
    }
}

fn signature(contents: &Contents) -> String {
    let mut digest = blake3::Hasher::new();
    for tensor in contents.weights() {
        describe(&mut digest, tensor);
    }
    digest.finalize().to_string()
}

/// The sketch of all weights under way.
enum Whole {
    Exact(Vec<f32>),
    Sums(Vec<f64>),
}

impl Whole {
    fn finish(self) -> Sketch {
        match self {
            Self::Exact(values) => Sketch { values, exact: true },
            Self::Sums(sums) => Sketch { values: sums.into_iter().map(narrow).collect(), exact: false },
        }
    }
}

/// The nearest finite `f32`; sums of numbers near its limits may have become anything.
fn narrow(x: f64) -> f32 {
    if x.is_nan() { 0.0 } else { (x as f32).clamp(f32::MIN, f32::MAX) }
}

/// Moments and sketch of one piece, compiled for the vector instructions of each kind of machine. Tells whether the
/// piece was usable throughout; else it is not sketched.
struct MomentsAndSketch<'a> {
    moments: &'a mut Moments,
    sketch: &'a mut TensorSketch,
    start: usize,
    piece: &'a [f32],
}

impl WithSimd for MomentsAndSketch<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let all_usable = if S::IS_SCALAR {
            self.moments.add::<_, false>(self.piece)
        } else {
            self.moments.add::<_, true>(self.piece)
        };
        if all_usable {
            self.sketch.add(self.start, self.piece);
        }
        all_usable
    }
}

/// What is computed while the tensors go by.
struct Pass {
    parameters: SketchParameters,
    arch: pulp::Arch,
    whole: Whole,
    selected: Vec<u64>,
    coordinates: Vec<Coordinate>,
    /// Number of weights in the tensors before this one.
    position: u64,
    /// The present tensor: its index among the statistics, its moments, sketch, first elements.
    tensor: usize,
    is_weight: bool,
    moments: Moments,
    sketch: TensorSketch,
    first: Vec<f32>,
}

impl Pass {
    fn new(parameters: SketchParameters, signature: &str, weights: u64) -> Self {
        let dimension = parameters.dimension;
        let whole = if weights <= dimension as u64 {
            Whole::Exact(Vec::with_capacity(weights as usize))
        } else {
            Whole::Sums(vec![0.0; dimension])
        };
        Self {
            parameters,
            arch: pulp::Arch::new(),
            whole,
            selected: select::positions(parameters.seed, signature, weights, COORDINATES),
            coordinates: Vec::new(),
            position: 0,
            tensor: 0,
            is_weight: false,
            moments: Moments::new(),
            sketch: TensorSketch::new(dimension),
            first: Vec::new(),
        }
    }

    fn begin(&mut self, tensor: &TensorInfo, index: usize) {
        self.tensor = index;
        self.is_weight = tensor.is_weight();
        self.moments = Moments::new();
        self.sketch.begin(Key::new(self.parameters.seed, &tensor.name));
        self.first.clear();
    }

    /// Takes the elements from `start` on.
    fn add(&mut self, start: usize, values: Values<'_>) {
        match values {
            Values::F32(values) => {
                for (i, piece) in values.chunks(PIECE).enumerate() {
                    self.add_singles(start + i * PIECE, piece);
                }
            }
            Values::F64(values) => {
                for (i, piece) in values.chunks(PIECE).enumerate() {
                    self.add_others(start + i * PIECE, piece);
                }
            }
        }
    }

    /// The common case: everything is done while the piece is in the first-level cache.
    fn add_singles(&mut self, start: usize, piece: &[f32]) {
        let Self { arch, moments, sketch, .. } = self;
        if arch.dispatch(MomentsAndSketch { moments, sketch, start, piece }) {
            self.keep(start, piece);
        } else {
            self.sketch_usable(start, piece);
        }
    }

    fn add_others(&mut self, start: usize, piece: &[f64]) {
        self.moments.add::<_, false>(piece);
        self.sketch_usable(start, piece);
    }

    fn sketch_usable<T: Real>(&mut self, start: usize, piece: &[T]) {
        let mut usable = [0.0; PIECE];
        for (usable, &x) in usable.iter_mut().zip(piece) {
            *usable = if x.is_usable() { narrow(x.wide()) } else { 0.0 };
        }
        let usable = &usable[..piece.len()];
        self.sketch.add(start, usable);
        self.keep(start, usable);
    }

    /// Keeps those elements that are kept as they are.
    fn keep(&mut self, start: usize, values: &[f32]) {
        let room = TENSOR_SKETCH.saturating_sub(self.first.len());
        self.first.extend(values.iter().take(room));
        if !self.is_weight {
            return;
        }
        if let Whole::Exact(all) = &mut self.whole {
            all.extend(values);
        }
        let begin = self.position + start as u64;
        while let Some(&selected) = self.selected.get(self.coordinates.len())
            && let Some(&value) = values.get((selected - begin) as usize)
        {
            let element = (selected - self.position) as usize;
            self.coordinates.push(Coordinate { tensor: self.tensor, element, value });
        }
    }

    fn end(&mut self, tensor: &TensorInfo) -> TensorStatistics {
        let sums = self.sketch.finish();
        if self.is_weight {
            self.position += tensor.elements as u64;
            if let Whole::Sums(whole) = &mut self.whole {
                for (whole, sum) in whole.iter_mut().zip(sums) {
                    *whole += sum;
                }
            }
        }
        let sketch = if tensor.elements <= TENSOR_SKETCH {
            self.first.clone()
        } else {
            let key = Key::new(self.parameters.seed, &tensor.name);
            fold(key, sums, TENSOR_SKETCH).into_iter().map(narrow).collect()
        };
        let moments = &self.moments;
        TensorStatistics {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            norm: moments.norm(),
            mean: moments.mean(),
            variance: moments.variance(),
            min: moments.min(),
            max: moments.max(),
            zeros: moments.zeros(),
            nonfinite: moments.nonfinite(),
            sketch,
        }
    }
}

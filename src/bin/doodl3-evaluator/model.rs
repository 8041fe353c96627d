//! A loaded model: evaluated for one checkpoint after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use doodl3::checkpoint::{self, CheckpointError, OpenCheckpoint, normalize_names, sketch_vector};
use doodl3::evaluate::protocol::{Layer, Loss, Model, Program};
use tch::{Device, Kind, Reduction, TchError, Tensor};

use crate::architecture::{self, LayerError};
use crate::probe::{Probe, ProbeError};
use crate::script::{Script, Slot};
use crate::weights::{self, Need, Wanted, WeightsError};

/// Predictions of more numbers than that are sketched to as many.
const PREDICTIONS: usize = 4096;

/// Why a model could not be loaded or evaluated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    /// The device's name makes no sense or names none that is here.
    #[error("device {name} cannot be used: {reason}")]
    Device { name: String, reason: &'static str },
    /// The module's file could not be loaded.
    #[error(
        "this is no TorchScript module that libtorch 2.13 can load (torch.jit.save writes them; a state dict or a .pt2 \
         is none): {}: {}", words(source), path.display()
    )]
    Module { path: PathBuf, source: TchError },
    /// The probe batch could not be loaded.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// What is asked for does not fit together.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor could not be used, or the checkpoint is of another model.
    #[error("{source}: {}", path.display())]
    Weights { path: PathBuf, source: WeightsError },
    /// The program could not be run.
    #[error("the program failed on the probe batch: {}", words(.0))]
    Forward(TchError),
    /// A layer could not be computed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The loss could not be computed.
    #[error(
        "the loss cannot be computed from an output of shape {output:?} and a target of shape {target:?}: {}",
        words(source)
    )]
    Loss { output: Vec<i64>, target: Vec<i64>, source: TchError },
}

/// A program, a probe batch, and the loss.
pub(crate) struct LoadedModel {
    network: Network,
    wanted: BTreeMap<String, Wanted>,
    probe: Probe,
    loss: Loss,
    device: Device,
}

enum Network {
    Script {
        script: Script,
        /// By name without the prefixes of wrappers.
        slots: BTreeMap<String, Slot>,
        /// What the module's file holds for the buffers that a checkpoint may lack.
        own: BTreeMap<String, Tensor>,
    },
    Layers(Vec<Layer>),
}

/// What came out.
pub(crate) struct Evaluated {
    /// `None` where it is not finite.
    pub(crate) loss: Option<f64>,
    /// Empty where one of them is not finite.
    pub(crate) predictions: Vec<f32>,
}

impl LoadedModel {
    /// Loads the program and the probe batch.
    pub(crate) fn load(model: &Model) -> Result<Self, ModelError> {
        let device = device(&model.device)?;
        let (network, wanted) = match &model.program {
            Program::Module(path) => load_script(path, device)
                .map_err(|source| ModelError::Module { path: path.clone(), source })?,
            Program::Architecture(layers) => (Network::Layers(layers.clone()), architecture::wanted(layers)),
        };
        let probe = Probe::load(&model.probe_batch, device, network.float())?;
        match (model.loss, &probe.target, &network) {
            (Loss::Returned, Some(_), _) => Err(ModelError::Contradiction(
                "the program is said to return the loss, but the probe batch has a target: pass what the program needs as \
                 input.0, input.1, …, or name the loss",
            )),
            (Loss::Returned, None, Network::Layers(_)) => Err(ModelError::Contradiction(
                "an architecture returns no loss: name the loss (cross_entropy or mean_squared_error)",
            )),
            (Loss::CrossEntropy | Loss::MeanSquaredError, None, _) => Err(ModelError::Contradiction(
                "the probe batch has no target to compute the loss with: add one, or let the program return the loss",
            )),
            (_, _, Network::Layers(_)) if probe.inputs.len() > 1 => Err(ModelError::Contradiction(
                "an architecture takes one input, but the probe batch has several",
            )),
            _ => Ok(Self { network, wanted, probe, loss: model.loss, device }),
        }
    }

    /// Names and shapes of the tensors that a checkpoint must bring, where the shapes are known beforehand.
    pub(crate) fn parameters(&self) -> BTreeMap<String, Vec<i64>> {
        let required = self.wanted.iter().filter(|(_, want)| want.need == Need::Required);
        required.filter_map(|(name, want)| Some((name.clone(), want.shape.clone()?))).collect()
    }

    /// Evaluates the checkpoint at `path`.
    pub(crate) fn evaluate(&mut self, path: &Path) -> Result<Evaluated, ModelError> {
        let checkpoint = checkpoint::open(path)?;
        let output = tch::no_grad(|| self.output(&checkpoint, path))?;
        // The weights were read in several pieces: they are those of one moment only if the file stayed as it was.
        checkpoint.check_unchanged()?;
        let (loss, predictions) =
            tch::no_grad(|| self.judge(&output)).map_err(|source| ModelError::Loss {
                output: output.size(),
                target: self.probe.target.as_ref().map(Tensor::size).unwrap_or_default(),
                source,
            })?;
        let loss = Some(loss).filter(|loss| loss.is_finite());
        let finite = predictions.iter().all(|value| value.is_finite());
        let predictions =
            if finite { sketch_vector("predictions", &predictions, PREDICTIONS) } else { Vec::new() };
        Ok(Evaluated { loss, predictions })
    }

    fn output(&mut self, checkpoint: &OpenCheckpoint, path: &Path) -> Result<Tensor, ModelError> {
        let weights_error = |source| ModelError::Weights { path: path.to_owned(), source };
        let places = weights::locate(&self.wanted, checkpoint).map_err(weights_error)?;
        match &mut self.network {
            Network::Layers(layers) => {
                let mut parameters = BTreeMap::new();
                for (name, index) in places {
                    let stored = weights::read(checkpoint, index).map_err(weights_error)?;
                    parameters.insert(name, stored.to_kind(Kind::Float).to_device(self.device));
                }
                Ok(architecture::forward(layers, &parameters, &self.probe.inputs[0])?)
            }
            Network::Script { script, slots, own } => {
                for (name, slot) in slots {
                    let value = match places.get(name) {
                        Some(index) => weights::read(checkpoint, *index).map_err(weights_error)?,
                        None => match own.get(name) {
                            Some(own) => own.shallow_clone(),
                            None => continue, // tied to one that is there
                        },
                    };
                    slot.tensor.copy_(&value);
                }
                script.forward(&self.probe.inputs).map_err(ModelError::Forward)
            }
        }
    }

    /// Loss and predictions of an output.
    fn judge(&self, output: &Tensor) -> Result<(f64, Vec<f32>), TchError> {
        let target =
            || self.probe.target.as_ref().ok_or_else(|| TchError::Torch("there is no target".into()));
        match self.loss {
            Loss::Returned => {
                let loss = output.f_mean(Kind::Double)?;
                Ok((loss.f_double_value(&[])?, Vec::new()))
            }
            Loss::MeanSquaredError => {
                let target = target()?;
                // libtorch would stretch one to the other's shape, and mean something else.
                if target.size() != output.size() {
                    return Err(TchError::Shape("they must be equal".into()));
                }
                let losses = output.f_mse_loss(target, Reduction::None)?;
                Ok((self.mean(&losses)?, flat(output)?))
            }
            Loss::CrossEntropy => {
                let (logits, target) = classes_last(output, target()?)?;
                let losses =
                    logits.f_cross_entropy_loss::<Tensor>(&target, None, Reduction::None, -100, 0.)?;
                let predictions = flat(&logits.f_softmax(-1, Kind::Float)?)?;
                // Targets of -100 are left out, as PyTorch leaves them out.
                let counted = if target.kind() == Kind::Int64 { Some(target.f_ne(-100)?) } else { None };
                match (&self.probe.mask, counted) {
                    (None, Some(counted)) => Ok((weighted_mean(&losses, &counted)?, predictions)),
                    _ => Ok((self.mean(&losses)?, predictions)),
                }
            }
        }
    }

    /// Mean of the losses of elements, over those that the mask leaves.
    fn mean(&self, losses: &Tensor) -> Result<f64, TchError> {
        match &self.probe.mask {
            Some(mask) => weighted_mean(losses, &mask.f_reshape(losses.size())?),
            None => losses.f_mean(losses.kind())?.f_double_value(&[]),
        }
    }
}

fn weighted_mean(losses: &Tensor, weights: &Tensor) -> Result<f64, TchError> {
    let weights = weights.f_to_kind(losses.kind())?;
    let sum = losses.f_mul(&weights)?.f_sum(losses.kind())?.f_double_value(&[])?;
    Ok(sum / weights.f_sum(losses.kind())?.f_double_value(&[])?)
}

/// Logits of shape (examples, classes) and their targets, from (…, classes) as language models have them or
/// (examples, classes, …) as PyTorch's loss wants them.
fn classes_last(output: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor), TchError> {
    let (shape, target_shape) = (output.size(), target.size());
    if shape == target_shape {
        return Ok((output.shallow_clone(), target.shallow_clone()));
    }
    let Some((classes, examples)) = shape.split_last() else {
        return Err(TchError::Shape("the output has no axis of classes".into()));
    };
    if examples == target_shape {
        return Ok((output.f_reshape([-1, *classes])?, target.f_reshape([-1])?));
    }
    let without_second: Vec<i64> =
        shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(|(_, n)| *n).collect();
    if shape.len() > 1 && without_second == target_shape {
        return Ok((output.f_movedim_int(1, -1)?.f_reshape([-1, shape[1]])?, target.f_reshape([-1])?));
    }
    Err(TchError::Shape("the target must have the output's shape without the axis of classes".into()))
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let values: Vec<f32> =
        Vec::try_from(tensor.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_reshape([-1])?)?;
    Ok(values)
}

impl Network {
    /// Type of the numbers it computes with.
    fn float(&self) -> Kind {
        match self {
            Self::Layers(_) => Kind::Float,
            Self::Script { slots, .. } => slots
                .values()
                .map(|slot| slot.tensor.kind())
                .find(|kind| matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16))
                .unwrap_or(Kind::Float),
        }
    }
}

fn load_script(path: &Path, device: Device) -> Result<(Network, BTreeMap<String, Wanted>), TchError> {
    let script = Script::load(path, device)?;
    let listed = script.slots()?;
    let names: Vec<&str> = listed.iter().map(|slot| slot.name.as_str()).collect();
    let (mut slots, mut own, mut wanted) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut memory = std::collections::BTreeSet::new();
    for (name, slot) in normalize_names(&names).into_iter().zip(listed) {
        // Of tied tensors a file may hold the first alone, and writing to it is writing to all.
        let tied = slot.tensor.numel() > 0 && !memory.insert(slot.tensor.data_ptr() as usize);
        // A state dict lacks the buffers that are not persistent (masks, position tables); they are constants of the
        // module. Running statistics are no such: without them every answer would be wrong.
        let constant = slot.is_buffer && !name.ends_with("running_mean") && !name.ends_with("running_var");
        if constant && !tied {
            own.insert(name.clone(), slot.tensor.copy());
        }
        let need = if tied || constant { Need::Optional } else { Need::Required };
        wanted.insert(name.clone(), Wanted { need, shape: Some(slot.tensor.size()) });
        slots.insert(name, slot);
    }
    Ok((Network::Script { script, slots, own }, wanted))
}

/// `cpu`, `cuda` or `cuda:N`.
fn device(name: &str) -> Result<Device, ModelError> {
    let refused = |reason| ModelError::Device { name: name.into(), reason };
    let number = match name.split_once(':') {
        None if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => Some(0),
        Some(("cuda", number)) => number.parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| refused("there are cpu and cuda:N"))?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(devices) if number < devices => Ok(Device::Cuda(number)),
        _ => Err(refused("libtorch sees no such device here; use cpu")),
    }
}

/// What libtorch has to say, without the stack of C++ functions and the module's source code.
pub(crate) fn words(error: &TchError) -> String {
    let text = match error {
        TchError::Torch(text) | TchError::Shape(text) => text.clone(),
        other => other.to_string(),
    };
    let text = text.split("Exception raised from").next().unwrap_or_default();
    // TorchScript shows the program's source first and the reason last.
    let reason = text.rsplit_once("RuntimeError: ").map_or(text, |(_, reason)| reason);
    let words: Vec<&str> = reason.split_whitespace().collect();
    let words = words.join(" ");
    words.chars().take(400).collect::<String>().trim_end_matches(['.', ' ']).to_owned()
}

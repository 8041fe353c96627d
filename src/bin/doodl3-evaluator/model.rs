//! A loaded model: evaluated for one checkpoint after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use doodl3::checkpoint::{self, CheckpointError, OpenCheckpoint, normalize_names, sketch_vector};
use doodl3::evaluate::protocol::{self, Layer, Loss, Model};
use tch::{Device, Kind, Tensor};

use crate::architecture::{self, LayerError};
use crate::loss::judge;
use crate::probe::{Probe, ProbeError};
use crate::program::{Program, ProgramError};
use crate::script::{Script, Slot};
use crate::torch_error::TorchError;
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
        "this is no TorchScript module that libtorch 2.13 can load (torch.jit.save writes them; a state dict is none, \
         nor is a .pt2, which goes by `program`): {}", path.display()
    )]
    Module { path: PathBuf, source: TorchError },
    /// The exported program could not be loaded or run.
    #[error(transparent)]
    Program(#[from] ProgramError),
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
    #[error("the checkpoint cannot be evaluated: {}", path.display())]
    Weights { path: PathBuf, source: WeightsError },
    /// libtorch refused a tensor.
    #[error("tensor {name} cannot be put into the model")]
    Assign { name: String, source: TorchError },
    /// The program could not be run.
    #[error("the program failed on the probe batch")]
    Forward(#[source] TorchError),
    /// A layer could not be computed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The loss could not be computed.
    #[error("there is no loss for an output of shape {output:?} and a target of shape {target:?}")]
    Loss { output: Vec<i64>, target: Vec<i64>, source: TorchError },
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
    Exported(Program),
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
            protocol::Program::Exported(path) => {
                let program = Program::load(path, device)?;
                let wanted = program.wanted();
                (Network::Exported(program), wanted)
            }
            protocol::Program::Module(path) => load_script(path, device)
                .map_err(|source| ModelError::Module { path: path.clone(), source })?,
            protocol::Program::Architecture(layers) => {
                (Network::Layers(layers.clone()), architecture::wanted(layers))
            }
        };
        let probe = Probe::load(&model.probe_batch, device, network.float())?;
        let is_architecture = matches!(network, Network::Layers(_));
        let contradiction = match (model.loss, &probe.target) {
            (Loss::Returned, Some(_)) => Some(
                "the program is said to return the loss, but the probe batch has a target: pass what the program \
                 needs as input.0, input.1, …, or name the loss",
            ),
            (Loss::Returned, None) if is_architecture => {
                Some("an architecture returns no loss: name the loss (cross_entropy or mean_squared_error)")
            }
            (Loss::CrossEntropy | Loss::MeanSquaredError, None) => Some(
                "the probe batch has no target to compute the loss with: add one, or let the program return the loss",
            ),
            _ if is_architecture && probe.inputs.len() > 1 => {
                Some("an architecture takes one input, but the probe batch has several")
            }
            _ => None,
        };
        match contradiction {
            Some(words) => Err(ModelError::Contradiction(words)),
            None => Ok(Self { network, wanted, probe, loss: model.loss, device }),
        }
    }

    /// Names and shapes of the tensors that a checkpoint must bring, where the shapes are known beforehand.
    pub(crate) fn parameters(&self) -> BTreeMap<String, Vec<i64>> {
        let required = self.wanted.iter().filter(|(_, want)| want.need == Need::Required);
        required.filter_map(|(name, want)| Some((name.clone(), want.shape.clone()?))).collect()
    }

    /// Evaluates the checkpoint at `path`.
    pub(crate) fn evaluate(&mut self, path: &Path) -> Result<Evaluated, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let checkpoint = checkpoint::open(path)?;
        let output = self.output(&checkpoint, path)?;
        // The weights were read in several pieces: they are those of one moment only if the file stayed as it was.
        checkpoint.check_unchanged()?;
        let (loss, predictions) = judge(self.loss, &output, &self.probe).map_err(|source| {
            let target = self.probe.target.as_ref().map(Tensor::size).unwrap_or_default();
            ModelError::Loss { output: output.size(), target, source }
        })?;
        let finite = predictions.iter().all(|value| value.is_finite());
        Ok(Evaluated {
            loss: Some(loss).filter(|loss| loss.is_finite()),
            predictions: if finite {
                sketch_vector("predictions", &predictions, PREDICTIONS)
            } else {
                Vec::new()
            },
        })
    }

    /// What the program makes of the probe batch with the checkpoint's weights.
    fn output(&mut self, checkpoint: &OpenCheckpoint, path: &Path) -> Result<Tensor, ModelError> {
        let weights_error = |source| ModelError::Weights { path: path.to_owned(), source };
        let places = weights::locate(&self.wanted, checkpoint).map_err(weights_error)?;
        let read = |index: &usize| weights::read(checkpoint, *index).map_err(weights_error);
        let assign = |name: &str| {
            let name = name.to_owned();
            move |source: tch::TchError| ModelError::Assign { name, source: source.into() }
        };
        match &mut self.network {
            Network::Layers(layers) => {
                let mut parameters = BTreeMap::new();
                for (name, index) in &places {
                    let tensor = read(index)?.f_to_kind(Kind::Float).map_err(assign(name))?;
                    parameters.insert(name.clone(), tensor.f_to_device(self.device).map_err(assign(name))?);
                }
                Ok(architecture::forward(layers, &parameters, &self.probe.inputs[0])?)
            }
            Network::Exported(program) => {
                program.assign(
                    |name| places.get(name).map(read).transpose(),
                    |name, source| assign(name)(source),
                )?;
                Ok(program.forward(&self.probe.inputs)?)
            }
            Network::Script { script, slots, own } => {
                for (name, slot) in slots {
                    let value = match (places.get(name), own.get(name)) {
                        (Some(index), _) => read(index)?,
                        (None, Some(own)) => own.shallow_clone(),
                        (None, None) => continue, // tied to one that is there
                    };
                    slot.tensor.f_copy_(&value).map_err(assign(name))?;
                }
                script.forward(&self.probe.inputs).map_err(ModelError::Forward)
            }
        }
    }
}

impl Network {
    /// Type of the numbers it computes with.
    fn float(&self) -> Kind {
        match self {
            Self::Layers(_) => Kind::Float,
            Self::Exported(program) => program.float(),
            Self::Script { slots, .. } => slots
                .values()
                .map(|slot| slot.tensor.kind())
                .find(|kind| matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16))
                .unwrap_or(Kind::Float),
        }
    }
}

fn load_script(path: &Path, device: Device) -> Result<(Network, BTreeMap<String, Wanted>), TorchError> {
    let script = Script::load(path, device)?;
    let listed = script.slots()?;
    let names: Vec<&str> = listed.iter().map(|slot| slot.name.as_str()).collect();
    let slots: BTreeMap<String, Slot> = normalize_names(&names).into_iter().zip(listed).collect();
    let (mut own, mut wanted, mut first_at) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (name, slot) in &slots {
        let first: &mut String =
            first_at.entry(slot.tensor.data_ptr() as usize).or_insert_with(|| name.clone());
        let tied_to = (first != name && slot.tensor.numel() > 0).then(|| first.clone());
        // A state dict lacks the buffers that are not persistent (masks, position tables); they are constants of the
        // module. Running statistics are no such: without them every answer would be wrong.
        let constant = slot.is_buffer && !name.ends_with("running_mean") && !name.ends_with("running_var");
        if constant && tied_to.is_none() {
            own.insert(name.clone(), slot.tensor.copy());
        }
        let need = if constant || tied_to.is_some() { Need::Optional } else { Need::Required };
        wanted.insert(name.clone(), Wanted { need, shape: Some(slot.tensor.size()), tied_to });
    }
    Ok((Network::Script { script, slots, own }, wanted))
}

/// `cpu`, `cuda` or `cuda:N`.
fn device(name: &str) -> Result<Device, ModelError> {
    let refused = |reason| ModelError::Device { name: name.into(), reason };
    let number: Option<usize> = match name.split_once(':') {
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

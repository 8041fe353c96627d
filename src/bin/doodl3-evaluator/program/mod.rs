//! Programs of `torch.export`: the computation of a model as a list of operators, run without Python.
//!
//! | file | what it does |
//! |---|---|
//! | `archive.rs` | finds the parts of a .pt2 file and refuses what only looks like one |
//! | `graph.rs` | `model.json` as types |
//! | `run.rs` | runs a graph node by node |
//! | `symbolic.rs` | arithmetic on numbers that depend on the inputs |
//! | `dispatch.rs`, `dispatch.cpp` | calls libtorch's operators by name |
//!
//! Nothing in a file is executed but the operators that it names, which are libtorch's own. Parameters and buffers come
//! from checkpoints; those in the file are never read, only which of them are tied.

mod archive;
mod dispatch;
mod graph;
mod run;
mod symbolic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use doodl3::checkpoint::normalize_names;
use tch::{Device, Kind, TchError, Tensor};

use self::archive::{Archive, kind};
use self::dispatch::Value;
use self::graph::{Argument, InputSpec, Module, TensorMeta};
use self::run::{Block, Values};
use crate::torch_error::TorchError;
use crate::weights::{Need, Wanted};

pub(crate) use self::archive::ArchiveError;
pub(crate) use self::run::NodeError;

/// Types of numbers that have gradients.
const WIDEST_FIRST: [Kind; 4] = [Kind::Double, Kind::Float, Kind::Half, Kind::BFloat16];

/// Why a program could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The file cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Its parts do not fit together.
    #[error("the program is damaged or hostile ({what}); export it again: {}", path.display())]
    Signature { what: String, path: PathBuf },
    /// It needs what is not there.
    #[error("the program cannot be run: {}", path.display())]
    Node { path: PathBuf, source: NodeError },
    /// The probe batch is not for this program.
    #[error(
        "the probe batch does not fit the program: {0}; use the one that was exported with it, or export the program \
         with a batch that is dynamic"
    )]
    Input(String),
    /// It failed on the probe batch.
    #[error("the program failed on the probe batch")]
    Run(#[from] NodeError),
    /// libtorch refused a tensor.
    #[error("the program's {name} cannot be used")]
    Tensor { name: String, source: TorchError },
    /// What comes out is no tensor.
    #[error("the program's first output is {0}; the loss or the model's output must come first")]
    Output(&'static str),
}

/// A program with the weights of the checkpoint that was put into it last.
pub(crate) struct Program {
    block: Block,
    /// Whether it writes into its arguments, which are then copies.
    writes: bool,
    device: Device,
    /// Tensors that a checkpoint brings, by name without the prefixes of wrappers.
    slots: BTreeMap<String, Slot>,
    /// Constants, by their names in the graph.
    constants: BTreeMap<String, Tensor>,
    inputs: Vec<Input>,
    /// Position of the output that counts.
    output: usize,
}

/// A parameter or buffer.
struct Slot {
    /// Name in the graph.
    argument: String,
    kind: Kind,
    shape: Vec<i64>,
    is_parameter: bool,
    /// Whether a node, or one of a tensor that it is tied to, uses it.
    is_used: bool,
    /// Whether state dicts hold it.
    is_persistent: bool,
    tied_to: Option<String>,
    /// `None` before a checkpoint was put in.
    value: Option<Tensor>,
    /// What the file itself holds for a buffer that state dicts lack.
    own: Option<Tensor>,
}

/// An input of the probe batch.
struct Input {
    /// Name in the graph.
    argument: String,
    kind: Option<Kind>,
    /// The sizes that do not vary.
    sizes: Vec<Option<i64>>,
}

impl Program {
    /// Reads the program at `path`, to be run on `device`.
    pub(crate) fn load(path: &Path, device: Device) -> Result<Self, ProgramError> {
        let archive = Archive::read(path)?;
        Self::new(archive, device).map_err(|problem| match problem {
            Problem::Signature(what) => ProgramError::Signature { what, path: path.to_owned() },
            Problem::Node(source) => ProgramError::Node { path: path.to_owned(), source },
            Problem::Tensor(name, source) => ProgramError::Tensor { name, source: source.into() },
        })
    }

    fn new(archive: Archive, device: Device) -> Result<Self, Problem> {
        let Archive { module: Module { graph, signature }, constants: mut given, weights } = archive;
        let used = graph.used();
        let (mut named, mut constants, mut inputs) = (Vec::new(), BTreeMap::new(), Vec::new());
        let meta = |argument: &str, name: &str| {
            let missing = || Problem::Signature(format!("nothing is known of its tensor {name}"));
            graph.tensor_values.get(argument).ok_or_else(missing)
        };
        let mut constant = |name: &str| -> Result<Tensor, Problem> {
            let missing = || Problem::Signature(format!("its constant {name} is missing"));
            let tensor = given.remove(name).ok_or_else(missing)?;
            tensor.f_to_device(device).map_err(|source| Problem::Tensor(name.to_owned(), source))
        };
        for spec in signature.input_specs {
            match spec {
                InputSpec::Parameter { arg, parameter_name: name } => {
                    let meta = meta(&arg.name, &name)?;
                    named.push((name.clone(), Slot::new(&name, arg.name, meta, true)?));
                }
                InputSpec::Buffer { arg, buffer_name: name, persistent } => {
                    let mut slot = Slot::new(&name, arg.name.clone(), meta(&arg.name, &name)?, false)?;
                    slot.is_persistent = persistent;
                    slot.own = if persistent { None } else { Some(constant(&name)?) };
                    named.push((name, slot));
                }
                InputSpec::TensorConstant { arg, tensor_constant_name: name } => {
                    constants.insert(arg.name, constant(&name)?);
                }
                InputSpec::UserInput { arg: Argument::Name(argument) } => {
                    let meta = meta(&argument, &argument).map_err(|_| {
                        Problem::Signature(format!(
                            "its input {argument} is a number, and only tensors can be given"
                        ))
                    })?;
                    let sizes = meta.sizes.iter().map(|size| size.0).collect();
                    inputs.push(Input { argument, kind: kind(meta.dtype), sizes });
                }
                // Fixed when it was exported.
                InputSpec::UserInput { .. } | InputSpec::ConstantInput {} => {}
            }
        }
        let output = signature
            .output_specs
            .iter()
            .position(|spec| spec.contains_key("user_output") || spec.contains_key("loss_output"));
        let output = output.filter(|&output| output < graph.outputs.len());
        let output = output.ok_or_else(|| Problem::Signature("it has no output".into()))?;
        let block = Block::new(graph).map_err(Problem::Node)?;
        let writes = block.writes();
        let slots = tie(named, &weights, |argument| used.contains(argument));
        Ok(Self { block, writes, device, slots, constants, inputs, output })
    }

    /// What it wants of a checkpoint.
    pub(crate) fn wanted(&self) -> BTreeMap<String, Wanted> {
        let want = |slot: &Slot| {
            let required = slot.is_used && slot.is_persistent && slot.tied_to.is_none();
            Wanted {
                need: if required { Need::Required } else { Need::Optional },
                shape: Some(slot.shape.clone()),
                tied_to: slot.tied_to.clone(),
            }
        };
        self.slots.iter().map(|(name, slot)| (name.clone(), want(slot))).collect()
    }

    /// Type of the numbers that it takes, the widest where there are several; that of its parameters where it takes
    /// whole numbers.
    pub(crate) fn float(&self) -> Kind {
        let inputs: Vec<_> = self.inputs.iter().filter_map(|input| input.kind).collect();
        let mut parameters = self.slots.values().map(|slot| slot.kind);
        WIDEST_FIRST
            .into_iter()
            .find(|kind| inputs.contains(kind))
            .or_else(|| parameters.find(|kind| WIDEST_FIRST.contains(kind)))
            .unwrap_or(Kind::Float)
    }

    /// Puts the tensors of a checkpoint in. `read` gives that of a name, or `None` where the checkpoint has none.
    ///
    /// Each is a leaf of its own in the program's type; tied ones are one. What nothing uses is not read.
    pub(crate) fn assign<E>(
        &mut self,
        mut read: impl FnMut(&str) -> Result<Option<Tensor>, E>,
        refused: impl Fn(&str, TchError) -> E,
    ) -> Result<(), E> {
        // Those of the checkpoint before are let go first: there is room for one.
        self.slots.values_mut().for_each(|slot| slot.value = None);
        let names: Vec<String> = self.slots.keys().cloned().collect();
        for name in &names {
            let slot = &self.slots[name];
            let root = slot.tied_to.clone().unwrap_or_else(|| name.clone());
            if !slot.is_used || self.slots[&root].value.is_some() {
                continue;
            }
            let tensor = match read(name)? {
                Some(tensor) => tensor,
                None => match &slot.own {
                    Some(own) => own.copy(),
                    None => continue, // tied to one that comes
                },
            };
            // Whole numbers, as quantised models have them, have no gradients.
            let is_leaf = slot.is_parameter && WIDEST_FIRST.contains(&slot.kind);
            let tensor = tensor
                .f_to_device(self.device)
                .and_then(|tensor| tensor.f_to_kind(slot.kind))
                .and_then(|tensor| if is_leaf { tensor.f_set_requires_grad(true) } else { Ok(tensor) })
                .map_err(|source| refused(name, source))?;
            if let Some(slot) = self.slots.get_mut(&root) {
                slot.value = Some(tensor);
            }
        }
        Ok(())
    }

    /// The parameters that were put in, by name: leaves that want gradients, tied ones once.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what gradients and Hessian-vector products are taken of")
    )]
    pub(crate) fn parameters(&self) -> BTreeMap<&str, &Tensor> {
        let parameters = self.slots.iter().filter(|(_, slot)| slot.is_parameter);
        parameters.filter_map(|(name, slot)| Some((name.as_str(), slot.value.as_ref()?))).collect()
    }

    /// Runs it on the inputs of a probe batch; its first output.
    pub(crate) fn forward(&self, inputs: &[Tensor]) -> Result<Tensor, ProgramError> {
        let mut values = Values::new();
        for (argument, tensor) in &self.constants {
            values.insert(argument.clone(), self.mine(tensor, argument)?);
        }
        for (name, slot) in &self.slots {
            let root = slot.tied_to.as_ref().and_then(|root| self.slots.get(root)).unwrap_or(slot);
            if let Some(tensor) = &root.value {
                let value = if slot.is_parameter {
                    Value::Tensor(tensor.shallow_clone())
                } else {
                    self.mine(tensor, name)?
                };
                values.insert(slot.argument.clone(), value);
            }
        }
        if inputs.len() != self.inputs.len() {
            return Err(ProgramError::Input(format!(
                "it has {} inputs, and the program takes {}",
                inputs.len(),
                self.inputs.len()
            )));
        }
        for (input, given) in self.inputs.iter().zip(inputs) {
            values.insert(input.argument.clone(), self.mine(&input.fit(given)?, &input.argument)?);
        }
        match self.block.run(values, self.device)?.into_iter().nth(self.output) {
            Some(Value::Tensor(tensor)) => Ok(tensor),
            Some(Value::None) => Err(ProgramError::Output("nothing")),
            Some(Value::List(_)) => Err(ProgramError::Output("a list")),
            _ => Err(ProgramError::Output("a number")),
        }
    }

    /// A tensor that the program may do with as it likes.
    fn mine(&self, tensor: &Tensor, name: &str) -> Result<Value, ProgramError> {
        if !self.writes {
            return Ok(Value::Tensor(tensor.shallow_clone()));
        }
        let mut copy = tensor.f_empty_like().map_err(|source| refused(name, source))?;
        copy.f_copy_(tensor).map_err(|source| refused(name, source))?;
        Ok(Value::Tensor(copy))
    }
}

fn refused(name: &str, source: TchError) -> ProgramError {
    ProgramError::Tensor { name: name.to_owned(), source: source.into() }
}

/// What is wrong, before the path is known.
enum Problem {
    Signature(String),
    Node(NodeError),
    Tensor(String, TchError),
}

impl Slot {
    fn new(name: &str, argument: String, meta: &TensorMeta, is_parameter: bool) -> Result<Self, Problem> {
        let kind = kind(meta.dtype)
            .ok_or_else(|| Problem::Signature(format!("its tensor {name} is of a type that is not known")))?;
        let shape: Option<Vec<i64>> = meta.sizes.iter().map(|size| size.0).collect();
        let shape =
            shape.ok_or_else(|| Problem::Signature(format!("its tensor {name} has no fixed shape")))?;
        Ok(Self {
            argument,
            kind,
            shape,
            is_parameter,
            is_used: false,
            is_persistent: true,
            tied_to: None,
            value: None,
            own: None,
        })
    }
}

impl Input {
    /// The input in the program's type, if its shape is one that the program was exported for.
    fn fit(&self, given: &Tensor) -> Result<Tensor, ProgramError> {
        let shape = given.size();
        let fits = shape.len() == self.sizes.len()
            && shape.iter().zip(&self.sizes).all(|(has, wants)| wants.is_none_or(|wants| wants == *has));
        if !fits {
            let wanted: Vec<_> =
                self.sizes.iter().map(|size| size.map_or("any".into(), |size| size.to_string())).collect();
            return Err(ProgramError::Input(format!(
                "{} has shape {shape:?}, and the program takes [{}]",
                self.argument,
                wanted.join(", ")
            )));
        }
        match self.kind {
            Some(kind) if kind != given.kind() => {
                given.f_to_kind(kind).map_err(|source| refused(&self.argument, source))
            }
            _ => Ok(given.shallow_clone()),
        }
    }
}

/// Names slots as checkpoints do, and ties those that are one weight in the file.
fn tie(
    named: Vec<(String, Slot)>,
    weights: &BTreeMap<String, String>,
    is_used: impl Fn(&str) -> bool,
) -> BTreeMap<String, Slot> {
    let stored: Vec<_> = named.iter().map(|(name, _)| name.clone()).collect();
    let mut slots: BTreeMap<String, Slot> = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (name, (stored, slot)) in normalize_names(&stored).into_iter().zip(named) {
        if let Some(file) = weights.get(&stored) {
            files.insert(name.clone(), file);
        }
        slots.insert(name, slot);
    }
    let (mut first_of, mut used) = (BTreeMap::new(), BTreeMap::new());
    for (name, slot) in &mut slots {
        let first: String = match files.get(name) {
            // Slots of another shape or type are views, which only look tied.
            Some(file) => {
                let key = (*file, slot.shape.clone(), format!("{:?}", slot.kind));
                first_of.entry(key).or_insert_with(|| name.clone()).clone()
            }
            None => name.clone(),
        };
        *used.entry(first.clone()).or_insert(false) |= is_used(&slot.argument);
        slot.tied_to = (first != *name).then_some(first);
    }
    for (name, slot) in &mut slots {
        slot.is_used = used[slot.tied_to.as_ref().unwrap_or(name)];
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = mean((2 x · a · b)²) with b tied to a, of shape (2,).
    fn program() -> Program {
        let tensor = |name: &str| serde_json::json!({"as_tensor": {"name": name}});
        let node = |target: &str, inputs: &[(&str, serde_json::Value)], output: &str| {
            let inputs: Vec<_> =
                inputs.iter().map(|(name, arg)| serde_json::json!({"name": name, "arg": arg})).collect();
            serde_json::json!({"target": target, "inputs": inputs, "outputs": [tensor(output)]})
        };
        let vector = serde_json::json!({"dtype": 7, "sizes": [{"as_int": 2}]});
        let module = serde_json::json!({
            "graph": {
                "inputs": [tensor("a"), tensor("b"), tensor("x")],
                "outputs": [tensor("y")],
                "nodes": [
                    node("torch.ops.aten.mul_.Tensor", &[("self", tensor("x")), ("other", serde_json::json!({"as_int": 2}))], "gone"),
                    node("torch.ops.aten.mul.Tensor", &[("self", tensor("x")), ("other", tensor("a"))], "xa"),
                    node("torch.ops.aten.mul.Tensor", &[("self", tensor("xa")), ("other", tensor("b"))], "xab"),
                    node("torch.ops.aten.pow.Tensor_Scalar", &[("self", tensor("xab")), ("exponent", serde_json::json!({"as_int": 2}))], "square"),
                    node("torch.ops.aten.mean.default", &[("self", tensor("square"))], "y"),
                ],
                "tensor_values": {"a": vector, "b": vector, "x": vector},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "a"}, "parameter_name": "model.a"}},
                    {"parameter": {"arg": {"name": "b"}, "parameter_name": "model.b"}},
                    {"user_input": {"arg": tensor("x")}},
                ],
                "output_specs": [{"user_output": {"arg": tensor("y")}}],
            },
        });
        let weights = ["model.a", "model.b"].map(|name| (name.to_owned(), "weight_0".to_owned()));
        let archive = Archive {
            module: serde_json::from_value(module).unwrap(),
            constants: BTreeMap::new(),
            weights: BTreeMap::from(weights),
        };
        Program::new(archive, Device::Cpu).unwrap_or_else(|_| panic!("it is sound"))
    }

    #[test]
    fn parameters_are_leaves_with_gradients_of_second_order_and_tied_ones_are_one() {
        let mut program = program();
        let read = |name: &str| Ok((name == "b").then(|| Tensor::from_slice(&[2_f32, 3.])));
        program.assign(read, |name, source| panic!("{name}: {source}")).unwrap_or_else(|()| panic!());
        let x = Tensor::from_slice(&[1_f32, 2.]);
        let y = program.forward(&[x.copy()]).unwrap();
        // y = 2 (a₁⁴ + 4 a₂⁴), and the second derivatives are 24 a₁² and 96 a₂².
        assert_eq!(y.double_value(&[]), f64::from(2 * (16 + 4 * 81)));
        let parameters = program.parameters();
        assert_eq!(parameters.keys().collect::<Vec<_>>(), [&"a"]);
        let a = parameters["a"];
        let gradient = Tensor::run_backward(&[&y], &[a], true, true).remove(0);
        assert_eq!(Vec::<f32>::try_from(&gradient).unwrap(), [64., 864.]);
        let curvature = Tensor::run_backward(&[gradient.sum(tch::Kind::Float)], &[a], false, false).remove(0);
        assert_eq!(Vec::<f32>::try_from(&curvature).unwrap(), [96., 864.]);
        // What is given stays as it was, though the program writes into it.
        drop(program.forward(std::slice::from_ref(&x)).unwrap());
        assert_eq!(Vec::<f32>::try_from(&x).unwrap(), [1., 2.]);
    }
}

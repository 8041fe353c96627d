//! Runs a graph, node by node.
//!
//! A [`Block`] is a graph whose operators were found and whose values are let go after their last use. Nothing but
//! libtorch's operators, arithmetic on sizes, and the blocks that some nodes hold is ever run.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, CString};

use tch::Device;

use super::dispatch::{Casting, Operator, Refusal, Value, device_text, with_casting};
use super::graph::{Argument, Graph, Node};
use super::symbolic::{Function, truth};
use crate::torch_error::TorchError;

/// The values that have a name.
pub(super) type Values = HashMap<String, Value>;

/// A node that cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// There is no such operator here.
    #[error(
        "operator {operator} of node {node} is not run: {reason}; write that part of the model with PyTorch's own \
         functions, or give doodl3 a TorchScript module (`module`) instead"
    )]
    Operator { node: String, operator: String, reason: &'static str },
    /// An argument cannot be passed on.
    #[error("node {node} ({operator}) has an argument of kind {kind}, which cannot be read")]
    Argument { node: String, operator: String, kind: String },
    /// A value is used that is not there.
    #[error("node {node} ({operator}) uses {name}, which no node before it gives: export the program again")]
    Missing { node: String, operator: String, name: String },
    /// An operator failed.
    #[error("node {node} ({operator}) failed")]
    Failed { node: String, operator: String, source: TorchError },
}

/// A graph that is ready to be run.
#[derive(Debug)]
pub(super) struct Block {
    /// Names of what it is given, in order.
    inputs: Vec<String>,
    steps: Vec<Step>,
    outputs: Vec<Argument>,
}

/// A node that is ready to be run.
#[derive(Debug)]
struct Step {
    name: String,
    target: String,
    operation: Operation,
    inputs: Vec<(CString, Argument)>,
    outputs: Vec<Argument>,
    /// The graphs among its arguments.
    blocks: Vec<Block>,
    /// Values that nothing needs any more after it.
    last_used: Vec<String>,
}

#[derive(Debug)]
enum Operation {
    Operator(Operator),
    Function(Function),
    /// (enabled, graph, operands…)
    SetGrad,
    /// (device, type, enabled, cache, graph, operands…)
    Autocast,
    /// (condition, graph, graph, operands)
    Condition,
}

impl Operation {
    fn find(target: &str) -> Result<Self, &'static str> {
        if let Some(function) = Function::find(target) {
            return Ok(Self::Function(function));
        }
        let parts: Vec<&str> = target.strip_prefix("torch.ops.").unwrap_or_default().split('.').collect();
        match parts.as_slice() {
            ["higher_order", "wrap_with_set_grad_enabled"] => Ok(Self::SetGrad),
            ["higher_order", "wrap_with_autocast"] => Ok(Self::Autocast),
            ["higher_order", "cond"] => Ok(Self::Condition),
            ["higher_order", ..] => {
                Err("doodl3 runs cond and blocks of no_grad and autocast, and no other control flow")
            }
            ["aten", name, overload] => Operator::find(&format!("aten::{name}"), overload)
                .map(Self::Operator)
                .map_err(|refusal| match refusal {
                    Refusal::Unknown => "libtorch 2.13 does not have it",
                    Refusal::OpensFiles => "it opens files, which no program may do",
                }),
            [_, _, _] => {
                Err("it belongs to a package of its own, and only those of PyTorch itself (aten) are run")
            }
            _ => Err("only PyTorch's own operators are run"),
        }
    }
}

impl Block {
    /// Finds the operators of a graph.
    pub(super) fn new(graph: Graph) -> Result<Self, NodeError> {
        let mut inputs = Vec::new();
        graph.inputs.iter().for_each(|input| input.names(&mut |name| inputs.push(name.to_owned())));
        let mut steps = graph
            .nodes
            .into_iter()
            .enumerate()
            .map(|(position, node)| Step::new(position, node))
            .collect::<Result<Vec<_>, _>>()?;
        let mut needed = BTreeSet::new();
        graph.outputs.iter().for_each(|output| output.names(&mut |name| needed.extend([name.to_owned()])));
        for step in steps.iter_mut().rev() {
            let mut names = Vec::new();
            let arguments = step.inputs.iter().map(|(_, argument)| argument).chain(&step.outputs);
            arguments.for_each(|argument| argument.names(&mut |name| names.push(name.to_owned())));
            step.last_used = names.into_iter().filter(|name| needed.insert(name.clone())).collect();
        }
        Ok(Self { inputs, steps, outputs: graph.outputs })
    }

    /// Whether one of its operators writes into its arguments.
    pub(super) fn writes(&self) -> bool {
        self.steps.iter().any(|step| step.writes() || step.blocks.iter().any(Self::writes))
    }

    /// Runs it on the values of its inputs; the values of its outputs, in order.
    pub(super) fn run(&self, mut values: Values, device: Device) -> Result<Vec<Value>, NodeError> {
        for step in &self.steps {
            step.run(&mut values, device)?;
            for name in &step.last_used {
                values.remove(name);
            }
        }
        let end = |problem| match problem {
            Problem::Missing(name) => {
                NodeError::Missing { node: "output".into(), operator: "the end of a graph".into(), name }
            }
            Problem::Unknown(kind) => {
                NodeError::Argument { node: "output".into(), operator: "the end of a graph".into(), kind }
            }
        };
        self.outputs.iter().map(|output| value(output, &values, device).map_err(end)).collect()
    }

    /// Runs it on operands in the order of its inputs.
    fn call(&self, operands: &[Value], device: Device) -> Result<Result<Vec<Value>, NodeError>, TorchError> {
        if operands.len() != self.inputs.len() {
            return Err(TorchError::new(&format!(
                "its graph takes {} values and is given {}",
                self.inputs.len(),
                operands.len()
            )));
        }
        let values = self.inputs.iter().cloned().zip(operands.iter().cloned()).collect();
        Ok(self.run(values, device))
    }
}

impl Step {
    fn new(position: usize, node: Node) -> Result<Self, NodeError> {
        let Node { target, inputs: given, outputs, name } = node;
        let name = name.unwrap_or_else(|| {
            let mut names = Vec::new();
            for output in &outputs {
                output.names(&mut |name| names.push(name));
            }
            names.first().map_or_else(|| format!("number {position}"), |name| (*name).to_owned())
        });
        let operation = Operation::find(&target).map_err(|reason| NodeError::Operator {
            node: name.clone(),
            operator: target.clone(),
            reason,
        })?;
        let mut inputs = Vec::with_capacity(given.len());
        let mut blocks = Vec::new();
        for input in given {
            match input.arg {
                Argument::Graph(graph) => blocks.push(Block::new(*graph)?),
                argument => match CString::new(input.name) {
                    Ok(input) => inputs.push((input, argument)),
                    Err(_) => {
                        return Err(NodeError::Argument {
                            node: name,
                            operator: target,
                            kind: "without a name".into(),
                        });
                    }
                },
            }
        }
        Ok(Self { name, target, operation, inputs, outputs, blocks, last_used: Vec::new() })
    }

    /// As PyTorch names it: by a trailing underscore, or an argument that is written to.
    fn writes(&self) -> bool {
        let operator = self.target.trim_start_matches("torch.ops.aten.").split('.').next();
        matches!(self.operation, Operation::Operator(_))
            && (operator.is_some_and(|name| name.ends_with('_')) || self.target.ends_with("out"))
    }

    fn run(&self, values: &mut Values, device: Device) -> Result<(), NodeError> {
        let (node, operator) = (self.name.clone(), self.target.clone());
        let arguments: Result<Vec<_>, Problem> = self
            .inputs
            .iter()
            .map(|(name, argument)| Ok((name.as_c_str(), value(argument, values, device)?)))
            .collect();
        let arguments = match arguments {
            Ok(arguments) => arguments,
            Err(Problem::Missing(name)) => return Err(NodeError::Missing { node, operator, name }),
            Err(Problem::Unknown(kind)) => return Err(NodeError::Argument { node, operator, kind }),
        };
        let failed =
            |source| NodeError::Failed { node: self.name.clone(), operator: self.target.clone(), source };
        let results = self.results(&arguments, device).map_err(failed)??;
        self.bind(results, values).map_err(failed)
    }

    /// What the operation gives.
    fn results(
        &self,
        arguments: &[(&CStr, Value)],
        device: Device,
    ) -> Result<Result<Vec<Value>, NodeError>, TorchError> {
        let plain = || arguments.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>();
        match &self.operation {
            Operation::Operator(operator) => Ok(Ok(operator.call(arguments, device)?)),
            Operation::Function(function) => {
                let result = function.apply(&plain());
                let result = result.ok_or_else(|| {
                    TorchError::new("it has no value for these numbers, or one that is too large")
                })?;
                Ok(Ok(vec![result]))
            }
            Operation::SetGrad => match (plain().as_slice(), self.blocks.as_slice()) {
                ([Value::Boolean(true), operands @ ..], [block]) => {
                    tch::with_grad(|| block.call(operands, device))
                }
                ([Value::Boolean(false), operands @ ..], [block]) => {
                    tch::no_grad(|| block.call(operands, device))
                }
                _ => Err(TorchError::new(MISUSED)),
            },
            Operation::Autocast => match (plain().as_slice(), self.blocks.as_slice()) {
                ([Value::Text(_), dtype, Value::Boolean(enabled), cache, operands @ ..], [block]) => {
                    let casting = Casting {
                        enabled: *enabled,
                        cache: !matches!(cache, Value::Boolean(false)),
                        dtype: match dtype {
                            Value::Integer(number) => i32::try_from(*number).ok(),
                            _ => None,
                        },
                    };
                    with_casting(casting, device, || block.call(operands, device))?
                }
                _ => Err(TorchError::new(MISUSED)),
            },
            Operation::Condition => match (plain().as_slice(), self.blocks.as_slice()) {
                ([condition, Value::List(operands)], [yes, no]) => {
                    let condition = truth(condition).ok_or_else(|| TorchError::new(MISUSED))?;
                    if condition { yes } else { no }.call(operands, device)
                }
                _ => Err(TorchError::new(MISUSED)),
            },
        }
    }

    /// Gives the results the names that the node has for them.
    fn bind(&self, results: Vec<Value>, values: &mut Values) -> Result<(), TorchError> {
        let results = match (self.outputs.as_slice(), results) {
            // A list stands for itself, or for several results.
            ([Argument::List(_)], results) if results.len() == 1 && matches!(results[0], Value::List(_)) => {
                results
            }
            ([Argument::List(_)], results) => vec![Value::List(results)],
            (_, results) => results,
        };
        for (position, output) in self.outputs.iter().enumerate() {
            match results.get(position) {
                Some(result) => bind(output, result, values)?,
                None if matches!(output, Argument::None) => {}
                None => return Err(TorchError::new("it gives fewer results than the program takes from it")),
            }
        }
        Ok(())
    }
}

const MISUSED: &str = "its arguments are none that it knows";

/// Why an argument has no value.
enum Problem {
    Missing(String),
    Unknown(String),
}

/// The value of an argument.
fn value(argument: &Argument, values: &Values, device: Device) -> Result<Value, Problem> {
    Ok(match argument {
        Argument::None => Value::None,
        Argument::Name(name) => values.get(name).cloned().ok_or_else(|| Problem::Missing(name.clone()))?,
        Argument::Integer(number) => Value::Integer(*number),
        Argument::Real(number) => Value::Real(*number),
        Argument::Boolean(truth) => Value::Boolean(*truth),
        Argument::Text(text) => Value::Text(text.clone()),
        Argument::Device => Value::Text(device_text(device)),
        Argument::List(elements) => {
            let values = elements.iter().map(|element| value(element, values, device));
            Value::List(values.collect::<Result<_, _>>()?)
        }
        Argument::Graph(_) => return Err(Problem::Unknown("as_graph".into())),
        Argument::Unknown(kind) => return Err(Problem::Unknown(kind.clone())),
    })
}

/// Gives a result the name or names that an output has for it.
fn bind(output: &Argument, result: &Value, values: &mut Values) -> Result<(), TorchError> {
    match (output, result) {
        (Argument::Name(name), result) => {
            values.insert(name.clone(), result.clone());
        }
        (Argument::List(outputs), Value::List(results)) if outputs.len() <= results.len() => {
            for (output, result) in outputs.iter().zip(results) {
                bind(output, result, values)?;
            }
        }
        (Argument::List(_), _) => {
            return Err(TorchError::new("it gives fewer results than the program takes from it"));
        }
        _ => {}
    }
    Ok(())
}

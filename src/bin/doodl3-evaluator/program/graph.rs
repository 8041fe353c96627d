//! `model.json` of an exported program, as types: torch's `_export/serde/schema.py`, as far as it says what to compute.
//!
//! Fields that are not named here are passed over, so that newer files stay readable; kinds of arguments that are not
//! known are kept as such, and refused where they are used.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value as Json;

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) graph_module: Module,
}

/// The version alone, to be read before anything else is believed.
#[derive(Debug, Deserialize)]
pub(super) struct Versioned {
    pub(super) schema_version: Version,
    #[serde(default)]
    pub(super) torch_version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) major: u64,
    pub(super) minor: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Module {
    pub(super) graph: Graph,
    pub(super) signature: Signature,
}

/// A computation: nodes in the order in which they are run.
#[derive(Debug, Deserialize)]
pub(super) struct Graph {
    pub(super) inputs: Vec<Argument>,
    pub(super) outputs: Vec<Argument>,
    pub(super) nodes: Vec<Node>,
    #[serde(default)]
    pub(super) tensor_values: BTreeMap<String, TensorMeta>,
}

/// One operator with its arguments.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    /// Such as `torch.ops.aten.add.Tensor`.
    pub(super) target: String,
    pub(super) inputs: Vec<NamedArgument>,
    pub(super) outputs: Vec<Argument>,
    #[serde(default)]
    pub(super) name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NamedArgument {
    #[serde(default)]
    pub(super) name: String,
    pub(super) arg: Argument,
}

/// What a node is given or gives.
#[derive(Debug, Deserialize)]
#[serde(from = "Json")]
pub(super) enum Argument {
    None,
    /// A tensor or a number that an earlier node gives.
    Name(String),
    Integer(i64),
    Real(f64),
    Boolean(bool),
    Text(String),
    /// Wherever the exporter's tensors were; ours are elsewhere.
    Device,
    List(Vec<Self>),
    /// A computation that the node runs.
    Graph(Box<Graph>),
    /// A kind of argument that is not known, or one that makes no sense.
    Unknown(String),
}

impl From<Json> for Argument {
    fn from(json: Json) -> Self {
        union(json)
    }
}

/// An argument as `{KIND: CONTENT}`.
fn union(json: Json) -> Argument {
    let Json::Object(fields) = json else { return Argument::Unknown("without a kind".into()) };
    let Some((kind, content)) = fields.into_iter().next() else {
        return Argument::Unknown("without a kind".into());
    };
    of_kind(&kind, content).unwrap_or(Argument::Unknown(kind))
}

/// The content of an argument of a kind; `None` where it makes no sense.
fn of_kind(kind: &str, content: Json) -> Option<Argument> {
    let list = |element: fn(Json) -> Option<Argument>| match content.clone() {
        Json::Array(elements) => {
            Some(Argument::List(elements.into_iter().map(element).collect::<Option<_>>()?))
        }
        _ => None,
    };
    Some(match kind {
        "as_none" => Argument::None,
        "as_tensor" => Argument::Name(content.get("name")?.as_str()?.to_owned()),
        "as_name" => Argument::Name(content.as_str()?.to_owned()),
        "as_int" => Argument::Integer(content.as_i64()?),
        "as_float" => Argument::Real(real(&content)?),
        "as_bool" => Argument::Boolean(content.as_bool()?),
        "as_string" => Argument::Text(content.as_str()?.to_owned()),
        "as_sym_int" | "as_sym_float" | "as_sym_bool" | "as_optional_tensor" => known(content)?,
        "as_scalar_type" => Argument::Integer(scalar_type(content.as_u64()?)?),
        "as_memory_format" => Argument::Integer(memory_format(content.as_u64()?)?),
        "as_layout" => Argument::Integer(layout(content.as_u64()?)?),
        "as_device" => Argument::Device,
        "as_graph" => Argument::Graph(Box::new(serde_json::from_value(content.get("graph")?.clone()).ok()?)),
        "as_tensors" => list(|element| of_kind("as_tensor", element))?,
        "as_ints" => list(|element| of_kind("as_int", element))?,
        "as_floats" => list(|element| of_kind("as_float", element))?,
        "as_bools" => list(|element| of_kind("as_bool", element))?,
        "as_strings" => list(|element| of_kind("as_string", element))?,
        "as_sym_ints" | "as_sym_floats" | "as_sym_bools" | "as_optional_tensors" => list(known)?,
        "as_nested_tensors" => list(|element| of_kind("as_tensors", element))?,
        "as_int_lists" => list(|element| of_kind("as_ints", element))?,
        "as_float_lists" => list(|element| of_kind("as_floats", element))?,
        _ => return None,
    })
}

/// An argument within another.
fn known(json: Json) -> Option<Argument> {
    match union(json) {
        Argument::Unknown(_) => None,
        argument => Some(argument),
    }
}

/// A number; those that JSON has no word for are texts.
fn real(json: &Json) -> Option<f64> {
    match json {
        Json::String(text) => match text.as_str() {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            _ => None,
        },
        number => number.as_f64(),
    }
}

/// The schema's number of an element type, as c10 numbers it.
fn scalar_type(number: u64) -> Option<i64> {
    Some(match number {
        1..=12 => number as i64 - 1,
        13 => 15,
        28 => 27,
        34 => 28,
        35 => 29,
        _ => return None,
    })
}

fn memory_format(number: u64) -> Option<i64> {
    Some(match number {
        1 => 0,
        2 => 2,
        3 => 3,
        4 => 1,
        _ => return None,
    })
}

fn layout(number: u64) -> Option<i64> {
    Some(match number {
        1 => 1,
        7 => 0,
        _ => return None,
    })
}

impl Argument {
    /// Calls `visit` with every name in it, but for those inside of graphs, which are of another world.
    pub(super) fn names<'a>(&'a self, visit: &mut impl FnMut(&'a str)) {
        match self {
            Self::Name(name) => visit(name),
            Self::List(elements) => elements.iter().for_each(|element| element.names(visit)),
            _ => {}
        }
    }
}

impl Graph {
    /// The names of all values that a node of it, or its caller, uses.
    pub(super) fn used(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        let mut visit = |name: &str| {
            used.insert(name.to_owned());
        };
        let given = self.nodes.iter().flat_map(|node| node.inputs.iter().map(|input| &input.arg));
        given.chain(&self.outputs).for_each(|argument| argument.names(&mut visit));
        used
    }
}

/// What is known of a tensor beforehand.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct TensorMeta {
    /// Element type, as the schema numbers it.
    pub(super) dtype: u64,
    pub(super) sizes: Vec<Size>,
    #[serde(default)]
    pub(super) strides: Vec<Size>,
    #[serde(default = "Size::zero")]
    pub(super) storage_offset: Size,
}

/// A number that may depend on the inputs.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Json")]
pub(super) struct Size(
    /// `None` where it depends on the inputs.
    pub(super) Option<i64>,
);

impl Size {
    fn zero() -> Self {
        Self(Some(0))
    }
}

impl From<Json> for Size {
    fn from(json: Json) -> Self {
        Self(json.get("as_int").and_then(Json::as_i64))
    }
}

/// What a graph's inputs and outputs mean.
#[derive(Debug, Deserialize)]
pub(super) struct Signature {
    pub(super) input_specs: Vec<InputSpec>,
    pub(super) output_specs: Vec<BTreeMap<String, Json>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InputSpec {
    UserInput {
        arg: Argument,
    },
    Parameter {
        arg: Name,
        parameter_name: String,
    },
    Buffer {
        arg: Name,
        buffer_name: String,
        #[serde(default = "yes")]
        persistent: bool,
    },
    TensorConstant {
        arg: Name,
        tensor_constant_name: String,
    },
    /// A number that was fixed when it was exported; no node uses it.
    ConstantInput {},
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
pub(super) struct Name {
    pub(super) name: String,
}

/// JSON as Python writes it: `Infinity` and `NaN` stand bare, where JSON knows no such numbers; they become texts.
pub(super) fn python_json(text: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut plain = Vec::with_capacity(text.len());
    let (mut in_text, mut at) = (false, 0);
    while let Some(&byte) = text.get(at) {
        if in_text {
            let taken = if byte == b'\\' { 2 } else { 1 };
            in_text = byte != b'"';
            plain.extend_from_slice(&text[at..text.len().min(at + taken)]);
            at += taken;
        } else if let Some(word) = WORDS.iter().find(|word| text[at..].starts_with(word)) {
            plain.push(b'"');
            plain.extend_from_slice(word);
            plain.push(b'"');
            at += word.len();
        } else {
            in_text = byte == b'"';
            plain.push(byte);
            at += 1;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_become_texts_and_texts_stay() {
        let text = br#"{"a": [Infinity, -Infinity,NaN, 1], "NaN \" Infinity": "Infinity \\"}"#;
        let json: Json = serde_json::from_slice(&python_json(text)).unwrap();
        assert_eq!(json["a"], serde_json::json!(["Infinity", "-Infinity", "NaN", 1]));
        assert_eq!(json["NaN \" Infinity"], "Infinity \\");
    }

    #[test]
    fn arguments_that_make_no_sense_are_kept_as_unknown() {
        let kind = |text: &str| match serde_json::from_str(text).unwrap() {
            Argument::Unknown(kind) => kind,
            known => format!("{known:?}"),
        };
        assert_eq!(kind(r#"{"as_complex": {"real": 1, "imag": 2}}"#), "as_complex");
        assert_eq!(kind(r#"{"as_int": 1e30}"#), "as_int");
        assert_eq!(kind(r#"{"as_ints": [1, "two"]}"#), "as_ints");
        assert_eq!(kind("[]"), "without a kind");
        assert_eq!(
            kind(r#"{"as_sym_ints": [{"as_name": "n"}, {"as_int": 2}]}"#),
            r#"List([Name("n"), Integer(2)])"#
        );
    }
}

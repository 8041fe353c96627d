//! Finding the model's weights in what a training script saved: a state dict, or a dictionary that holds one beside
//! the optimiser's state, the epoch and whatever else.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};

use super::directory::{MAX_TENSORS, Place};
use super::error::Fault;
use super::names::clip;
use super::pickle::{Id, Pickle, Value};
use super::torch_zip::{Storages, TensorCall, as_tensor};

/// Keys under which training scripts keep the model's weights. Of several, the one with the most floating-point
/// elements is taken; of equals the first in this list.
const MODEL_KEYS: [&str; 13] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net_state_dict",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "ema_state_dict",
    "model_ema",
    "ema",
];

/// Parts of the keys under which there is no model.
const OTHER_KEYS: [&str; 5] = ["optim", "sched", "scaler", "rng_state", "random_state"];

/// Limits on what is walked: entries in all, depth of nesting, length of a name.
const MAX_ENTRIES: usize = 10_000_000;
/// An entry that gets a name counts so much.
const NAMED: usize = 4;
const MAX_DEPTH: usize = 32;
const MAX_NAME: usize = 1000;

/// Most metadata that are kept.
const MAX_METADATA: usize = 256;

/// Most notes, and most names in one.
const MAX_LISTED: usize = 20;

/// What was found.
#[derive(Debug)]
pub(super) struct StateDict {
    pub(super) tensors: Vec<Place>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) notes: Vec<String>,
}

/// Finds the model's weights in a pickle.
pub(super) fn find<'a>(pickle: &'a Pickle<'a>, storages: &Storages<'a>) -> Result<StateDict, Fault> {
    let root = pickle.root();
    let walk = Walk { pickle, entries_left: Cell::new(MAX_ENTRIES) };
    if let Some(class) = walk.foreign_class(root) {
        return Err(whole_object("it", &class));
    }
    if as_tensor(pickle, root).is_some() || !walk.is_container(root) {
        return Err(no_state_dict("it holds a single value"));
    }
    let mut notes = Vec::new();
    let mut model = root;
    let mut path = String::new();
    let mut left_out = Vec::new();
    for level in 0.. {
        if level > MAX_DEPTH {
            return Err(too_deep());
        }
        let Some((key, id)) = walk.choose(model, storages, level == 0, &mut notes)? else { break };
        left_out.extend(walk.training_state(model)?);
        model = id;
        path = join(&path, key)?;
    }
    let found = walk.collect(model)?;
    left_out.extend(found.left_out.iter().map(|name| clip(name)));
    for (name, id) in &found.objects {
        let class = walk.foreign_class(*id).unwrap_or_else(|| "an object".into());
        if walk.holds_storage(*id)? {
            return Err(Fault::unsupported(
                format!("the tensor `{}` can only be rebuilt by `{class}`, which is not run", clip(name)),
                "save plain tensors: torch.save(model.state_dict(), …)",
            ));
        }
        notes.push(format!("`{}` is left out: it is a `{class}`, not a tensor", clip(name)));
    }
    if found.tensors.is_empty() {
        if let Some((key, class)) = walk.whole_model(root) {
            return Err(whole_object(&format!("`{}`", clip(key)), &class));
        }
        return Err(no_state_dict("it holds no tensors of a model"));
    }
    if found.tensors.len() > MAX_TENSORS {
        return Err(Fault::damaged(format!("it holds more than {MAX_TENSORS} tensors")));
    }
    let mut seen = HashSet::new();
    for (name, _) in &found.tensors {
        if !seen.insert(name) {
            return Err(Fault::damaged(format!("it holds two tensors `{}`", clip(name))));
        }
    }
    if !path.is_empty() {
        notes.insert(0, format!("the weights are those under `{}`", clip(&path)));
    }
    if !left_out.is_empty() {
        left_out.truncate(MAX_LISTED);
        notes.push(format!(
            "left out as state of the training, not of the model: `{}`",
            left_out.join("`, `")
        ));
    }
    notes.truncate(MAX_LISTED);
    let tensors =
        found.tensors.iter().map(|(name, tensor)| storages.place(name, *tensor)).collect::<Result<_, _>>()?;
    Ok(StateDict { tensors, metadata: walk.metadata(root, model, storages)?, notes })
}

fn whole_object(what: &str, class: &str) -> Fault {
    Fault::unsupported(
        format!("{what} is a whole pickled object of the class `{class}`, which is not run"),
        "save the weights alone: torch.save(model.state_dict(), …)",
    )
}

fn no_state_dict(what: &str) -> Fault {
    Fault::unsupported(what, "save the weights as a state dict: torch.save(model.state_dict(), …)")
}

fn too_deep() -> Fault {
    Fault::damaged(format!("its dictionaries are nested more than {MAX_DEPTH} deep"))
}

fn join(path: &str, key: &str) -> Result<String, Fault> {
    if path.len() + key.len() >= MAX_NAME {
        return Err(Fault::damaged(format!("a tensor's name has more than {MAX_NAME} bytes")));
    }
    Ok(if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") })
}

/// What lies below a value.
#[derive(Default)]
struct Found<'a> {
    tensors: Vec<(String, TensorCall<'a>)>,
    /// Objects of classes that are not read.
    objects: Vec<(String, Id)>,
    /// What was not entered, since it belongs to the training and not to the model.
    left_out: Vec<String>,
}

struct Walk<'a> {
    pickle: &'a Pickle<'a>,
    /// The same value may be met on many paths; so the walk itself is bounded.
    entries_left: Cell<usize>,
}

impl<'a> Walk<'a> {
    /// Counts entries that are looked at.
    fn count(&self, entries: usize) -> Result<(), Fault> {
        let left = self.entries_left.get().checked_sub(entries);
        self.entries_left
            .set(left.ok_or_else(|| Fault::damaged("its values refer to each other without end"))?);
        Ok(())
    }

    fn is_container(&self, id: Id) -> bool {
        matches!(self.pickle.get(id), Value::Dict(_) | Value::List(_) | Value::Tuple(_))
    }

    fn length(&self, id: Id) -> usize {
        match self.pickle.get(id) {
            Value::Dict(pairs) => pairs.len(),
            _ => self.pickle.items(id).map_or(0, <[Id]>::len),
        }
    }

    /// Keys and values of a container; entries that can hold no tensor are passed over.
    fn entries(&self, id: Id) -> impl Iterator<Item = (Cow<'a, str>, Id)> {
        let pairs: &[(Id, Id)] = if let Value::Dict(pairs) = self.pickle.get(id) { pairs } else { &[] };
        let items = self.pickle.items(id).unwrap_or_default();
        let interesting = |id: Id| self.is_container(id) || matches!(self.pickle.get(id), Value::Call(_));
        let pairs = pairs.iter().filter(move |&&(_, value)| interesting(value)).filter_map(
            |&(key, value)| match *self.pickle.get(key) {
                Value::Text(key) => Some((Cow::Borrowed(key), value)),
                Value::Int(key) => Some((Cow::Owned(key.to_string()), value)),
                _ => None,
            },
        );
        let items = items.iter().enumerate().filter(move |&(_, &value)| interesting(value));
        pairs.chain(items.map(|(index, &value)| (Cow::Owned(index.to_string()), value)))
    }

    /// All tensors below `id`, by dotted names, but those of optimisers.
    fn collect(&self, id: Id) -> Result<Found<'a>, Fault> {
        let mut found = Found::default();
        let mut waiting = vec![(id, String::new(), 0)];
        while let Some((id, path, depth)) = waiting.pop() {
            if depth > MAX_DEPTH {
                return Err(too_deep());
            }
            self.count(self.length(id))?;
            for (key, value) in self.entries(id) {
                self.count(NAMED)?;
                let name = join(&path, &key)?;
                if self.is_training_state(&key, value)? {
                    found.left_out.push(name);
                } else if let Some(tensor) = as_tensor(self.pickle, value) {
                    found.tensors.push((name, tensor));
                } else if self.is_container(value) {
                    waiting.push((value, name, depth + 1));
                } else if self.foreign_class(value).is_some() {
                    found.objects.push((name, value));
                }
            }
        }
        Ok(found)
    }

    /// Whether an entry belongs to an optimiser, a schedule, a loss scaler or a random-number generator.
    fn is_training_state(&self, key: &str, value: Id) -> Result<bool, Fault> {
        let lower = key.to_ascii_lowercase();
        if lower.ends_with("rng_state") {
            return Ok(true);
        }
        if !self.is_container(value) {
            return Ok(false);
        }
        if OTHER_KEYS.iter().any(|other| lower.contains(other)) {
            return Ok(true);
        }
        self.count(self.length(value))?;
        let has = |wanted: &str| self.value_of(value, wanted).is_some();
        Ok(has("state") && has("param_groups"))
    }

    /// Names of the entries of `id` that belong to the training.
    fn training_state(&self, id: Id) -> Result<Vec<String>, Fault> {
        let mut names = Vec::new();
        for (key, value) in self.entries(id) {
            if self.is_training_state(&key, value)? {
                names.push(clip(&key));
            }
        }
        Ok(names)
    }

    fn value_of(&self, id: Id, wanted: &str) -> Option<Id> {
        let Value::Dict(pairs) = self.pickle.get(id) else { return None };
        // As in Python, the last entry of a key counts.
        pairs.iter().rev().find(|&&(key, _)| self.pickle.text(key) == Some(wanted)).map(|&(_, value)| value)
    }

    /// The entry of `id` that holds the model, if `id` is a training dictionary rather than the model itself.
    fn choose(
        &self,
        id: Id,
        storages: &Storages<'a>,
        outermost: bool,
        notes: &mut Vec<String>,
    ) -> Result<Option<(&'static str, Id)>, Fault> {
        let mut candidates = Vec::new();
        let mut tensors = 0;
        for key in MODEL_KEYS {
            let Some(value) = self.value_of(id, key).filter(|&value| self.is_container(value)) else {
                continue;
            };
            let found = self.collect(value)?;
            let mut weights = 0;
            for (name, tensor) in &found.tensors {
                let place = storages.place(name, *tensor)?;
                if place.dtype.is_float() {
                    weights += place.shape.iter().product::<usize>() as u64;
                }
            }
            if !found.tensors.is_empty() {
                tensors += found.tensors.len();
                candidates.push((key, value, weights));
            }
        }
        // Below the outermost level a name such as `net` may be a part of the model beside others.
        if candidates.is_empty() || (!outermost && tensors < self.collect(id)?.tensors.len()) {
            return Ok(None);
        }
        let mut best = 0;
        for (index, candidate) in candidates.iter().enumerate() {
            if candidate.2 > candidates[best].2 {
                best = index;
            }
        }
        let (key, value, _) = candidates.swap_remove(best);
        candidates.sort_unstable();
        notes.extend(candidates.iter().map(|(other, _, weights)| {
            format!("`{other}` is left out: it holds {weights} weights, no more than `{key}`")
        }));
        Ok(Some((key, value)))
    }

    /// The class of an object that is neither a tensor nor plain data, or the function that would make it.
    fn foreign_class(&self, id: Id) -> Option<String> {
        let Value::Call(parts) = self.pickle.get(id) else { return None };
        if as_tensor(self.pickle, id).is_some() {
            return None;
        }
        let (module, name) = self.pickle.global(parts[0]).unwrap_or(("", "?"));
        // Python 2's way to make an object names its class as the first argument.
        let made = match (module, name) {
            ("copy_reg" | "copyreg", "_reconstructor") => {
                self.pickle.tuple(parts[1]).and_then(|arguments| self.pickle.global(*arguments.first()?))
            }
            _ => None,
        };
        let (module, name) = made.unwrap_or((module, name));
        Some(clip(&format!("{module}.{name}")))
    }

    /// A whole pickled model among the entries of a training dictionary.
    fn whole_model(&self, root: Id) -> Option<(&'static str, String)> {
        MODEL_KEYS.iter().find_map(|&key| Some((key, self.foreign_class(self.value_of(root, key)?)?)))
    }

    /// Whether anything that belongs to a call refers to a tensor's bytes.
    fn holds_storage(&self, id: Id) -> Result<bool, Fault> {
        let mut seen = HashSet::new();
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            self.count(1)?;
            match self.pickle.get(id) {
                Value::Persistent(_) => return Ok(true),
                Value::Call(parts) => waiting.extend(parts),
                Value::Dict(pairs) => waiting.extend(pairs.iter().map(|&(_, value)| value)),
                _ => waiting.extend(self.pickle.items(id).unwrap_or_default()),
            }
        }
        Ok(false)
    }

    /// Numbers and texts beside the model, from the outermost dictionary.
    fn metadata(
        &self,
        root: Id,
        model: Id,
        storages: &Storages<'a>,
    ) -> Result<BTreeMap<String, String>, Fault> {
        let mut metadata = BTreeMap::new();
        let Value::Dict(pairs) = self.pickle.get(root) else { return Ok(metadata) };
        for &(key, value) in pairs {
            let Some(key) = self.pickle.text(key) else { continue };
            let text = match (self.scalar(value), as_tensor(self.pickle, value)) {
                (Some(text), _) => Some(text),
                (None, Some(tensor)) if root != model => storages.number(key, tensor)?.map(|x| x.to_string()),
                _ => None,
            };
            if let Some(text) = text
                && metadata.len() < MAX_METADATA
            {
                metadata.insert(clip(key), clip(&text));
            }
        }
        Ok(metadata)
    }

    /// A number, a truth value or a text, as text.
    fn scalar(&self, id: Id) -> Option<String> {
        match *self.pickle.get(id) {
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(value.to_string()),
            Value::Text(value) => Some(value.to_owned()),
            Value::Call(_) => self.numpy_scalar(id).map(|value| value.to_string()),
            _ => None,
        }
    }

    /// `numpy.float64(…)` and the like: `scalar(dtype('f8'), bytes)`.
    fn numpy_scalar(&self, id: Id) -> Option<f64> {
        let ((module, "scalar"), &[dtype, bytes]) = self.pickle.call(id)? else { return None };
        if !matches!(module, "numpy._core.multiarray" | "numpy.core.multiarray") {
            return None;
        }
        let (("numpy", "dtype"), &[kind, ..]) = self.pickle.call(dtype)? else { return None };
        // Protocol 2 has no bytes: they are a text of the characters 0 to 255, to be encoded.
        let bytes: Vec<u8> = match (self.pickle.get(bytes), self.pickle.call(bytes)) {
            (&Value::Bytes(bytes), _) => bytes.iter().copied().take(8).collect(),
            (_, Some((("_codecs", "encode"), &[text, _]))) => {
                let text = self.pickle.text(text)?;
                text.chars().take(8).map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let array = || <[u8; 8]>::try_from(bytes.as_slice()).ok();
        let half = || <[u8; 4]>::try_from(bytes.as_slice()).ok();
        match self.pickle.text(kind)? {
            "f8" => array().map(f64::from_le_bytes),
            "i8" => array().map(|bytes| i64::from_le_bytes(bytes) as f64),
            "u8" => array().map(|bytes| u64::from_le_bytes(bytes) as f64),
            "f4" => half().map(|bytes| f32::from_le_bytes(bytes).into()),
            "i4" => half().map(|bytes| i32::from_le_bytes(bytes).into()),
            _ => None,
        }
    }
}

//! Runs operations over what is there: selections, fragments, aliases, arguments and variables.

use serde_json::{Map, Value, json};

use graphql_parser::query::{self, Selection, SelectionSet};

use super::schema::{self, Document, SCHEMA};

/// What a field leads to.
pub(super) enum Node {
    Null,
    Leaf(Value),
    List(Vec<Node>),
    /// An object whose fields are all there, with the name of its type.
    Map(&'static str, Vec<(&'static str, Node)>),
    /// An object whose fields are looked up when they are asked for.
    Thing(Thing),
}

/// Objects that lead to others, by what they are known by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Thing {
    Query,
    Mutation,
    Project(String),
    Run(String),
    Artifact(String),
    /// A version in a collection: the artifact.
    Membership(String),
    Collection(String),
    ArtifactType {
        project: String,
        name: String,
    },
}

impl Thing {
    fn kind(&self) -> &'static str {
        match self {
            Self::Query => "Query",
            Self::Mutation => "Mutation",
            Self::Project(_) => "Project",
            Self::Run(_) => "Run",
            Self::Artifact(_) => "Artifact",
            Self::Membership(_) => "ArtifactCollectionMembership",
            Self::Collection(_) => "ArtifactSequence",
            Self::ArtifactType { .. } => "ArtifactType",
        }
    }
}

impl<T: Into<Value>> From<T> for Node {
    fn from(value: T) -> Self {
        match value.into() {
            Value::Null => Self::Null,
            value => Self::Leaf(value),
        }
    }
}

/// Arguments of a field.
pub(super) type Arguments = Map<String, Value>;

/// Looks up a field of a thing.
pub(super) trait Resolve {
    fn field(&mut self, thing: &Thing, name: &str, arguments: &Arguments) -> Result<Node, String>;
}

/// A request as it came: the text and what goes with it.
pub(super) struct Request {
    document: Document,
    name: String,
    variables: Map<String, Value>,
}

/// What is answered when a request cannot be run at all.
pub(super) fn refused(messages: &[String]) -> Value {
    let errors: Vec<Value> = messages.iter().map(|message| json!({ "message": message })).collect();
    json!({ "errors": errors, "data": null })
}

impl Request {
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("invalid body: {error}"))?;
        let text = body["query"].as_str().ok_or("Must provide an operation.")?;
        let document = graphql_parser::parse_query::<String>(text)
            .map_err(|error| format!("Syntax Error: {error}"))?
            .into_static();
        let name = body["operationName"].as_str().unwrap_or_default().to_owned();
        let mut variables = body["variables"].as_object().cloned().unwrap_or_default();
        for variable in schema::operation(&document, &name)?.variables {
            if let (Some(value), false) = (&variable.default_value, variables.contains_key(&variable.name)) {
                variables.insert(variable.name.clone(), schema::plain(value, &Map::new()));
            }
        }
        Ok(Self { document, name, variables })
    }

    /// The root fields, for the log.
    pub(super) fn what(&self) -> String {
        let Ok(operation) = schema::operation(&self.document, &self.name) else { return String::new() };
        let fields = operation.selection.items.iter().filter_map(|item| match item {
            Selection::Field(field) => Some(field.name.as_str()),
            _ => None,
        });
        fields.collect::<Vec<_>>().join(" ")
    }

    /// The run that it is about, for the log.
    pub(super) fn run(&self) -> Option<String> {
        let variables = &self.variables;
        let found = ["run", "runName"].iter().find_map(|key| variables.get(*key));
        let found = found.or_else(|| variables.get("input")?.get("runName"));
        let found = found.or_else(|| {
            let what = self.what();
            let names_a_run = ["project", "model", "upsertBucket"].contains(&what.as_str())
                && !variables.contains_key("collection")
                && !variables.contains_key("type");
            variables.get("name").filter(|_| names_a_run)
        });
        found?.as_str().map(str::to_owned)
    }

    /// What is wrong with it.
    pub(super) fn problems(&self, hidden: &[String]) -> Vec<String> {
        match schema::operation(&self.document, &self.name) {
            Err(problem) => vec![problem],
            Ok(operation) => schema::problems(&self.document, &operation, &self.variables, hidden),
        }
    }

    /// Runs it: `{"data": …}`, with `errors` where fields failed; those are null.
    pub(super) fn run_with(&self, resolve: &mut dyn Resolve) -> Value {
        let operation = match schema::operation(&self.document, &self.name) {
            Err(problem) => return refused(&[problem]),
            Ok(operation) => operation,
        };
        let root = if operation.root == "Mutation" { Thing::Mutation } else { Thing::Query };
        let mut walk = Walk { request: self, resolve, errors: Vec::new() };
        let data = walk.node(&Node::Thing(root), operation.selection, &mut Vec::new());
        let errors = walk.errors;
        if errors.is_empty() { json!({ "data": data }) } else { json!({ "errors": errors, "data": data }) }
    }
}

struct Walk<'r> {
    request: &'r Request,
    resolve: &'r mut dyn Resolve,
    errors: Vec<Value>,
}

impl<'r> Walk<'r> {
    fn node(&mut self, node: &Node, set: &'r SelectionSet<'static, String>, path: &mut Vec<String>) -> Value {
        let (kind, found) = match node {
            Node::Null => return Value::Null,
            Node::Leaf(value) => return value.clone(),
            Node::List(items) => {
                return items.iter().map(|item| self.node(item, set, path)).collect();
            }
            Node::Map(kind, fields) => (*kind, Some(fields)),
            Node::Thing(thing) => (thing.kind(), None),
        };
        let mut selected = Vec::new();
        self.collect(set, kind, &mut selected);
        let mut answer = Map::new();
        for field in selected {
            let key = field.alias.as_ref().unwrap_or(&field.name).clone();
            path.push(key.clone());
            let value = match (node, found) {
                _ if field.name == "__typename" => kind.into(),
                (Node::Thing(thing), _) => {
                    let node = self.resolved(thing, field, path);
                    self.node(&node, &field.selection_set, path)
                }
                (_, fields) => {
                    let found = fields.into_iter().flatten().find(|(name, _)| *name == field.name);
                    found.map_or(Value::Null, |(_, node)| self.node(node, &field.selection_set, path))
                }
            };
            path.pop();
            match answer.get_mut(&key) {
                // The same field in two fragments: both selections count.
                Some(known) => merge(known, value),
                None => drop(answer.insert(key, value)),
            }
        }
        answer.into()
    }

    fn resolved(&mut self, thing: &Thing, field: &'r query::Field<'static, String>, path: &[String]) -> Node {
        let mut arguments = Arguments::new();
        for (name, value) in &field.arguments {
            // An argument whose variable is not given is not given.
            let absent =
                matches!(value, query::Value::Variable(name) if !self.request.variables.contains_key(name));
            if !absent {
                arguments.insert(name.clone(), schema::plain(value, &self.request.variables));
            }
        }
        self.resolve.field(thing, &field.name, &arguments).unwrap_or_else(|message| {
            self.errors.push(json!({ "message": message, "path": path }));
            Node::Null
        })
    }

    /// The fields of an object that are selected, fragments resolved.
    fn collect(
        &self,
        set: &'r SelectionSet<'static, String>,
        kind: &str,
        found: &mut Vec<&'r query::Field<'static, String>>,
    ) {
        for item in &set.items {
            match item {
                Selection::Field(field) if self.included(&field.directives) => found.push(field),
                Selection::InlineFragment(inline) if self.included(&inline.directives) => {
                    let on = inline.type_condition.as_ref().map_or(kind, schema::condition);
                    if SCHEMA.is(kind, on) {
                        self.collect(&inline.selection_set, kind, found);
                    }
                }
                Selection::FragmentSpread(spread) if self.included(&spread.directives) => {
                    let fragment = schema::fragments(&self.request.document)[spread.fragment_name.as_str()];
                    if SCHEMA.is(kind, schema::condition(&fragment.type_condition)) {
                        self.collect(&fragment.selection_set, kind, found);
                    }
                }
                _ => {}
            }
        }
    }

    fn included(&self, directives: &[query::Directive<'static, String>]) -> bool {
        directives.iter().all(|directive| {
            let wanted = directive.arguments.iter().all(|(_, value)| {
                schema::plain(value, &self.request.variables).as_bool().unwrap_or_default()
            });
            wanted == (directive.name == "include")
        })
    }
}

fn merge(known: &mut Value, more: Value) {
    match (known, more) {
        (Value::Object(known), Value::Object(more)) => {
            for (key, value) in more {
                match known.get_mut(&key) {
                    Some(known) => merge(known, value),
                    None => drop(known.insert(key, value)),
                }
            }
        }
        (Value::Array(known), Value::Array(more)) => {
            for (known, value) in known.iter_mut().zip(more) {
                merge(known, value);
            }
        }
        _ => {}
    }
}

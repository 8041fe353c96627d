//! The schema, and what a typed server refuses before it runs anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use graphql_parser::query::{self, Selection, SelectionSet};
use graphql_parser::schema::{self, Definition, Field, Type, TypeDefinition};
use serde_json::{Map, Value};

/// Queries with all that they name in one place.
pub(super) type Document = query::Document<'static, String>;
type Literal = query::Value<'static, String>;
type Fragments<'d> = BTreeMap<&'d str, &'d query::FragmentDefinition<'static, String>>;

/// What the double declares.
pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::read);

/// Types by name.
pub(super) struct Schema {
    objects: BTreeMap<String, BTreeMap<String, Field<'static, String>>>,
    inputs: BTreeMap<String, BTreeMap<String, Type<'static, String>>>,
    enums: BTreeMap<String, Vec<String>>,
    scalars: BTreeSet<String>,
    /// Which objects stand for an interface or a union.
    possible: BTreeMap<String, Vec<String>>,
}

impl Schema {
    fn read() -> Self {
        let document = schema::parse_schema::<String>(include_str!("schema.graphql")).unwrap().into_static();
        let mut found = Self {
            objects: BTreeMap::new(),
            inputs: BTreeMap::new(),
            enums: BTreeMap::new(),
            scalars: ["String", "ID", "Int", "Float", "Boolean"].map(str::to_owned).into(),
            possible: BTreeMap::new(),
        };
        for definition in document.definitions {
            let Definition::TypeDefinition(definition) = definition else { continue };
            match definition {
                TypeDefinition::Scalar(scalar) => drop(found.scalars.insert(scalar.name)),
                TypeDefinition::Enum(one) => {
                    found.enums.insert(one.name, one.values.into_iter().map(|value| value.name).collect());
                }
                TypeDefinition::Union(union) => drop(found.possible.insert(union.name, union.types)),
                TypeDefinition::InputObject(input) => {
                    let fields = input.fields.into_iter().map(|field| (field.name, field.value_type));
                    found.inputs.insert(input.name, fields.collect());
                }
                TypeDefinition::Interface(interface) => {
                    found.possible.entry(interface.name.clone()).or_default();
                    let fields = interface.fields.into_iter().map(|field| (field.name.clone(), field));
                    found.objects.insert(interface.name, fields.collect());
                }
                TypeDefinition::Object(object) => {
                    for interface in object.implements_interfaces {
                        found.possible.entry(interface).or_default().push(object.name.clone());
                    }
                    let fields = object.fields.into_iter().map(|field| (field.name.clone(), field));
                    found.objects.insert(object.name, fields.collect());
                }
            }
        }
        found
    }

    /// Whether an object of type `actual` is meant by a condition on `wanted`.
    pub(super) fn is(&self, actual: &str, wanted: &str) -> bool {
        actual == wanted
            || self.possible.get(wanted).is_some_and(|types| types.iter().any(|one| one == actual))
    }
}

/// The operation of a document that is to be run: the one of this name, or the only one.
pub(super) fn operation<'d>(document: &'d Document, name: &str) -> Result<Operation<'d>, String> {
    let mut operations = document.definitions.iter().filter_map(|definition| match definition {
        query::Definition::Operation(operation) => Some(Operation::of(operation)),
        query::Definition::Fragment(_) => None,
    });
    let found = if name.is_empty() {
        operations.next()
    } else {
        operations.find(|operation| operation.name == Some(name))
    };
    found.ok_or_else(|| format!("Unknown operation named \"{name}\"."))
}

/// A query or a mutation.
pub(super) struct Operation<'d> {
    /// The root type.
    pub(super) root: &'static str,
    name: Option<&'d str>,
    /// What it declares.
    pub(super) variables: &'d [query::VariableDefinition<'static, String>],
    /// What it asks for.
    pub(super) selection: &'d SelectionSet<'static, String>,
}

impl<'d> Operation<'d> {
    fn of(operation: &'d query::OperationDefinition<'static, String>) -> Self {
        use query::OperationDefinition as Definition;
        match operation {
            Definition::SelectionSet(selection) => {
                Self { root: "Query", name: None, variables: &[], selection }
            }
            Definition::Query(query) => Self {
                root: "Query",
                name: query.name.as_deref(),
                variables: &query.variable_definitions,
                selection: &query.selection_set,
            },
            Definition::Mutation(mutation) => Self {
                root: "Mutation",
                name: mutation.name.as_deref(),
                variables: &mutation.variable_definitions,
                selection: &mutation.selection_set,
            },
            Definition::Subscription(subscription) => Self {
                root: "Subscription",
                name: subscription.name.as_deref(),
                variables: &subscription.variable_definitions,
                selection: &subscription.selection_set,
            },
        }
    }
}

/// The fragments of a document by name.
pub(super) fn fragments(document: &Document) -> Fragments<'_> {
    let definitions = document.definitions.iter();
    definitions
        .filter_map(|definition| match definition {
            query::Definition::Fragment(fragment) => Some((fragment.name.as_str(), fragment)),
            query::Definition::Operation(_) => None,
        })
        .collect()
}

/// The type that a condition names.
pub(super) fn condition<'c>(condition: &'c query::TypeCondition<'static, String>) -> &'c str {
    let query::TypeCondition::On(name) = condition;
    name
}

/// Everything that is wrong with an operation and its variables, as the server says it.
pub(super) fn problems(
    document: &Document,
    operation: &Operation<'_>,
    variables: &Map<String, Value>,
    hidden: &[String],
) -> Vec<String> {
    let fragments = fragments(document);
    let declared = operation.variables.iter().map(|variable| (variable.name.as_str(), variable)).collect();
    let mut check =
        Check { fragments, declared, hidden, used: BTreeSet::new(), depth: 0, problems: Vec::new() };
    for variable in operation.variables {
        let kind = &variable.var_type;
        if !SCHEMA.scalars.contains(base(kind))
            && !SCHEMA.enums.contains_key(base(kind))
            && !SCHEMA.inputs.contains_key(base(kind))
        {
            check.say(format!("Unknown type \"{}\".", base(kind)));
            continue;
        }
        match variables.get(&variable.name) {
            Some(value) => check.value(value, kind, &format!("${}", variable.name)),
            None if variable.default_value.is_none() && is_required(kind) => {
                check.say(format!(
                    "Variable \"${}\" of required type \"{kind}\" was not provided.",
                    variable.name
                ));
            }
            None => {}
        }
    }
    check.selection(operation.selection, operation.root);
    for variable in operation.variables {
        if !check.used.contains(variable.name.as_str()) {
            check.say(format!("Variable \"${}\" is never used.", variable.name));
        }
    }
    check.problems
}

struct Check<'d> {
    fragments: Fragments<'d>,
    declared: BTreeMap<&'d str, &'d query::VariableDefinition<'static, String>>,
    /// Fields that an older server does not know.
    hidden: &'d [String],
    used: BTreeSet<&'d str>,
    depth: usize,
    problems: Vec<String>,
}

impl<'d> Check<'d> {
    fn say(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn is_hidden(&self, kind: &str, field: &str) -> bool {
        self.hidden
            .iter()
            .any(|hidden| hidden == field || hidden.split_once('.').is_some_and(|pair| pair == (kind, field)))
    }

    fn selection(&mut self, set: &'d SelectionSet<'static, String>, kind: &str) {
        self.depth += 1;
        if self.depth > 40 {
            self.say("Cannot spread a fragment within itself.".into());
            return;
        }
        for item in &set.items {
            match item {
                Selection::Field(field) => self.field(field, kind),
                Selection::InlineFragment(inline) => {
                    let wanted = inline.type_condition.as_ref().map_or(kind, condition);
                    self.directives(&inline.directives);
                    self.fragment(wanted, kind, &inline.selection_set);
                }
                Selection::FragmentSpread(spread) => {
                    self.directives(&spread.directives);
                    match self.fragments.get(spread.fragment_name.as_str()).copied() {
                        None => self.say(format!("Unknown fragment \"{}\".", spread.fragment_name)),
                        Some(fragment) => {
                            self.fragment(condition(&fragment.type_condition), kind, &fragment.selection_set);
                        }
                    }
                }
            }
        }
        self.depth -= 1;
    }

    fn fragment(&mut self, wanted: &str, kind: &str, set: &'d SelectionSet<'static, String>) {
        if !SCHEMA.objects.contains_key(wanted) && !SCHEMA.possible.contains_key(wanted) {
            self.say(format!("Unknown type \"{wanted}\"."));
        } else if !SCHEMA.is(wanted, kind) && !SCHEMA.is(kind, wanted) {
            self.say(format!(
                "Fragment cannot be spread here as objects of type \"{kind}\" can never be of type \"{wanted}\"."
            ));
        } else {
            self.selection(set, wanted);
        }
    }

    fn field(&mut self, field: &'d query::Field<'static, String>, kind: &str) {
        self.directives(&field.directives);
        if field.name == "__typename" {
            return;
        }
        let known = SCHEMA.objects.get(kind).and_then(|fields| fields.get(&field.name));
        let Some(known) = known.filter(|_| !self.is_hidden(kind, &field.name)) else {
            self.say(format!("Cannot query field \"{}\" on type \"{kind}\".", field.name));
            return;
        };
        for (name, value) in &field.arguments {
            match known.arguments.iter().find(|argument| argument.name == *name) {
                None => {
                    self.say(format!("Unknown argument \"{name}\" on field \"{kind}.{}\".", field.name));
                }
                Some(argument) => self.literal(value, &argument.value_type, name),
            }
        }
        for argument in &known.arguments {
            let given = field.arguments.iter().any(|(name, _)| *name == argument.name);
            if !given && is_required(&argument.value_type) {
                self.say(format!(
                    "Field \"{}\" argument \"{}\" of type \"{}\" is required, but it was not provided.",
                    field.name, argument.name, argument.value_type
                ));
            }
        }
        let inner = base(&known.field_type);
        let is_object = SCHEMA.objects.contains_key(inner) || SCHEMA.possible.contains_key(inner);
        match (is_object, field.selection_set.items.is_empty()) {
            (true, false) => self.selection(&field.selection_set, inner),
            (true, true) => self.say(format!(
                "Field \"{}\" of type \"{}\" must have a selection of subfields.",
                field.name, known.field_type
            )),
            (false, false) => self.say(format!(
                "Field \"{}\" must not have a selection since type \"{}\" has no subfields.",
                field.name, known.field_type
            )),
            (false, true) => {}
        }
    }

    fn directives(&mut self, directives: &'d [query::Directive<'static, String>]) {
        for directive in directives {
            if !["include", "skip"].contains(&directive.name.as_str()) {
                self.say(format!("Unknown directive \"@{}\".", directive.name));
            }
            for (name, value) in &directive.arguments {
                self.literal(value, &Type::NamedType("Boolean".into()), name);
            }
        }
    }

    /// What an argument is written as: with variables in it.
    fn literal(&mut self, value: &'d Literal, kind: &Type<'static, String>, place: &str) {
        match (value, kind) {
            (Literal::Variable(name), _) => self.variable(name, kind),
            (Literal::Null, Type::NonNullType(_)) => {
                self.say(format!("Expected value of type \"{kind}\", found null."));
            }
            (Literal::Null, _) => {}
            (Literal::List(items), Type::ListType(inner)) => {
                for item in items {
                    self.literal(item, inner, place);
                }
            }
            (_, Type::NonNullType(inner) | Type::ListType(inner)) => self.literal(value, inner, place),
            (Literal::Object(fields), Type::NamedType(name)) if SCHEMA.inputs.contains_key(name) => {
                let known = &SCHEMA.inputs[name];
                for (field, value) in fields {
                    match known.get(field).filter(|_| !self.is_hidden(name, field)) {
                        None => self.say(format!("Field \"{field}\" is not defined by type \"{name}\".")),
                        Some(kind) => self.literal(value, kind, field),
                    }
                }
                self.missing(name, |field| fields.contains_key(field));
            }
            (Literal::Enum(value), Type::NamedType(name)) => {
                if !SCHEMA.enums.get(name).is_some_and(|values| values.contains(value)) {
                    self.say(format!("Value \"{value}\" does not exist in \"{name}\" enum."));
                }
            }
            (Literal::String(_), Type::NamedType(name)) if SCHEMA.enums.contains_key(name) => {
                self.say(format!("Enum \"{name}\" cannot represent non-enum value: {value}."));
            }
            (value, kind) => self.value(&plain(value, &Map::new()), kind, place),
        }
    }

    /// A variable must be of the type of the place it stands in.
    fn variable(&mut self, name: &'d str, place: &Type<'static, String>) {
        let Some(declared) = self.declared.get(name).copied() else {
            self.say(format!("Variable \"${name}\" is not defined."));
            return;
        };
        self.used.insert(name);
        let kind = &declared.var_type;
        let kind_ = if declared.default_value.is_some() && !is_required(kind) {
            &Type::NonNullType(Box::new(kind.clone()))
        } else {
            kind
        };
        if !fits(kind_, place) {
            self.say(format!(
                "Variable \"${name}\" of type \"{kind}\" used in position expecting type \"{place}\"."
            ));
        }
    }

    fn missing(&mut self, name: &str, has: impl Fn(&str) -> bool) {
        for (field, kind) in &SCHEMA.inputs[name] {
            if is_required(kind) && !has(field) {
                self.say(format!("Field \"{name}.{field}\" of required type \"{kind}\" was not provided."));
            }
        }
    }

    /// What a variable holds.
    fn value(&mut self, value: &Value, kind: &Type<'static, String>, place: &str) {
        match (value, kind) {
            (Value::Null, Type::NonNullType(_)) => {
                self.say(format!(
                    "Variable \"{place}\" got invalid value null; Expected non-nullable type \"{kind}\" not to be null."
                ));
            }
            (Value::Null, _) => {}
            (Value::Array(items), Type::ListType(inner)) => {
                for item in items {
                    self.value(item, inner, place);
                }
            }
            (_, Type::NonNullType(inner) | Type::ListType(inner)) => self.value(value, inner, place),
            (Value::Object(fields), Type::NamedType(name)) if SCHEMA.inputs.contains_key(name) => {
                let known = &SCHEMA.inputs[name];
                for (field, value) in fields {
                    match known.get(field).filter(|_| !self.is_hidden(name, field)) {
                        None => self.say(format!("Field \"{field}\" is not defined by type \"{name}\".")),
                        Some(kind) => self.value(value, kind, field),
                    }
                }
                self.missing(name, |field| fields.contains_key(field));
            }
            (_, Type::NamedType(name)) => {
                let fine = match name.as_str() {
                    "String" | "JSONString" | "DateTime" => value.is_string(),
                    "ID" => value.is_string() || value.is_i64(),
                    "Int" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                    "Int64" | "Duration" => value.is_i64() || value.is_u64(),
                    "Float" => value.is_number(),
                    "Boolean" => value.is_boolean(),
                    "JSON" => true,
                    name => SCHEMA.enums.get(name).is_some_and(|values| {
                        value.as_str().is_some_and(|value| values.iter().any(|one| one == value))
                    }),
                };
                if !fine {
                    self.say(format!(
                        "Variable \"{place}\" got invalid value {value}; Expected type \"{name}\"."
                    ));
                }
            }
        }
    }
}

fn is_required(kind: &Type<'static, String>) -> bool {
    matches!(kind, Type::NonNullType(_))
}

fn base<'t>(kind: &'t Type<'static, String>) -> &'t str {
    match kind {
        Type::NamedType(name) => name,
        Type::ListType(inner) | Type::NonNullType(inner) => base(inner),
    }
}

fn fits(kind: &Type<'static, String>, place: &Type<'static, String>) -> bool {
    match (kind, place) {
        (Type::NonNullType(kind), Type::NonNullType(place))
        | (Type::ListType(kind), Type::ListType(place)) => fits(kind, place),
        (Type::NonNullType(kind), place) => fits(kind, place),
        (Type::NamedType(kind), Type::NamedType(place)) => kind == place,
        _ => false,
    }
}

/// A value as JSON, with the variables put in; fields of objects whose variable is not given are left out.
pub(super) fn plain(value: &Literal, variables: &Map<String, Value>) -> Value {
    match value {
        Literal::Variable(name) => variables.get(name).cloned().unwrap_or(Value::Null),
        Literal::Int(number) => number.as_i64().into(),
        Literal::Float(number) => (*number).into(),
        Literal::String(text) | Literal::Enum(text) => text.as_str().into(),
        Literal::Boolean(value) => (*value).into(),
        Literal::Null => Value::Null,
        Literal::List(items) => items.iter().map(|item| plain(item, variables)).collect(),
        Literal::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !matches!(value, Literal::Variable(name) if !variables.contains_key(name)))
            .map(|(name, value)| (name.clone(), plain(value, variables)))
            .collect(),
    }
}

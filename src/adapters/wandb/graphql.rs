//! How W&B is asked: GraphQL over one address, whose schema is not public and grows from version to version.
//!
//! In the texts of requests a field that older servers may not know has a `?` behind its name. Where a server says that
//! it does not know it, the request is sent again without it, and it is never asked for again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::adapters::http::{Client, HttpError, Repeat};
use crate::adapters::tracker::TrackerError;

/// What a server says that does not know a field.
const UNKNOWN_FIELD: &str = "Cannot query field \"";

/// Asks a server; clones share what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Graphql {
    client: Client,
    /// Optional fields that the server does not know.
    unknown: Arc<Mutex<BTreeSet<String>>>,
}

/// An answer: data, errors, or both.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    data: Value,
    #[serde(default)]
    errors: Option<Vec<Said>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Said {
    Object { message: String },
    Text(String),
}

/// A part of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: Deserialize<'de>")]
pub(super) struct Connection<T> {
    #[serde(default = "Vec::new")]
    edges: Vec<Edge<T>>,
    #[serde(default)]
    page_info: PageInfo,
}

impl<T> Connection<T> {
    /// Where the next part begins, if there is one.
    pub(super) fn next(&self) -> Option<String> {
        self.end().filter(|_| self.page_info.has_next_page)
    }

    /// Where this part ends.
    pub(super) fn end(&self) -> Option<String> {
        let last = || self.edges.last().and_then(|edge| edge.cursor.clone());
        self.page_info.end_cursor.clone().or_else(last)
    }

    pub(super) fn items(self) -> impl Iterator<Item = T> {
        self.edges.into_iter().map(|edge| edge.node)
    }
}

#[derive(Debug, Deserialize)]
struct Edge<T> {
    #[serde(default)]
    cursor: Option<String>,
    node: T,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    end_cursor: Option<String>,
    #[serde(default)]
    has_next_page: bool,
}

impl Graphql {
    pub(super) fn new(client: Client) -> Self {
        Self { client, unknown: Arc::default() }
    }

    /// Asks once; errors that the server tells beside an answer are errors. The operation in the text has a name, under
    /// which messages speak of it.
    pub(super) async fn ask(
        &self,
        text: &str,
        variables: &Value,
        repeat: Repeat,
    ) -> Result<Value, TrackerError> {
        let name = name(text);
        loop {
            let query = self.without_unknown(text);
            let body = json!({ "operationName": name, "query": query, "variables": variables });
            let answered: Result<Answer, HttpError> = self.client.post("graphql", &body, repeat).await;
            let message = match answered {
                Ok(Answer { data, errors: None }) => return Ok(data),
                Ok(Answer { data, errors: Some(errors) }) if errors.is_empty() => return Ok(data),
                Ok(Answer { errors: Some(errors), .. }) => joined(errors),
                // Some servers say the same with a status.
                Err(HttpError::Refused { message, .. }) if message.contains(UNKNOWN_FIELD) => message,
                Err(error) => return Err(error.into()),
            };
            if !self.learn(text, &message) {
                return Err(TrackerError::Refused { what: name.to_owned(), message });
            }
        }
    }

    /// All that a list holds from a place on, page by page, and where it ends. `at` is the place of the list in the
    /// answer, such as `/project/runs`; `None` where there is nothing there: no such project, or it may not be seen. The
    /// text takes `$after`, which may begin somewhere. Pages may be empty although others follow.
    pub(super) async fn pages<T: DeserializeOwned>(
        &self,
        text: &str,
        mut variables: Map<String, Value>,
        at: &str,
    ) -> Result<Option<Vec<T>>, TrackerError> {
        let mut items = Vec::new();
        let mut after = variables.get("after").and_then(Value::as_str).map(str::to_owned);
        loop {
            variables.insert("after".into(), json!(after));
            let data = self.ask(text, &Value::Object(variables.clone()), Repeat::Freely).await?;
            let Some(found) = data.pointer(at).filter(|found| !found.is_null()) else {
                return Ok(None);
            };
            let page: Connection<T> = parse(name(text), found)?;
            let next = page.next().filter(|next| Some(next) != after.as_ref());
            items.extend(page.items());
            // A place that does not move would be asked for for ever.
            let Some(next) = next else { return Ok(Some(items)) };
            after = Some(next);
        }
    }

    /// The text without the marks of optional fields, and without those that the server does not know.
    fn without_unknown(&self, text: &str) -> String {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let word = |word: &str| match word.strip_suffix('?') {
            Some(field) if unknown.contains(field) => String::new(),
            Some(field) => field.to_owned(),
            None => word.to_owned(),
        };
        text.split_whitespace().map(word).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Notes the optional fields that an error says are not known; whether there were any.
    fn learn(&self, text: &str, message: &str) -> bool {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = unknown.len();
        for part in message.split(UNKNOWN_FIELD).skip(1) {
            if let Some((field, _)) = part.split_once('"')
                && text.split_whitespace().any(|word| word.strip_suffix('?') == Some(field))
            {
                tracing::debug!(field, "the server does not know a field; it is done without");
                unknown.insert(field.to_owned());
            }
        }
        unknown.len() > before
    }
}

/// Variables by their names.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The name of the operation in a text such as `query Runs($project: String!) { … }`.
pub(super) fn name(text: &str) -> &str {
    let second = text.split_whitespace().nth(1).unwrap_or_default();
    second.split(['(', '{']).next().unwrap_or_default()
}

/// A part of an answer as what it should be.
pub(super) fn parse<T: DeserializeOwned>(what: &str, value: &Value) -> Result<T, TrackerError> {
    T::deserialize(value)
        .map_err(|error| HttpError::Strange { what: what.to_owned(), reason: error.to_string() }.into())
}

fn joined(errors: Vec<Said>) -> String {
    let text = |said| match said {
        Said::Object { message } | Said::Text(message) => message,
    };
    errors.into_iter().map(text).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_a_server_does_not_know_are_left_out() {
        let plan = crate::adapters::wandb::tests::plan();
        let graphql = Graphql::new(crate::adapters::wandb::tests::client(&plan));
        let text = "query Q { run { id historyStep? state? } }";
        assert_eq!(graphql.without_unknown(text), "query Q { run { id historyStep state } }");
        assert!(graphql.learn(text, "Cannot query field \"historyStep\" on type \"Run\"."));
        assert_eq!(graphql.clone().without_unknown(text), "query Q { run { id state } }");
        assert!(!graphql.learn(text, "Cannot query field \"id\" on type \"Run\"."), "it cannot do without");
        assert!(!graphql.learn(text, "permission denied"));
        assert_eq!(name("\n query Runs($a: Int) { x }"), "Runs");
    }
}

//! How sources and sinks do.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{StoreError, Tables};

/// What is wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What it says.
    pub error: String,
    /// What to do, where there is something to say.
    pub hint: Option<String>,
    /// Since when, in seconds since 1970.
    pub since: i64,
}

/// What a sink still has to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// The sink's name.
    pub sink: String,
    /// Reports that it was promised.
    pub reports: u64,
    /// Most attempts at one of them that failed.
    pub attempts: u32,
    /// What the last attempt failed with.
    pub error: Option<String>,
}

/// What was taken in from a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Intake {
    /// Runs with checkpoints.
    pub runs: u64,
    /// Their checkpoints.
    pub checkpoints: u64,
}

fn fact_name(source: &str) -> String {
    format!("trouble {source}")
}

impl Tables<'_> {
    /// Notes what is wrong with a source; `None`: nothing. Trouble that goes on keeps the time at which it began.
    pub fn set_trouble(&self, source: &str, trouble: Option<&Trouble>) -> Result<(), StoreError> {
        let name = fact_name(source);
        let Some(trouble) = trouble else {
            self.connection.prepare_cached("DELETE FROM facts WHERE name = ?1")?.execute([name])?;
            return Ok(());
        };
        let since = self.trouble(source)?.map_or(trouble.since, |before| before.since);
        let json = serde_json::to_string(&Trouble { since, ..trouble.clone() })
            .map_err(|error| StoreError::Damaged { what: "note on a source", reason: error.to_string() })?;
        self.set_fact(&name, &json)
    }

    /// What is wrong with a source.
    pub fn trouble(&self, source: &str) -> Result<Option<Trouble>, StoreError> {
        let json = self.fact(&fact_name(source))?;
        json.map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|error| StoreError::Damaged { what: "note on a source", reason: error.to_string() })
    }

    /// What was taken in from a source.
    pub fn intake(&self, source: &str) -> Result<Intake, StoreError> {
        let sql = "SELECT count(DISTINCT r.id), count(*) FROM checkpoints c JOIN runs r ON r.id = c.run_id
            WHERE r.source = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row([source], |row| {
            let count = |column| row.get::<_, i64>(column).map(|count| count as u64);
            Ok(Intake { runs: count(0)?, checkpoints: count(1)? })
        })?)
    }

    /// What the sinks still have to be told.
    pub fn backlogs(&self) -> Result<Vec<Backlog>, StoreError> {
        let sql =
            "SELECT sink, count(*), max(attempts), max(last_error) FROM outbox GROUP BY sink ORDER BY sink";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![], |row| {
            Ok(Backlog {
                sink: row.get(0)?,
                reports: row.get::<_, i64>(1)? as u64,
                attempts: row.get(2)?,
                error: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn trouble_keeps_its_beginning_until_it_is_over() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                let trouble = |error: &str, since| Trouble { error: error.into(), hint: None, since };
                tables.set_trouble("lab", Some(&trouble("away", 5)))?;
                tables.set_trouble("lab", Some(&trouble("still away", 9)))?;
                assert_eq!(tables.trouble("lab")?, Some(trouble("still away", 5)));
                tables.set_trouble("lab", None)?;
                assert_eq!(tables.trouble("lab")?, None);
                Ok(())
            })
            .await
            .unwrap();
    }
}

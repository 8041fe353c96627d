//! Runs of trackers, and what was posted to them.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tables};
use crate::adapters::tracker::TrackedRun;

/// A tracker's run as the state knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedRow {
    /// The experiment under which it is known here.
    pub experiment: String,
    /// The name under which it is known here, unique in the experiment.
    pub name: String,
    /// As the tracker told it last.
    pub run: TrackedRun,
    /// The token with which all of it was taken in.
    pub seen: Option<String>,
}

/// What a tracker was sent of one target: by kind, the mark that says what it was.
pub type Posted = BTreeMap<String, String>;

fn row(row: &Row<'_>) -> rusqlite::Result<(String, String, String, Option<String>)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn tracked(
    (experiment, name, run, seen): (String, String, String, Option<String>),
) -> Result<TrackedRow, StoreError> {
    let run = serde_json::from_str(&run)
        .map_err(|error| StoreError::Damaged { what: "tracked run", reason: error.to_string() })?;
    Ok(TrackedRow { experiment, name, run, seen })
}

impl Tables<'_> {
    /// Notes a run as its tracker tells it now. A run keeps the name under which it is first known; a second one of the
    /// same name in its experiment is told apart by the beginning of its id.
    pub fn track(&self, source: &str, run: &TrackedRun) -> Result<TrackedRow, StoreError> {
        let json = serde_json::to_string(run)
            .map_err(|error| StoreError::Damaged { what: "tracked run", reason: error.to_string() })?;
        if let Some(known) = self.tracked_by_key(source, &run.key)? {
            let sql = "UPDATE tracked SET run = ?3 WHERE source = ?1 AND key = ?2 AND run <> ?3";
            self.connection.prepare_cached(sql)?.execute([source, &run.key, &json])?;
            return Ok(TrackedRow { run: run.clone(), ..known });
        }
        let short: String = run.key.chars().take(8).collect();
        let names =
            [run.name.clone(), format!("{} ({short})", run.name), format!("{} ({})", run.name, run.key)];
        let mut taken = self
            .connection
            .prepare_cached("SELECT 1 FROM tracked WHERE source = ?1 AND experiment = ?2 AND name = ?3")?;
        let mut name = run.key.clone();
        for candidate in names {
            if !taken.exists([source, &run.experiment, &candidate])? {
                name = candidate;
                break;
            }
        }
        let sql = "INSERT INTO tracked (source, key, experiment, name, run) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute([source, &run.key, &run.experiment, &name, &json])?;
        Ok(TrackedRow { experiment: run.experiment.clone(), name, run: run.clone(), seen: None })
    }

    /// A run by its tracker's id.
    pub fn tracked_by_key(&self, source: &str, key: &str) -> Result<Option<TrackedRow>, StoreError> {
        let sql = "SELECT experiment, name, run, seen FROM tracked WHERE source = ?1 AND key = ?2";
        let found = self.connection.prepare_cached(sql)?.query_row([source, key], row).optional()?;
        found.map(tracked).transpose()
    }

    /// A run by the name under which it is known here.
    pub fn tracked_by_name(
        &self,
        source: &str,
        experiment: &str,
        name: &str,
    ) -> Result<Option<TrackedRow>, StoreError> {
        let sql = "SELECT experiment, name, run, seen FROM tracked
            WHERE source = ?1 AND experiment = ?2 AND name = ?3";
        let found =
            self.connection.prepare_cached(sql)?.query_row([source, experiment, name], row).optional()?;
        found.map(tracked).transpose()
    }

    /// The runs of which not all was taken in.
    pub fn unseen(&self, source: &str) -> Result<Vec<TrackedRow>, StoreError> {
        let sql = "SELECT experiment, name, run, seen FROM tracked
            WHERE source = ?1 AND (seen IS NULL OR seen <> run ->> '$.token') ORDER BY key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([source], row)?.collect::<rusqlite::Result<Vec<_>>>()?;
        rows.into_iter().map(tracked).collect()
    }

    /// Notes that all of a run was taken in, as it was when its token was this.
    pub fn set_seen(&self, source: &str, key: &str, token: &str) -> Result<(), StoreError> {
        let sql = "UPDATE tracked SET seen = ?3 WHERE source = ?1 AND key = ?2";
        self.connection.prepare_cached(sql)?.execute([source, key, token])?;
        Ok(())
    }

    /// What a target was sent.
    pub fn posted(&self, source: &str, target: &str) -> Result<Posted, StoreError> {
        let sql = "SELECT what, mark FROM posted WHERE source = ?1 AND target = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([source, target], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes what a target was sent.
    pub fn put_posted(&self, source: &str, target: &str, posted: &Posted) -> Result<(), StoreError> {
        let mut statement =
            self.connection.prepare_cached("INSERT OR REPLACE INTO posted VALUES (?1, ?2, ?3, ?4)")?;
        for (what, mark) in posted {
            statement.execute(params![source, target, what, mark])?;
        }
        Ok(())
    }

    /// Forgets what a target was sent, so that all of it is sent again.
    pub fn forget_posted(&self, source: &str, target: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM posted WHERE source = ?1 AND target = ?2";
        self.connection.prepare_cached(sql)?.execute([source, target])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::tracker::RunStatus;
    use crate::store::Store;

    fn run(key: &str, name: &str) -> TrackedRun {
        TrackedRun {
            key: key.into(),
            name: name.into(),
            experiment_key: "1".into(),
            experiment: "mnist".into(),
            status: RunStatus::Running,
            artifacts: "mlflow-artifacts:/1".into(),
            token: "t".into(),
            loss: None,
            models: vec![("m-1".into(), 3)],
            last_sign_s: None,
        }
    }

    #[tokio::test]
    async fn runs_of_one_name_are_told_apart_and_keep_their_names() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                let (a, b) = (run("aaaaaaaaaa", "fox"), run("bbbbbbbbbb", "fox"));
                assert_eq!(tables.track("lab", &a)?.name, "fox");
                assert_eq!(tables.track("lab", &b)?.name, "fox (bbbbbbbb)");
                let renamed = run("aaaaaaaaaa", "wolf");
                assert_eq!(tables.track("lab", &renamed)?.name, "fox");
                tables.set_seen("lab", "aaaaaaaaaa", "t2")?;
                let known = tables.tracked_by_name("lab", "mnist", "fox")?.unwrap();
                assert_eq!((known.run, known.seen.as_deref()), (renamed, Some("t2")));
                assert_eq!(tables.track("elsewhere", &a)?.name, "fox");
                let unseen = |tables: &Tables<'_>| -> Vec<String> {
                    tables.unseen("lab").unwrap().into_iter().map(|row| row.run.key).collect()
                };
                assert_eq!(unseen(tables), ["aaaaaaaaaa", "bbbbbbbbbb"]);
                tables.set_seen("lab", "aaaaaaaaaa", "t")?;
                assert_eq!(unseen(tables), ["bbbbbbbbbb"]);
                Ok(())
            })
            .await
            .unwrap();
    }
}

//! Analyses, and what the sinks still have to be told.

use rusqlite::{OptionalExtension, params};

use super::{Group, GroupId, StoreError, Tables};
use crate::engine::{Analysis, Since};

/// Analyses of a group that are kept, the latest ones.
const KEPT: i64 = 10;

/// What came of an analysis.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysed {
    /// Digest of all that went into it.
    pub name: String,
    /// What was found, or why there is nothing.
    pub result: Result<Analysis, String>,
    /// What became of the Morse sets of the analysis before.
    pub since: Option<Since>,
}

/// A group's report that a sink must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The sink's name.
    pub sink: String,
    /// The group.
    pub group: GroupId,
    /// Goes up each time something changed; a delivery settles the revision that it read.
    pub revision: i64,
    /// Attempts that failed.
    pub attempts: u32,
}

/// What a row says of an analysis.
struct Stored {
    name: String,
    analysis: Option<String>,
    reason: Option<String>,
    since: Option<String>,
}

impl Stored {
    fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { name: row.get(0)?, analysis: row.get(1)?, reason: row.get(2)?, since: row.get(3)? })
    }

    /// An analysis whose fields are not those of today was made by an older program: it is done again, since the
    /// engine's version is part of its name.
    fn analysed(self) -> Result<Analysed, StoreError> {
        let result = match self.analysis {
            Some(json) => match serde_json::from_str(&json) {
                Ok(analysis) => Ok(analysis),
                Err(error) if error.is_data() => Err(OLDER.to_owned()),
                Err(error) => return Err(damaged(error)),
            },
            None => Err(self.reason.unwrap_or_default()),
        };
        let since = self.since.map(|json| serde_json::from_str(&json)).transpose().map_err(damaged)?;
        Ok(Analysed { name: self.name, result, since })
    }
}

/// Why an analysis that is there is not shown.
const OLDER: &str = "an older version of this program made it; it is made again with the next checkpoint";

impl Tables<'_> {
    /// Writes an analysis.
    pub fn put_analysis(&self, group: GroupId, analysed: &Analysed) -> Result<(), StoreError> {
        let (analysis, reason) = match &analysed.result {
            Ok(analysis) => (Some(serde_json::to_string(analysis).map_err(damaged)?), None),
            Err(reason) => (None, Some(reason)),
        };
        let since = analysed.since.as_ref().map(serde_json::to_string).transpose().map_err(damaged)?;
        let sql =
            "INSERT INTO analyses (group_id, name, analysis, reason, since) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.connection.prepare_cached(sql)?.execute(params![
            group.0,
            analysed.name,
            analysis,
            reason,
            since
        ])?;
        self.connection
            .prepare_cached(
                "DELETE FROM analyses WHERE group_id = ?1 AND id NOT IN
                    (SELECT id FROM analyses WHERE group_id = ?1 ORDER BY id DESC LIMIT ?2)",
            )?
            .execute(params![group.0, KEPT])?;
        Ok(())
    }

    /// Name of a group's last analysis.
    pub fn last_analysis_name(&self, group: GroupId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT name FROM analyses WHERE group_id = ?1 ORDER BY id DESC LIMIT 1";
        Ok(self.connection.prepare_cached(sql)?.query_row([group.0], |row| row.get(0)).optional()?)
    }

    /// A group's last analysis.
    pub fn last_analysis(&self, group: GroupId) -> Result<Option<Analysed>, StoreError> {
        let sql =
            "SELECT name, analysis, reason, since FROM analyses WHERE group_id = ?1 ORDER BY id DESC LIMIT 1";
        let row = self.connection.prepare_cached(sql)?.query_row([group.0], Stored::read).optional()?;
        row.map(Stored::analysed).transpose()
    }

    /// A group's last analysis that found something, with its name; `None` where an older program made it.
    pub fn last_found(&self, group: GroupId) -> Result<Option<(String, Analysis)>, StoreError> {
        let sql = "SELECT name, analysis, reason, since FROM analyses
            WHERE group_id = ?1 AND analysis IS NOT NULL ORDER BY id DESC LIMIT 1";
        let row = self.connection.prepare_cached(sql)?.query_row([group.0], Stored::read).optional()?;
        let Some(Analysed { name, result, .. }) = row.map(Stored::analysed).transpose()? else {
            return Ok(None);
        };
        Ok(result.ok().map(|analysis| (name, analysis)))
    }

    /// Analyses whose name begins with `prefix`, the latest of each name, with their groups.
    pub fn find_analyses(&self, prefix: &str) -> Result<Vec<(Group, String)>, StoreError> {
        let mut found = Vec::new();
        for group in self.groups()? {
            let sql = "SELECT DISTINCT name FROM analyses WHERE group_id = ?1 AND substr(name, 1, ?3) = ?2 ORDER BY id";
            let mut statement = self.connection.prepare_cached(sql)?;
            let names = statement
                .query_map(params![group.id.0, prefix, prefix.chars().count() as i64], |row| row.get(0))?
                .collect::<Result<Vec<String>, _>>()?;
            found.extend(names.into_iter().map(|name| (group.clone(), name)));
        }
        Ok(found)
    }

    /// The analysis of a group with this name.
    pub fn analysis(&self, group: GroupId, name: &str) -> Result<Option<Analysed>, StoreError> {
        let sql = "SELECT name, analysis, reason, since FROM analyses
            WHERE group_id = ?1 AND name = ?2 ORDER BY id DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = statement.query_row(params![group.0, name], Stored::read).optional()?;
        row.map(Stored::analysed).transpose()
    }

    /// Promises each of the sinks a new report on a group. A promise that is open already takes this one in.
    pub fn promise(&self, sinks: &[String], group: GroupId) -> Result<(), StoreError> {
        let sql = "INSERT INTO outbox (sink, group_id) VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET revision = revision + 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        for sink in sinks {
            statement.execute(params![sink, group.0])?;
        }
        Ok(())
    }

    /// The open promises, by sink and group.
    pub fn promises(&self) -> Result<Vec<Delivery>, StoreError> {
        let sql = "SELECT sink, group_id, revision, attempts FROM outbox ORDER BY group_id, sink";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(Delivery {
                sink: row.get(0)?,
                group: GroupId(row.get(1)?),
                revision: row.get(2)?,
                attempts: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a sink has got what was promised, unless more was promised meanwhile.
    pub fn settle(&self, delivery: &Delivery) -> Result<(), StoreError> {
        let Delivery { sink, group, revision, .. } = delivery;
        let sql = "DELETE FROM outbox WHERE sink = ?1 AND group_id = ?2 AND revision = ?3";
        self.connection.prepare_cached(sql)?.execute(params![sink, group.0, revision])?;
        let sql = "UPDATE outbox SET attempts = 0, last_error = NULL WHERE sink = ?1 AND group_id = ?2";
        self.connection.prepare_cached(sql)?.execute(params![sink, group.0])?;
        Ok(())
    }

    /// Notes that a sink could not be reached.
    pub fn delivery_failed(&self, delivery: &Delivery, error: &str) -> Result<(), StoreError> {
        let sql =
            "UPDATE outbox SET attempts = attempts + 1, last_error = ?3 WHERE sink = ?1 AND group_id = ?2";
        self.connection.prepare_cached(sql)?.execute(params![delivery.sink, delivery.group.0, error])?;
        Ok(())
    }

    /// Makes the outbox fit the sinks that there are: promises to others are dropped, and a new sink is promised a
    /// report on every group. Returns the names of the sinks that are gone.
    pub fn set_sinks(&self, sinks: &[String]) -> Result<Vec<String>, StoreError> {
        let known: Vec<String> = match self.fact("sinks")? {
            Some(json) => serde_json::from_str(&json).map_err(damaged)?,
            None => Vec::new(),
        };
        let gone: Vec<String> = known.iter().filter(|sink| !sinks.contains(sink)).cloned().collect();
        for sink in &gone {
            self.connection.execute("DELETE FROM outbox WHERE sink = ?1", [sink])?;
        }
        let new: Vec<String> = sinks.iter().filter(|sink| !known.contains(sink)).cloned().collect();
        for group in self.groups()? {
            self.promise(&new, group.id)?;
        }
        self.set_fact("sinks", &serde_json::to_string(sinks).map_err(damaged)?)?;
        Ok(gone)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn damaged(error: serde_json::Error) -> StoreError {
    StoreError::Damaged { what: "stored analysis", reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_promise_made_during_a_delivery_stays_open() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                let group = tables.group("s", "e", "", "sig")?.id;
                let sinks = ["a".to_owned()];
                tables.promise(&sinks, group)?;
                let first = tables.promises()?.remove(0);
                tables.delivery_failed(&first, "no room")?;
                tables.promise(&sinks, group)?;
                tables.settle(&first)?;
                let second = tables.promises()?.remove(0);
                assert_eq!((second.revision, second.attempts), (2, 0));
                tables.settle(&second)?;
                assert!(tables.promises()?.is_empty());
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn an_analysis_of_an_older_program_is_none() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                let group = tables.group("s", "e", "", "sig")?.id;
                let sql =
                    "INSERT INTO analyses (group_id, name, analysis) VALUES (?1, 'old', '{\"grid\": {}}')";
                tables.connection.execute(sql, [group.0])?;
                assert_eq!(tables.last_analysis(group)?.unwrap().result, Err(OLDER.into()));
                assert_eq!(tables.last_found(group)?, None);
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_latest_analyses_are_kept() {
        let store = Store::open_temporary().unwrap();
        store
            .write(|tables| {
                let group = tables.group("s", "e", "", "sig")?.id;
                for index in 0..=KEPT {
                    let analysed =
                        Analysed { name: format!("n{index}"), result: Err("too few".into()), since: None };
                    tables.put_analysis(group, &analysed)?;
                }
                assert_eq!(tables.last_analysis_name(group)?, Some(format!("n{KEPT}")));
                assert_eq!(tables.analysis(group, "n0")?, None);
                assert_eq!(
                    tables.analysis(group, "n1")?.map(|found| found.result),
                    Some(Err("too few".into()))
                );
                assert_eq!(tables.last_found(group)?, None);
                Ok(())
            })
            .await
            .unwrap();
    }
}

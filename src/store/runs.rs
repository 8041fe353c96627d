//! Files, runs and groups.

use rusqlite::{OptionalExtension, Row, params};

use super::{StoreError, Tables};
use crate::checkpoint::FileIdentity;

/// Number of a run in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId(pub(super) i64);

/// Number of a group in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub(super) i64);

/// One training.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Name of the source.
    pub source: String,
    /// The experiment.
    pub experiment: String,
    /// The run's name, unique in its source and experiment.
    pub name: String,
}

/// Runs that are analysed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// Name of the source.
    pub source: String,
    /// The experiment.
    pub experiment: String,
    /// The run, where each run is a group; else empty.
    pub run: String,
    /// Digest of the parameters' names and shapes.
    pub signature: String,
    /// Its folder below a sink's folder.
    pub folder: String,
}

/// A file that was dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// Path below the source's folder.
    pub path: String,
    /// What the file was then.
    pub identity: FileIdentity,
    /// Why it cannot be used; `None` where it is a checkpoint.
    pub error: Option<String>,
    /// Whether reading it again may help although it has not changed.
    pub again: bool,
}

fn group_row(row: &Row<'_>) -> rusqlite::Result<Group> {
    Ok(Group {
        id: GroupId(row.get(0)?),
        source: row.get(1)?,
        experiment: row.get(2)?,
        run: row.get(3)?,
        signature: row.get(4)?,
        folder: row.get(5)?,
    })
}

impl Tables<'_> {
    /// A fact about the whole file.
    pub fn fact(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM facts WHERE name = ?1")?;
        Ok(statement.query_row([name], |row| row.get(0)).optional()?)
    }

    /// Notes a fact about the whole file.
    pub fn set_fact(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO facts VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.connection.prepare_cached(sql)?.execute([name, value])?;
        Ok(())
    }

    /// The files of a source that were dealt with, by path.
    pub fn files(&self, source: &str) -> Result<Vec<FileRow>, StoreError> {
        let sql = "SELECT path, device, inode, size, modified_ns, error, again FROM files WHERE source = ?1 ORDER BY path";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([source], |row| {
            Ok(FileRow {
                path: row.get(0)?,
                identity: identity(row, 1)?,
                error: row.get(5)?,
                again: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a file was dealt with.
    pub fn put_file(&self, source: &str, file: &FileRow) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let FileIdentity { device, inode, size, modified_ns } = file.identity;
        self.connection.prepare_cached(sql)?.execute(params![
            source,
            file.path,
            device as i64,
            inode as i64,
            size as i64,
            modified_ns,
            file.error,
            file.again
        ])?;
        Ok(())
    }

    /// Forgets everything that came from reading files, so that those that still exist are read again.
    pub fn forget_all_that_was_read(&self) -> Result<(), StoreError> {
        self.connection.execute_batch(
            "DELETE FROM files; DELETE FROM tails; DELETE FROM losses; DELETE FROM checkpoints; DELETE FROM layouts;
            DELETE FROM monitors; DELETE FROM alerts; DELETE FROM analyses; DELETE FROM outbox;
            UPDATE tracked SET seen = NULL;",
        )?;
        Ok(())
    }

    /// The run of this name, made where it is new.
    pub fn run(&self, run: &Run) -> Result<RunId, StoreError> {
        let sql = "INSERT INTO runs (source, experiment, name) VALUES (?1, ?2, ?3)
            ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(RunId(statement.query_row([&run.source, &run.experiment, &run.name], |row| row.get(0))?))
    }

    /// A run's name.
    pub fn run_name(&self, run: RunId) -> Result<String, StoreError> {
        let mut statement = self.connection.prepare_cached("SELECT name FROM runs WHERE id = ?1")?;
        Ok(statement.query_row([run.0], |row| row.get(0))?)
    }

    /// The group of this key, made where it is new; `run` is empty where whole experiments are analysed.
    pub fn group(
        &self,
        source: &str,
        experiment: &str,
        run: &str,
        signature: &str,
    ) -> Result<Group, StoreError> {
        let key = [source, experiment, run, signature];
        let sql = "SELECT id, source, experiment, run, signature, folder FROM groups
            WHERE source = ?1 AND experiment = ?2 AND run = ?3 AND signature = ?4";
        let mut statement = self.connection.prepare_cached(sql)?;
        if let Some(group) = statement.query_row(key, group_row).optional()? {
            return Ok(group);
        }
        let folder = self.free_folder(experiment, run, signature)?;
        self.connection
            .prepare_cached(
                "INSERT INTO groups (source, experiment, run, signature, folder) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute([source, experiment, run, signature, &folder])?;
        Ok(statement.query_row(key, group_row)?)
    }

    /// The plain name for the first group that wants it, the name with the signature's beginning for those after it.
    fn free_folder(&self, experiment: &str, run: &str, signature: &str) -> Result<String, StoreError> {
        let plain = folder_name(if run.is_empty() { experiment } else { run });
        let short = signature.get(..8).unwrap_or(signature);
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM groups WHERE folder = ?1")?;
        let mut folder = plain.clone();
        let mut attempt = 1;
        while statement.exists([&folder])? {
            folder =
                if attempt == 1 { format!("{plain}-{short}") } else { format!("{plain}-{short}-{attempt}") };
            attempt += 1;
        }
        Ok(folder)
    }

    /// All groups that hold a checkpoint, by source, experiment, run and signature.
    pub fn groups(&self) -> Result<Vec<Group>, StoreError> {
        let sql = "SELECT id, source, experiment, run, signature, folder FROM groups g
            WHERE EXISTS (SELECT 1 FROM checkpoints WHERE group_id = g.id)
            ORDER BY source, experiment, run, signature";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], group_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The groups that hold checkpoints of a run.
    pub fn groups_of(&self, run: RunId) -> Result<Vec<GroupId>, StoreError> {
        let sql = "SELECT DISTINCT group_id FROM checkpoints WHERE run_id = ?1 ORDER BY group_id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([run.0], |row| row.get(0).map(GroupId))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Puts every checkpoint into its group again: by experiment, or each run for itself.
    pub fn regroup(&self, each_run: bool) -> Result<(), StoreError> {
        let sql = "SELECT DISTINCT r.id, r.source, r.experiment, r.name, c.signature
            FROM checkpoints c JOIN runs r ON r.id = c.run_id ORDER BY r.source, r.experiment, r.name, c.signature";
        let mut statement = self.connection.prepare(sql)?;
        let rows: Vec<(i64, String, String, String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?
            .collect::<Result<_, _>>()?;
        for (run, source, experiment, name, signature) in rows {
            let group = self.group(&source, &experiment, if each_run { &name } else { "" }, &signature)?;
            self.connection
                .prepare_cached("UPDATE checkpoints SET group_id = ?1 WHERE run_id = ?2 AND signature = ?3")?
                .execute(params![group.id.0, run, signature])?;
        }
        Ok(())
    }
}

/// The four columns of a file's identity, from the column `first` on.
pub(super) fn identity(row: &Row<'_>, first: usize) -> rusqlite::Result<FileIdentity> {
    Ok(FileIdentity {
        device: row.get::<_, i64>(first)? as u64,
        inode: row.get::<_, i64>(first + 1)? as u64,
        size: row.get::<_, i64>(first + 2)? as u64,
        modified_ns: row.get(first + 3)?,
    })
}

/// A path that stays below the sink's folder whatever the experiment is called.
fn folder_name(name: &str) -> String {
    let parts: Vec<String> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| if part == ".." { "__".to_owned() } else { part.replace(['\\', '\0'], "_") })
        .collect();
    if parts.is_empty() { "runs".into() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_stay_below_the_sink() {
        assert_eq!(folder_name("mnist/wide"), "mnist/wide");
        assert_eq!(folder_name("../../etc"), "__/__/etc");
        assert_eq!(folder_name("/"), "runs");
    }
}

//! Whether archived rows are in their table again.
//!
//! After a failover that lost a moment, a restore to a point in time or a move to another
//! server, the transaction that deleted them may never have been; its number says nothing there,
//! or is another one's. The rows themselves say it: a batch left its table as a whole, so either
//! all of its rows are there as they were archived, or none is.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use chrono::TimeDelta;

use super::attempts::ends;
use super::came::Fields;
use super::export::check;
use super::gate::{self, Halt};
use super::known::{give_back, known, missing, put, remember};
use super::lot::ExportError;
use super::whence::{Source, table_of};
use super::{Job, came, there};
use crate::engines::EngineError;
use crate::engines::parquet::{Checksum, Column, copy_line, rows};
use crate::engines::postgres::timeline::Standpoint;
use crate::engines::postgres::trust::{self, Use};
use crate::engines::postgres::{Fault, Identifier, Session, first as first_of};
use crate::engines::storage::Storage;
use crate::plan::{Export, Fate, Finding, Manifest, Send, Severity, Walk, archived};
use crate::values::{several, with_causes};

/// Pieces of this size are handed to the server.
const PIECE: usize = 64 << 10;
/// A table without a key is read as a whole, up to this size.
const MOST_READ_BYTES: i64 = 1 << 30;
/// A batch that was written down so long before another one has committed before it.
const BEFORE: TimeDelta = TimeDelta::days(1);

/// What was seen of a batch.
pub(super) struct Seen {
    /// Where its rows are.
    pub(super) rows: Rows,
    /// Whether the table that was looked at is another one than they left: made anew, or put in its
    /// place with rows that had left.
    pub(super) elsewhere: bool,
}

/// Where the rows of a batch are.
pub(super) enum Rows {
    /// None of them is in the table.
    Gone,
    /// All of them are, as they were archived.
    Back,
    /// Some are as they were archived, so many; or they have been changed.
    Between(i64, String),
    /// None is as it was archived; and nothing tells whether others of the table are those, changed.
    Unlike(String),
    /// Nobody can tell.
    Unseen(String),
    /// What was archived is not where it was put, so nobody can compare it.
    Away(String),
}

/// The columns, and of which type a key may be compared: the server's own, or an enum. Of a domain
/// that is the type below it, whose values nobody's expression looks at.
const COLUMNS: &str = "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN b.oid < 16384::pg_catalog.oid OR b.typtype = 'e' THEN pg_catalog.format_type(b.oid, -1) END
    FROM pg_catalog.pg_attribute a
        CROSS JOIN LATERAL (WITH RECURSIVE base (oid, below) AS (
                SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
                UNION ALL SELECT t.oid, t.typbasetype FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.below
            ) SELECT t.oid, t.typtype FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid WHERE base.below = 0) AS b
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped";

/// The columns of each key of a table, the primary one first.
const KEYS: &str = "SELECT ARRAY(SELECT a.attname::text
            FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k (n)
                JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n]
            WHERE a.attnotnull ORDER BY k.n), i.indnkeyatts::int4
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid";

/// What rows are looked for, and how.
struct Look<'a> {
    session: &'a Session,
    /// Quoted and qualified.
    table: String,
    columns: &'a [Column],
    /// Places of the key among the columns, and as which type each is compared; none where the
    /// table is read as a whole.
    key: Option<Vec<(usize, String)>>,
    /// Whether the table has all columns as they were.
    same: bool,
}

/// What was found of rows.
#[derive(Clone, Copy, Default)]
struct Found {
    /// As they were archived.
    equal: i64,
    /// With the same key, and other values.
    other: i64,
}

/// Looks where the rows of a batch are: in the table of this id, or else in the one that they left.
///
/// # Errors
/// When the server or the place of the files cannot be asked.
pub(super) async fn look(
    manifest: &Manifest,
    root: Option<u32>,
    job: Job<'_>,
) -> Result<Seen, ExportError> {
    let session = job.session;
    match gate::limit(session, job.execution, ends(job)).await {
        Ok(_) => {}
        Err(Halt::Failed(error)) => return Err(error.into()),
        Err(_) => {
            let why = "the run's time was up before archived rows were looked for";
            return Err(ExportError::Proof(why.to_owned()));
        }
    }
    session.execute("opening a transaction", "BEGIN").await?;
    let mut elsewhere = false;
    let rows = within(manifest, root, &mut elsewhere, job).await;
    let ended = session.execute("ending the transaction", "ROLLBACK").await;
    let rows = match rows {
        // Row security, for one: then a person looks.
        Err(ExportError::Engine(error)) if Fault::of(&error) == Fault::Forbidden => {
            Rows::Unseen(with_causes(&error))
        }
        rows => rows?,
    };
    ended?;
    Ok(Seen { rows, elsewhere })
}

async fn within(
    manifest: &Manifest,
    root: Option<u32>,
    elsewhere: &mut bool,
    job: Job<'_>,
) -> Result<Rows, ExportError> {
    let session = job.session;
    let found = table_of(manifest, root, job).await?;
    // Where rows are hidden from us, the server says so instead.
    let all = "SET LOCAL row_security = off";
    session.execute("asking for all rows", all).await?;
    let Some(Source {
        oid,
        name: table,
        bytes,
        is_another,
    }) = found
    else {
        return Ok(Rows::Gone);
    };
    *elsewhere = is_another;
    let trusted = there::trusted(&job.execution.target, job);
    trust::admit(session, &table, &[Use::Read], &trusted).await?;
    let look = Look::new(session, oid, table, &manifest.columns).await?;
    if look.key.is_none() && (bytes > MOST_READ_BYTES || !look.same) {
        return Ok(Rows::Unseen(format!(
            "{} has no key that the archive has as well",
            look.table
        )));
    }
    let mut all = Found::default();
    let mut asked = 0;
    if manifest.received.is_some() {
        let there = match came::rows_there(manifest, job).await? {
            Ok(there) => there,
            Err(why) => return Ok(Rows::Unseen(why)),
        };
        all = look.find(there).await?;
        asked = manifest.rows;
    } else {
        let storage = Storage::open(&manifest.storage)?;
        for file in &manifest.files {
            let content = match storage.get(&file.path, file.size()).await {
                Ok(content) => content,
                Err(error) => return Ok(Rows::Away(with_causes(&error))),
            };
            if let Err(why) = check(content.clone(), file, &manifest.columns) {
                return Ok(Rows::Away(format!("{}: {why}", storage.full(&file.path))));
            }
            let rows: Vec<Fields> = rows(content, &manifest.columns)?.collect::<Result<_, _>>()?;
            let found = look.find(rows).await?;
            all.equal += found.equal;
            all.other += found.other;
            asked += file.rows;
            // A batch went as a whole, or not at all.
            if all.equal + all.other == 0 {
                break;
            }
        }
    }
    Ok(match all {
        Found { equal: 0, other: 0 } if look.key.is_none() && look.has_rows().await? => {
            Rows::Unlike(format!(
                "no row of {} is like one of the {asked} that were archived, and it has no key that would find those that somebody has changed",
                look.table
            ))
        }
        Found { equal: 0, other: 0 } => Rows::Gone,
        Found { equal, other: 0 } if equal == asked && look.key.is_some() => Rows::Back,
        Found { equal, .. } if look.key.is_none() => Rows::Between(
            equal,
            format!(
                "{} of {} {} like the {asked} that were archived, and it has no key that would tell whether they are the same",
                several(equal, "row"),
                look.table,
                if equal == 1 { "is" } else { "are" }
            ),
        ),
        Found { equal, other } => Rows::Between(
            equal,
            format!(
                "of the {} {} in {} as they were archived, and {other} with other values",
                several(asked, "row"),
                if equal == 1 {
                    format!("{equal} is")
                } else {
                    format!("{equal} are")
                },
                look.table
            ),
        ),
    })
}

/// Whether the table of this id, or the partition of it that a batch left, has a key by which its
/// rows are found.
async fn keyed(manifest: &Manifest, root: u32, job: Job<'_>) -> Result<bool, ExportError> {
    let Some(found) = table_of(manifest, Some(root), job).await? else {
        return Ok(false);
    };
    let look = Look::new(job.session, found.oid, found.name, &manifest.columns).await?;
    Ok(look.key.is_some())
}

impl<'a> Look<'a> {
    async fn new(
        session: &'a Session,
        oid: u32,
        table: String,
        columns: &'a [Column],
    ) -> Result<Look<'a>, EngineError> {
        let doing = "looking for a key of archived rows";
        let mut types: HashMap<String, (String, Option<String>)> = HashMap::new();
        for row in session.query(doing, COLUMNS, &[&oid]).await? {
            types.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
        }
        let is_same =
            |column: &Column| types.get(&column.name).map(|(own, _)| own) == Some(&column.pg_type);
        let mut key = None;
        for row in session.query(doing, KEYS, &[&oid]).await? {
            let (names, wanted): (Vec<String>, i32) = (row.get(0)?, row.get(1)?);
            let of = |name: &String| {
                let place = columns.iter().position(|c| c.name == *name && is_same(c))?;
                Some((place, types.get(name)?.1.clone()?))
            };
            let places: Option<Vec<(usize, String)>> = names.iter().map(of).collect();
            let whole = i32::try_from(names.len()) == Ok(wanted) && wanted > 0;
            key = places.filter(|_| whole);
            if key.is_some() {
                break;
            }
        }
        Ok(Look {
            session,
            table,
            same: columns.iter().all(is_same),
            columns,
            key,
        })
    }

    /// Whether there is any row in the table.
    async fn has_rows(&self) -> Result<bool, EngineError> {
        let doing = "looking whether a table has rows";
        let sql = format!("SELECT EXISTS (SELECT FROM {})", self.table);
        let rows = self.session.query(doing, &sql, &[]).await?;
        Ok(first_of(&rows, 0)?.unwrap_or(true))
    }

    /// Finds rows of the archive in the table.
    async fn find(&self, rows: Vec<Fields>) -> Result<Found, ExportError> {
        let mut wanted: HashMap<Checksum, i64> = HashMap::new();
        for row in &rows {
            let fields = row.iter().map(Option::as_deref);
            *wanted.entry(self.sum(fields)).or_default() += 1;
        }
        let name = |n: &usize| Identifier::new(&*self.columns[*n].name).to_string();
        let columns: Vec<usize> = match self.same {
            true => (0..self.columns.len()).collect(),
            // Whatever has become of the others: the key tells whether they are there.
            false => self.key.iter().flatten().map(|(n, _)| *n).collect(),
        };
        let what: Vec<String> = columns
            .iter()
            .map(|n| self.columns[*n].selected(&format!("t.{}", name(n))))
            .collect();
        let mut sql = format!("SELECT {} FROM {} AS t", what.join(", "), self.table);
        if let Some(key) = &self.key {
            self.stage(key, &rows).await?;
            let equal: Vec<String> = key
                .iter()
                .map(|(n, _)| format!("t.{} OPERATOR(pg_catalog.=) s.{}", name(n), name(n)))
                .collect();
            sql += &format!(" JOIN pg_temp.maint_again AS s ON {}", equal.join(" AND "));
        }
        let mut found = Found::default();
        let keyed = self.key.is_some();
        let doing = "looking whether archived rows are in their table";
        self.session
            .stream(doing, &sql, &[], |fields| {
                let there = self.same.then(|| self.sum(fields.iter().copied()));
                match there.and_then(|sum| wanted.get_mut(&sum)) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        found.equal += 1;
                    }
                    _ if keyed => found.other += 1,
                    _ => {}
                }
                true
            })
            .await?;
        Ok(found)
    }

    fn sum<'f>(&self, fields: impl Iterator<Item = Option<&'f [u8]>>) -> Checksum {
        let mut sum = Checksum::default();
        sum.add(self.columns, fields);
        sum
    }

    /// Puts the keys where the server can compare them: by their own types and collations.
    async fn stage(&self, key: &[(usize, String)], rows: &[Fields]) -> Result<(), ExportError> {
        let columns: Vec<Column> = key.iter().map(|(n, _)| self.columns[*n].clone()).collect();
        let names: Vec<String> = key
            .iter()
            .map(|(n, base)| {
                let name = Identifier::new(&*self.columns[*n].name);
                format!("{name}::{base} AS {name}")
            })
            .collect();
        let doing = "making room for keys of archived rows";
        for sql in [
            "DROP TABLE IF EXISTS pg_temp.maint_again".to_owned(),
            format!(
                "CREATE TEMPORARY TABLE maint_again ON COMMIT DROP AS SELECT {} FROM {} WHERE false",
                names.join(", "),
                self.table
            ),
            // A batch is small beside its table: each row is sought by the key's index.
            "SET LOCAL enable_hashjoin = off".to_owned(),
            "SET LOCAL enable_mergejoin = off".to_owned(),
        ] {
            let made = self.session.execute(doing, &sql).await;
            made.map_err(|error| match Fault::of(&error) {
                Fault::Forbidden => ExportError::Proof(format!(
                    "whether archived rows are in {} again cannot be seen: the role of maint may make no temporary table; GRANT TEMPORARY ON DATABASE {} TO {}",
                    self.table,
                    Identifier::new(&*self.session.server.database),
                    Identifier::new(&*self.session.server.role)
                )),
                _ => error.into(),
            })?;
        }
        let mut failed = None;
        let mut left = rows.iter();
        let next = || {
            let mut piece = String::new();
            while piece.len() < PIECE {
                let Some(row) = left.next() else { break };
                let row: Vec<Option<Vec<u8>>> = key
                    .iter()
                    .map(|(n, _)| row.get(*n).cloned().flatten())
                    .collect();
                if let Err(error) = copy_line(&columns, &row, &mut piece) {
                    failed = Some(error);
                    return None;
                }
            }
            (!piece.is_empty()).then(|| Bytes::from(piece))
        };
        let copy = "COPY pg_temp.maint_again FROM STDIN";
        self.session.copy_in(doing, copy, next).await?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// Looks at the newest batch, and at those before it if that is in its table again: no number of a
/// server tells that it was set back to a snapshot, once it has gone on from there. Without a key
/// nothing is looked at, since rows may well be alike.
///
/// # Errors
/// When it cannot be seen, or a person has to say it.
pub(super) async fn first(
    walk: &Walk,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), EngineError> {
    let Some(newest) = &walk.newest else {
        return Ok(());
    };
    let (Fate::Export(Export { source, oid, .. }) | Fate::Send(Send { source, oid, .. })) =
        &walk.fate
    else {
        return Ok(());
    };
    let looked = async {
        if !keyed(newest, *oid, job).await? {
            return Ok(());
        }
        match look(newest, Some(*oid), job).await?.rows {
            Rows::Back | Rows::Between(1.., _) => {
                look_back(source, *oid, &BTreeMap::new(), job, findings).await
            }
            Rows::Gone | Rows::Between(..) | Rows::Unlike(_) | Rows::Unseen(_) | Rows::Away(_) => {
                Ok(())
            }
        }
    };
    looked.await.map_err(ExportError::into_engine)
}

/// Looks, from the newest to the oldest, whether batches that have left a table are in it again,
/// and takes back what was archived of those: what a server loses is the end of its history. What
/// somebody has put back may be of any time: of the partitions `put_back`, which are other tables by
/// now, each is looked at.
///
/// # Errors
/// When it cannot be seen, or a person has to say it.
pub(super) async fn look_back(
    source: &str,
    oid: u32,
    put_back: &BTreeMap<String, u32>,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    let here = Standpoint::of(job.session).await?;
    let memories = known(job).await?;
    let mut gone: HashSet<String> = HashSet::new();
    let mut before = None;
    let (mut between, mut undone) = (Vec::new(), Vec::new());
    let left = Manifest::left(source, oid, &here, &memories);
    for manifest in left.into_iter().rev() {
        if gone.contains(&manifest.table) {
            continue;
        }
        if before.is_some_and(|before| manifest.created_at < before)
            && !put_back.contains_key(&manifest.table)
        {
            continue;
        }
        let seen = look(&manifest, Some(oid), job).await?;
        if matches!(seen.rows, Rows::Unseen(_)) {
            // Those before it are as unseen.
            gone.insert(manifest.table.clone());
        }
        match seen.rows {
            Rows::Gone => {
                before = before.or(Some(manifest.created_at - BEFORE));
                gone.insert(manifest.table);
            }
            // A table that was made anew gives the same keys to other rows, or has other columns.
            Rows::Between(0, why) | Rows::Unseen(why) if seen.elsewhere => {
                findings.push(unclear(&manifest, &why));
                gone.insert(manifest.table);
            }
            // Those before it are as unclear, and nothing of them is in the archive twice.
            Rows::Unlike(why) => {
                findings.push(unclear(&manifest, &why));
                gone.insert(manifest.table);
            }
            Rows::Back => {
                take_back(&manifest, job, findings).await?;
                undone.push(manifest);
            }
            Rows::Between(_, why) | Rows::Unseen(why) => {
                let unsettled = Manifest {
                    settled: false,
                    doubted: true,
                    ..manifest
                };
                remember(job, &unsettled).await?;
                between.push((unsettled, why));
            }
            // It is asked again once they are there.
            Rows::Away(why) => {
                let storage = Storage::open(&manifest.storage)?;
                findings.extend(missing(&storage, &manifest).await?);
                return Err(ExportError::Proof(format!(
                    "whether rows that were archived are in {source} again cannot be seen, and nothing was archived: {why}"
                )));
            }
        }
    }
    findings.extend(told_undone(source, &undone));
    let tables: Vec<u32> = put_back.values().copied().chain([oid]).collect();
    let looked = Manifest::looked(source, &here, &tables, &memories);
    put(job, &archived::seen_as(source), looked).await?;
    match between.first() {
        None => Ok(()),
        Some((manifest, why)) => Err(ExportError::Proof(format!(
            "batches that were archived before this server took over, or was set back, or the database or the table was put back, may be in their table again, and it cannot be told: {}. Of the newest, {why}. Nothing was archived meanwhile. {}",
            between.len(),
            super::known::by_hand(manifest)
        ))),
    }
}

/// Removes what was archived of rows that are in their table.
pub(super) async fn take_back(
    manifest: &Manifest,
    job: Job<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), ExportError> {
    if manifest.received.is_some() {
        return came::take_back(manifest, job).await;
    }
    give_back(job, manifest, findings).await
}

fn unclear(manifest: &Manifest, why: &str) -> Finding {
    Finding {
        code: "archive.unclear".to_owned(),
        severity: Severity::Warning,
        object: manifest.source.clone(),
        message: format!(
            "whether rows that left {} before this server took over, or was set back, or the database or the table was put back or made anew, are in it again, changed since, cannot be told: {why}. The newest of them are the archive {}, of {}; what is in the table is archived as it is by now",
            manifest.table,
            manifest.id,
            manifest.created_at.format("%Y-%m-%d %H:%M:%S UTC")
        ),
        suggestion: None,
    }
}

fn told_undone(source: &str, undone: &[Manifest]) -> Option<Finding> {
    let first = undone.last()?;
    let rows: i64 = undone.iter().map(|m| m.rows).sum();
    Some(Finding {
        code: "archive.undone".to_owned(),
        severity: Severity::Warning,
        object: source.to_owned(),
        message: format!(
            "{} that had been archived in {} since {} {} in the table again: the server that took over, or the backup that it, the database or the table came from, does not know that they left, or somebody has put them back. What was archived of them was removed, and they are archived anew. Whatever else was written since may be lost as well",
            several(rows, "row"),
            match undone.len() {
                1 => "1 batch".to_owned(),
                many => format!("{many} batches"),
            },
            first.created_at.format("%Y-%m-%d %H:%M:%S UTC"),
            if rows == 1 { "is" } else { "are" }
        ),
        suggestion: None,
    })
}

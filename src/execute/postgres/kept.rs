//! Rows that meet the condition of a walk and do not go: which, and why.

mod told;

use std::collections::{BTreeMap, BTreeSet};

use super::{Job, ask, stayers};
use crate::engines::EngineError;
use crate::plan::{Finding, Range, Walk, Without};
use crate::values::with_causes;

/// After more refused rows than this none is tried one by one.
const MOST_REFUSED: i64 = 1_000;

/// In so many batches locked rows are waited for; more of them are no
/// accident, and each costs all the time that waiting is allowed to take.
const MOST_WAITS: u32 = 10;

/// What has stayed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Rows that others point at, which stay.
    pub(super) referenced: i64,
    /// The same by foreign key, in the order of the plan.
    pub(super) by_key: Vec<i64>,
    /// Rows that the server refused to delete, one by one.
    pub(super) refused: i64,
    /// What it said of the first of them.
    pub(super) said: Option<String>,
    /// How many of them each constraint keeps, or what else has a name or a code.
    pub(super) by_rule: BTreeMap<String, i64>,
    /// Rows that somebody has locked for longer than is waited.
    pub(super) locked: i64,
    /// In so many batches.
    pub(super) waits: u32,
    /// Who, as far as it was seen.
    pub(super) locker: Option<String>,
    /// Rows that were told to go and stayed, without an error.
    pub(super) silent: i64,
    /// Of these, those that would have been changed instead, which was given back.
    pub(super) changed: i64,
    /// Whether the walk has ended because of them.
    pub(super) in_vain: bool,
    /// Rows that are too large, and how large.
    pub(super) heavy: Vec<(String, i64)>,
    /// Why no more may go.
    pub(super) beyond: Option<Finding>,
}

/// Whether an error is about a row, not about the table or the session: then
/// other rows may go. A trigger that raises one for a row may give it any code.
pub(super) fn is_about_a_row(error: &EngineError) -> bool {
    let (sqlstate, origin) = match error {
        EngineError::Statement {
            sqlstate, origin, ..
        } => (sqlstate, origin),
        EngineError::NotKept { .. } | EngineError::Aftermath { .. } => return true,
        _ => return false,
    };
    // triggered_action_exception, data exceptions, integrity constraints,
    // triggered_data_change_violation, with_check_option, raised by functions
    let codes = ["09", "22", "23", "27", "44", "P0"];
    let class = sqlstate.get(..2).unwrap_or_default();
    origin.is_raised()
        || codes.contains(&class)
        || (origin.context.is_some() && IN_CODE.contains(&class))
}

/// What code that is at work with a row may meet, and with another row not: what it calls is forbidden,
/// or too much of it. Nothing of these says that the server, the session or the transaction has come to
/// an end. What is missing is told with the step, as it says how it is found.
const IN_CODE: [&str; 14] = [
    "0A", // feature_not_supported
    "0L", // invalid_grantor
    "0P", // invalid_role_specification
    "20", // case_not_found
    "21", // cardinality_violation
    "24", // invalid_cursor_state
    "2F", // sql_routine_exception
    "34", // invalid_cursor_name
    "38", // external_routine_exception
    "39", // external_routine_invocation_exception
    "3F", // invalid_schema_name
    "42", // access rule violation, also undefined objects
    "54", // program_limit_exceeded
    "HV", // errors of other servers
];

/// Whether an error says that a row is not to be where another one is: each of the two may go.
pub(super) fn is_collision(error: &EngineError) -> bool {
    // unique_violation, exclusion_violation
    matches!(error.sqlstate(), Some("23505" | "23P01"))
        && !matches!(error, EngineError::Statement { origin, .. } if origin.is_raised())
}

/// The places of rows that somebody else has locked: a row lock that is held
/// for long keeps its row, and not the others of the batch.
///
/// # Errors
/// When it cannot be told, as where the table itself is locked.
pub(super) async fn locked(
    walk: &Walk,
    range: &Range,
    without: &Without,
    job: Job<'_>,
) -> Result<Vec<String>, EngineError> {
    let session = job.session;
    session.execute("opening a transaction", "BEGIN").await?;
    let compared = async {
        if let Some(guard) = &job.step.body.guard {
            guard.take(session).await?;
        }
        let doing = "looking which rows are locked";
        let all = walk.select("ctid::text", range, without);
        let mut free = all.clone();
        free.sql.push_str(" FOR UPDATE SKIP LOCKED");
        let free = ask(session, doing, &free).await?;
        let all = ask(session, doing, &all).await?;
        let mut places = BTreeSet::new();
        for row in &all {
            places.insert(row.get::<String>(0)?);
        }
        for row in &free {
            places.remove(&row.get::<String>(0)?);
        }
        Ok(places.into_iter().collect())
    }
    .await;
    session.execute("rolling back", "ROLLBACK").await?;
    compared
}

/// Whether a foreign key is in the way.
pub(super) fn is_reference(error: &EngineError) -> bool {
    // foreign_key_violation, restrict_violation
    matches!(error.sqlstate(), Some("23503" | "23001"))
}

impl Kept {
    pub(super) fn referenced(&self) -> i64 {
        self.referenced
    }

    /// Rows that were met and stay.
    pub(super) fn all(&self) -> i64 {
        self.referenced + self.refused + self.silent + self.locked
    }

    /// Counts a row that the server has refused by itself.
    pub(super) fn refuse(&mut self, place: &str, error: &EngineError) {
        self.refused = self.refused.saturating_add(1);
        let rule = match error {
            EngineError::Statement {
                sqlstate, origin, ..
            } => match &origin.rule {
                Some(rule) => rule.clone(),
                None => format!("SQLSTATE {sqlstate}"),
            },
            _ => "their values".to_owned(),
        };
        *self.by_rule.entry(rule).or_default() += 1;
        self.said
            .get_or_insert_with(|| format!("the one at ctid {place}: {}", with_causes(error)));
    }

    /// Whether so many were refused that the walk ends here.
    pub(super) fn are_many(&self) -> bool {
        self.refused > MOST_REFUSED
    }

    pub(super) fn silent(&mut self, rows: i64) {
        self.silent = self.silent.saturating_add(rows);
    }

    /// Rows that stay because what hangs on the table changes them instead: whether so many are
    /// changed in vain that the walk ends here.
    pub(super) fn changed(&mut self, rows: i64, gone: i64) -> bool {
        self.changed = self.changed.saturating_add(rows);
        self.in_vain = rows > 0 && stayers::in_vain(self.changed, gone);
        self.in_vain
    }

    /// Whether the walk has ended because nothing but changes came of it.
    pub(super) fn is_in_vain(&self) -> bool {
        self.in_vain
    }

    /// Whether it may be worth while to wait for locked rows once more.
    pub(super) fn may_wait_again(&self) -> bool {
        self.waits < MOST_WAITS
    }

    /// Rows that are locked, and why they could not be had.
    pub(super) fn locked(&mut self, rows: usize, why: String) {
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.locked = self.locked.saturating_add(rows);
        self.waits += 1;
        self.locker.get_or_insert(why);
    }

    pub(super) fn beyond(&mut self, finding: Finding) {
        self.beyond = Some(finding);
    }

    pub(super) fn take_beyond(&mut self) -> Option<Finding> {
        self.beyond.take()
    }

    /// Rows that are too large to be kept in memory.
    pub(super) fn heavy(&mut self, rows: &[(String, i64)]) {
        self.heavy.extend_from_slice(rows);
    }

    /// Counts what has stayed of a range, by who points at it.
    pub(super) async fn count(
        &mut self,
        walk: &Walk,
        range: &Range,
        job: Job<'_>,
    ) -> Result<(), EngineError> {
        let points: Vec<String> = walk
            .references
            .iter()
            .map(|r| r.points_at(&walk.alias))
            .collect();
        let each: Vec<String> = points
            .iter()
            .map(|p| format!("count(*) FILTER (WHERE {p})"))
            .collect();
        let what = format!(
            "count(*) FILTER (WHERE {}), {}",
            points.join(" OR "),
            each.join(", ")
        );
        let query = walk.select(&what, range, &Without::default());
        let answer = ask(job.session, "counting rows that stay", &query).await?;
        let Some(row) = answer.first() else {
            return Ok(());
        };
        let number = |n: usize| row.get::<i64>(n);
        self.referenced = self.referenced.saturating_add(number(0)?);
        self.by_key.resize(walk.references.len(), 0);
        for (n, count) in self.by_key.iter_mut().enumerate() {
            *count = count.saturating_add(number(n + 1)?);
        }
        Ok(())
    }
}

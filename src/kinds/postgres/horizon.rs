//! What keeps dead rows alive: transactions, prepared transactions,
//! replication slots and standbys that may still want to see them.

use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::engines::EngineError;
use crate::engines::postgres::catalog::{DROP_IDLE_SLOT, END_SESSION};
use crate::engines::postgres::{RelationName, Session, each};
use crate::plan::{Finding, Severity};

/// Somebody who holds back the horizon up to which rows can be removed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Holder {
    /// `session`, `prepared transaction`, `replication slot`, `standby`.
    pub(super) what: String,
    /// Process id, or the name of the prepared transaction or slot.
    pub(super) id: String,
    /// Role and application, where there are such.
    pub(super) who: String,
    /// How many transactions ago its view of the data was taken.
    pub(super) age: i64,
    /// Since when; unknown for replication slots.
    pub(super) since: Option<DateTime<Utc>>,
    /// The statement that ends it, or of a standby, that shows what it reads; none where that cannot be
    /// said.
    pub(super) end: Option<String>,
    /// In another database, or of the whole server: it matters only to who
    /// takes a view of the data while it lasts, which may be anybody.
    pub(super) elsewhere: bool,
    /// The oldest transaction whose rows it may still want, where nothing says since when: of
    /// replication slots and standbys.
    pub(super) view: Option<String>,
}

impl Holder {
    /// How it is remembered that this one kept a vacuum from having an effect.
    pub(super) fn remembered(&self) -> Option<Value> {
        let view = self.view.as_ref()?;
        Some(json!({ "what": self.what, "id": self.id, "view": view }))
    }
}

/// What is known of the last vacuum of a table.
pub(super) struct Vacuumed<'a> {
    /// When it was.
    pub(super) at: Option<DateTime<Utc>>,
    /// Whether this run has done it, and it had no effect.
    pub(super) in_vain: bool,
    /// Who was remembered to have kept an earlier one from having an effect.
    pub(super) kept_by: Option<&'a Value>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.id)?;
        if !self.who.is_empty() {
            write!(f, " ({})", self.who)?;
        }
        match self.since {
            Some(since) => write!(f, ", since {}", since.format("%Y-%m-%d %H:%M:%S UTC")),
            None => Ok(()),
        }
    }
}

/// What a standby that reads old rows is called.
const STANDBY: &str = "standby";

const HOLDERS: &str = "SELECT 'session' AS what, a.pid::text AS id,
        pg_catalog.concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state) AS who,
        greatest(pg_catalog.age(a.backend_xid), pg_catalog.age(a.backend_xmin))::int8 AS age, a.xact_start AS since, {end_session} AS ending,
        a.datname IS DISTINCT FROM pg_catalog.current_database() AS elsewhere, NULL::text AS view
    FROM pg_catalog.pg_stat_activity a
    WHERE a.pid <> pg_catalog.pg_backend_pid()
        AND a.backend_type IN ('client backend', 'background worker')
        AND CASE WHEN a.datname = pg_catalog.current_database() THEN a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL
            ELSE a.backend_xid IS NOT NULL END
    UNION ALL SELECT 'prepared transaction', p.gid, p.owner::text,
        pg_catalog.age(p.transaction)::int8, p.prepared, pg_catalog.format('ROLLBACK PREPARED %L', p.gid), p.database <> pg_catalog.current_database(), NULL
    FROM pg_catalog.pg_prepared_xacts p
    UNION ALL SELECT 'replication slot', s.slot_name::text, '', pg_catalog.age(s.xmin)::int8, NULL, {drop_slot}, false, s.xmin::text
    FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL
    UNION ALL SELECT 'standby', r.pid::text, pg_catalog.concat_ws(', ', r.usename, r.application_name),
        pg_catalog.age(r.backend_xmin)::int8, NULL, 'SELECT a.pid, a.xact_start, a.state FROM pg_catalog.pg_stat_activity a WHERE a.backend_xmin IS NOT NULL ORDER BY a.xact_start -- on the standby', false, r.backend_xmin::text
    FROM pg_catalog.pg_stat_replication r WHERE r.backend_xmin IS NOT NULL
    ORDER BY age DESC";

/// Who may still see what died before the transaction `$1::xid`, worst first:
/// who it is, the statement that ends it, whether it is in another database. A
/// vacuum shows an old view of the data, and holds nobody back with it.
pub(super) const OLDER_THAN: &str = "SELECT h.who, h.ending, h.elsewhere FROM (
        SELECT pg_catalog.concat('session ', a.pid, ' (', pg_catalog.concat_ws(', ', a.usename, nullif(a.application_name, ''), a.state), '), since ', pg_catalog.to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), ' UTC') AS who,
            greatest(pg_catalog.age(a.backend_xid), pg_catalog.age(a.backend_xmin))::int8 AS age,
            CASE WHEN a.xact_start IS NOT NULL THEN pg_catalog.format('SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a WHERE a.pid = %s AND a.backend_start = %L AND a.xact_start = %L', a.pid, a.backend_start, a.xact_start) END AS ending,
            a.datname IS DISTINCT FROM pg_catalog.current_database() AS elsewhere
        FROM pg_catalog.pg_stat_activity a
        WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type IN ('client backend', 'background worker')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)
            AND CASE WHEN a.datname = pg_catalog.current_database() THEN a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL
                ELSE a.backend_xid IS NOT NULL END
        UNION ALL SELECT pg_catalog.concat('prepared transaction ', p.gid, ' (', p.owner, ')'), pg_catalog.age(p.transaction)::int8,
            pg_catalog.format('ROLLBACK PREPARED %L', p.gid), p.database <> pg_catalog.current_database()
        FROM pg_catalog.pg_prepared_xacts p
        UNION ALL SELECT pg_catalog.concat('replication slot ', s.slot_name), pg_catalog.age(s.xmin)::int8,
            pg_catalog.format('SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = %L AND NOT s.active', s.slot_name), false
        FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL
        UNION ALL SELECT pg_catalog.concat('standby ', r.pid, ' (', r.application_name, ')'), pg_catalog.age(r.backend_xmin)::int8,
            'SELECT a.pid, a.xact_start, a.state FROM pg_catalog.pg_stat_activity a WHERE a.backend_xmin IS NOT NULL ORDER BY a.xact_start -- on the standby', false
        FROM pg_catalog.pg_stat_replication r WHERE r.backend_xmin IS NOT NULL) h
    WHERE h.age >= pg_catalog.age($1::xid)::int8 ORDER BY h.age DESC LIMIT 100";

/// Everybody who holds back the horizon of this database, worst first.
pub(super) async fn holders(db: &Session) -> Result<Vec<Holder>, EngineError> {
    let doing = "reading who holds back the removal of dead rows";
    let sql = HOLDERS
        .replace("{end_session}", END_SESSION)
        .replace("{drop_slot}", DROP_IDLE_SLOT);
    let rows = db.query(doing, &sql, &[]).await?;
    each(&rows, |row| {
        Ok(Holder {
            what: row.named("what")?,
            id: row.named("id")?,
            who: row.named("who")?,
            age: row.named("age")?,
            since: row.named("since")?,
            end: row.named("ending")?,
            elsewhere: row.named("elsewhere")?,
            view: row.named("view")?,
        })
    })
}

/// Who makes a vacuum of this table useless: a view of the data taken before
/// the last vacuum. That vacuum removed all that could be; whatever died
/// since can still be seen by the holder. Somebody `elsewhere` counts only
/// where a vacuum has shown that it had no effect; and so does who does not
/// tell since when, a slot or a standby, until what it sees has moved on.
pub(super) fn blocks_removal<'a>(
    holders: &'a [Holder],
    vacuumed: &Vacuumed<'_>,
) -> Option<&'a Holder> {
    let last = vacuumed.at?;
    let blocks = |h: &&Holder| match (h.since, h.remembered()) {
        (Some(since), _) => since < last,
        (None, Some(seen)) => (vacuumed.in_vain && h.age > 0) || vacuumed.kept_by == Some(&seen),
        (None, None) => false,
    };
    // Who is elsewhere keeps rows only through a view that somebody here has taken, so who is here
    // is told first, however young.
    let mut here = holders.iter().filter(|h| !h.elsewhere);
    let mut elsewhere = holders.iter().filter(|h| vacuumed.in_vain && h.elsewhere);
    here.find(blocks).or_else(|| elsewhere.find(blocks))
}

/// Who makes freezing useless: freezing cannot get past the holder's age, and
/// less than a tenth of the table's age would be won.
pub(super) fn blocks_freezing(holders: &[Holder], table_age: i64) -> Option<&Holder> {
    holders
        .iter()
        .filter(|h| !h.elsewhere)
        .max_by_key(|h| h.age)
        .filter(|h| h.age > table_age - table_age / 10)
}

/// What to do about a holder, as the end of a sentence. Whatever a standby reads, and where it reads
/// nothing, it says so now and then only.
fn what_to_do(holder: &Holder) -> &'static str {
    match holder.what == STANDBY {
        true => {
            ". It says what it reads every `wal_receiver_status_interval` only, 10 s unless set otherwise: what it has not said yet is seen by a later vacuum. Where it lasts, look for old transactions there; with `hot_standby_feedback = off` it holds nothing back, and its long queries are cancelled"
        }
        false => "; end it once you know what it is for",
    }
}

/// One finding for all tables whose dead rows wait for somebody.
pub(super) fn finding(held_back: &[(&RelationName, &Holder)]) -> Option<Finding> {
    told(held_back, |these, holder| {
        format!(
            "dead rows of {these} cannot be removed while {holder} may still read them{}",
            what_to_do(holder)
        )
    })
}

/// One finding for all tables whose ids cannot be frozen because of somebody.
pub(super) fn unfrozen(held_back: &[(&RelationName, &Holder)]) -> Option<Finding> {
    told(held_back, |these, holder| {
        format!(
            "the old transaction ids of {these} cannot be frozen while {holder} is there: where that lasts, the server takes no more writes one day{}",
            what_to_do(holder)
        )
    })
}

fn told(
    held_back: &[(&RelationName, &Holder)],
    message: impl Fn(&str, &Holder) -> String,
) -> Option<Finding> {
    let (first, holder) = held_back.first()?;
    let others = match held_back.len() - 1 {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    Some(Finding {
        code: "vacuum.held_back".to_owned(),
        severity: Severity::Warning,
        object: first.to_string(),
        message: message(&format!("{first}{others}"), holder),
        suggestion: holder.end.clone(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use chrono::{TimeDelta, TimeZone};

    use super::*;

    fn holder(id: &str, age: i64, since: Option<DateTime<Utc>>, elsewhere: bool) -> Holder {
        Holder {
            what: "session".to_owned(),
            id: id.to_owned(),
            who: String::new(),
            age,
            since,
            end: None,
            elsewhere,
            view: since.is_none().then(|| format!("{}", 1_000 - age)),
        }
    }

    /// Who is told, of these, after a vacuum at noon.
    fn told(holders: &[Holder], in_vain: bool, kept_by: Option<&Value>) -> Option<String> {
        let vacuumed = Vacuumed {
            at: Some(noon()),
            in_vain,
            kept_by,
        };
        blocks_removal(holders, &vacuumed).map(|one| one.id.clone())
    }

    fn noon() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 1, 12, 0, 0).unwrap()
    }

    #[test]
    fn who_is_here_is_told_before_who_is_elsewhere() {
        let before = Some(noon() - TimeDelta::hours(1));
        let older = holder("elsewhere", 10, before, true);
        let here = holder("here", 5, before, false);
        let both = [older.clone(), here];
        assert_eq!(told(&both, true, None).as_deref(), Some("here"));
        // Alone it counts where a vacuum has shown that it had no effect.
        assert_eq!(
            told(std::slice::from_ref(&older), true, None).as_deref(),
            Some("elsewhere")
        );
        assert_eq!(told(&[older], false, None), None);
        // Who came after the vacuum has kept nothing from it.
        let later = holder("later", 5, Some(noon() + TimeDelta::hours(1)), false);
        assert_eq!(told(&[later], true, None), None);
    }

    #[test]
    fn a_slot_is_told_after_a_vacuum_in_vain_until_it_moves_on() {
        let slot = holder("slot", 5, None, false);
        assert_eq!(told(std::slice::from_ref(&slot), false, None), None);
        assert_eq!(
            told(std::slice::from_ref(&slot), true, None).as_deref(),
            Some("slot")
        );
        let seen = slot.remembered().unwrap();
        assert_eq!(told(&[slot], false, Some(&seen)).as_deref(), Some("slot"));
        // What it sees has moved on; or it sees everything.
        let moved = holder("slot", 4, None, false);
        assert_eq!(told(&[moved], false, Some(&seen)), None);
        assert_eq!(told(&[holder("slot", 0, None, false)], true, None), None);
    }

    /// Right after deletes it may only not have said yet that it reads nothing.
    #[test]
    fn a_standby_is_not_to_be_ended() {
        let table = RelationName::new("app", "t");
        let mut standby = holder("4711", 5, None, false);
        let session = finding(&[(&table, &standby)]).unwrap().message;
        assert!(
            session.ends_with("; end it once you know what it is for"),
            "{session}"
        );
        standby.what = STANDBY.to_owned();
        let told = finding(&[(&table, &standby)]).unwrap().message;
        assert!(told.contains("wal_receiver_status_interval"), "{told}");
        assert!(!told.contains("end it"), "{told}");
        for sql in [HOLDERS, OLDER_THAN] {
            assert!(!sql.contains("hot_standby_feedback = off"), "{sql}");
        }
    }
}

//! The tables of pg_partman as a draft.

use super::delete::span;
use crate::engines::EngineError;
use crate::engines::postgres::{Identifier, RelationName, Session};
use crate::init::yaml::scalar;
use crate::init::{Draft, DraftSchedule, DraftTarget, DraftTask, Left};
use crate::values::{Engine, TableName};

/// The extension's own tables, wherever they are.
const OWN: &str = "SELECT n.nspname::text AS schema, bool_or(c.relrowsecurity AND NOT r.rolsuper) AS row_security,
        bool_and(pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')) AS may,
        (SELECT s.reset_val FROM pg_catalog.pg_settings s WHERE s.name = 'TimeZone') AS zone
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.oid = d.refobjid
    WHERE c.relname IN ('part_config', 'part_config_sub') AND c.relkind = 'r' AND e.extname = 'pg_partman'
    GROUP BY 1";

/// A row of `part_config`.
struct Managed {
    parent: String,
    control: String,
    interval: String,
    way: String,
    premake: i64,
    retention: Option<String>,
    schema: Option<String>,
    keeps: bool,
    epoch: String,
    automatic: bool,
    inner: bool,
    undone: bool,
}

/// Translates what pg_partman looks after. `Ok(Err(_))` says why that is not possible.
///
/// # Errors
/// When the server cannot be asked.
pub async fn draft(
    session: &Session,
    variable: &str,
) -> Result<Result<Draft, String>, EngineError> {
    let doing = "looking for pg_partman";
    let own = session.query(doing, OWN, &[]).await?;
    let Some(row) = own.first() else {
        return Ok(Err("there is no pg_partman in this database".to_owned()));
    };
    let schema = Identifier::new(row.named::<String>("schema")?);
    if row.named("row_security")? {
        return Ok(Err(format!(
            "{schema}.part_config belongs to a role that is no superuser and has row security: its policies are not run"
        )));
    }
    let role = Identifier::new(&*session.server.role);
    if !row.named::<bool>("may")? {
        return Ok(Err(format!(
            "the role may not read pg_partman's tables: GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
        )));
    }
    let tables = ["part_config", "part_config_sub"].map(|table| format!("{schema}.{table}"));
    if let Some(why) = super::may_read(session, &tables).await? {
        return Ok(Err(why));
    }
    let zone: Option<String> = row.named("zone")?;
    let zone = zone.and_then(|zone| zone.parse::<crate::values::TimeZone>().ok());
    let mut draft = Draft {
        about: vec![format!(
            "Written by `maint init --from pg_partman` from the database {}. Stop pg_partman's maintenance before the first run: two that retire by different rules do harm. DELETE FROM {schema}.part_config, row by row, lets go of a table and leaves its partitions.",
            session.server.database
        )],
        zone: match zone {
            Some(zone) => (
                zone.to_string(),
                "The time zone of sessions on that server; days begin at its midnight.".to_owned(),
            ),
            None => (
                "UTC".to_owned(),
                "Days begin at midnight of this zone: name that of the partitions.".to_owned(),
            ),
        },
        targets: vec![DraftTarget {
            name: "app".to_owned(),
            engine: Engine::Postgres,
            variable: variable.to_owned(),
            about: format!("{}.", session.server.database),
        }],
        ..Draft::default()
    };
    let sql = format!(
        "SELECT p.parent_table::text AS parent, p.control::text AS control, p.partition_interval::text AS partition_interval, coalesce(p.partition_type::text, '') AS way,
            coalesce(p.premake, 4)::int8 AS premake, p.retention::text AS retention, p.retention_schema::text AS retention_schema, coalesce(p.retention_keep_table, true)::bool AS keeps,
            coalesce(p.epoch::text, 'none') AS epoch, coalesce(p.automatic_maintenance::text, 'on') <> 'off' AS automatic,
            coalesce((pg_catalog.to_jsonb(p) ->> 'undo_in_progress')::bool, false) AS undone,
            EXISTS (SELECT FROM {schema}.part_config_sub s WHERE s.sub_parent = p.parent_table) AS inner_partitions
        FROM {schema}.part_config p ORDER BY parent"
    );
    let doing = "reading what pg_partman looks after";
    for row in session.query(doing, &sql, &[]).await? {
        let managed = Managed {
            parent: row.named("parent")?,
            control: row.named("control")?,
            interval: row.named("partition_interval")?,
            way: row.named("way")?,
            premake: row.named("premake")?,
            retention: row.named("retention")?,
            schema: row.named("retention_schema")?,
            keeps: row.named("keeps")?,
            epoch: row.named("epoch")?,
            automatic: row.named("automatic")?,
            inner: row.named("inner_partitions")?,
            undone: row.named("undone")?,
        };
        match task(&managed, &draft) {
            Ok(task) => draft.tasks.push(task),
            Err(reason) => draft.left.push(Left {
                place: managed.parent,
                text: format!("every {}", managed.interval),
                reason,
            }),
        }
    }
    if !draft.tasks.is_empty() {
        draft.schedules.push(DraftSchedule {
            name: "partitions".to_owned(),
            cron: "30 2 * * *".to_owned(),
            tasks: draft.tasks.iter().map(|task| task.name.clone()).collect(),
            window: None,
            zone: None,
            why: "Every night: where all are there, nothing is done.".to_owned(),
        });
    }
    Ok(Ok(draft))
}

/// What one row is as a task.
fn task(managed: &Managed, draft: &Draft) -> Result<DraftTask, String> {
    let name = table(&managed.parent)?;
    if managed.undone {
        return Err("pg_partman is taking it apart (`undo_in_progress`)".to_owned());
    }
    if managed.inner {
        return Err("its partitions are partitioned again by pg_partman: give the inner level a task of its own".to_owned());
    }
    if managed.way == "partman" || managed.way == "list" {
        return Err(format!("`{}` is no partitioning by range", managed.way));
    }
    let interval = interval(&managed.interval)?;
    let epoch = match managed.epoch.as_str() {
        "none" => None,
        "seconds" => Some("seconds"),
        "milliseconds" => Some("millis"),
        other => {
            return Err(format!(
                "its key counts {other}, which `partitions` does not know"
            ));
        }
    };
    let mut task = DraftTask::new(
        draft.free_name(&format!("partitions-{}", name.table)),
        "partitions",
        format!(
            "From pg_partman: {} by {}, every {}, {} ahead.",
            RelationName::new(&*name.schema, &*name.table),
            Identifier::new(&*managed.control),
            managed.interval,
            managed.premake
        ),
    )
    .within("lock_timeout: 3s");
    task.options = vec![
        format!("tables: [{}]", crate::init::yaml::quoted(&name.to_string())),
        format!("interval: {interval}"),
        format!("ahead: {}", managed.premake.clamp(1, 1000)),
    ];
    if let Some(epoch) = epoch {
        task.options.push(format!("epoch: {epoch}"));
    }
    if let Some(retention) = &managed.retention {
        let Some(keep) = span(retention) else {
            return Err(format!(
                "its retention of `{retention}` is no number of days, weeks, months or years"
            ));
        };
        match (&managed.schema, managed.keeps) {
            (Some(schema), _) => task.options.extend([
                format!("keep: {keep}"),
                "expired: keep".to_owned(),
                format!("keep_in: {}", scalar(schema)),
            ]),
            // What pg_partman detaches and leaves where it is has no word here.
            (None, true) => task.why.push(format!(
                "Nothing goes: pg_partman detached what was older than {keep} and left it beside the table. `keep: {keep}` would drop it after a grace period; with `expired: keep` and `keep_in: SCHEMA` it is moved there."
            )),
            // Making partitions is switched on, dropping them is not.
            (None, false) => task.why.push(format!(
                "Nothing goes: pg_partman dropped what was older than {keep}. Write `keep: {keep}` below `options:` once you have looked at what that means (`maint plan`): what is older is then detached, and dropped a week later (`grace`)."
            )),
        }
    }
    if !managed.automatic {
        task.enabled = false;
        task.why.push(
            "Not enabled: pg_partman did not do it by itself (automatic_maintenance).".to_owned(),
        );
    }
    Ok(task)
}

/// `schema.table`, as pg_partman keeps it: nothing is quoted.
fn table(text: &str) -> Result<TableName, String> {
    match text.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(TableName {
            schema: schema.to_owned(),
            table: table.to_owned(),
        }),
        _ => Err("its name is not understood".to_owned()),
    }
}

fn interval(text: &str) -> Result<&'static str, String> {
    match (text.trim(), span(text).as_deref()) {
        ("daily", _) | (_, Some("1d" | "24h")) => Ok("day"),
        ("weekly", _) | (_, Some("7d" | "1w")) => Ok("week"),
        ("monthly", _) | (_, Some("1mo")) => Ok("month"),
        ("quarterly", _) | (_, Some("3mo")) => Ok("quarter"),
        ("yearly", _) | (_, Some("1y" | "12mo")) => Ok("year"),
        (other, _) if other.parse::<u64>().is_ok() => Err(format!(
            "partitions of {other} numbers each: `partitions` goes by time"
        )),
        (other, _) => Err(format!(
            "partitions of {other}: there are days, weeks, months, quarters and years"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn managed() -> Managed {
        Managed {
            parent: "public.events".to_owned(),
            control: "at".to_owned(),
            interval: "1 mon".to_owned(),
            way: "range".to_owned(),
            premake: 4,
            retention: None,
            schema: None,
            keeps: true,
            epoch: "none".to_owned(),
            automatic: true,
            inner: false,
            undone: false,
        }
    }

    #[test]
    fn rows_become_tasks_or_are_told() {
        let options = |managed: &Managed| match task(managed, &Draft::default()) {
            Ok(task) => task.options.join("|"),
            Err(why) => format!("no: {why}"),
        };
        let plain = "tables: [\"public.events\"]|interval: month|ahead: 4";
        assert_eq!(options(&managed()), plain);
        let retention = |retention: &str, schema: Option<&str>, keeps| Managed {
            retention: Some(retention.to_owned()),
            schema: schema.map(str::to_owned),
            keeps,
            ..managed()
        };
        assert_eq!(options(&retention("90 days", None, true)), plain);
        assert_eq!(
            options(&retention("90 days", None, false)),
            plain,
            "what would drop is not switched on"
        );
        let told = task(&retention("90 days", None, false), &Draft::default());
        assert!(told.is_ok_and(|task| task.why.iter().any(|why| why.contains("`keep: 90d`"))));
        assert_eq!(
            options(&retention("1 year", Some("old"), true)),
            format!("{plain}|keep: 1y|expired: keep|keep_in: old")
        );
        assert!(options(&retention("1000", None, false)).starts_with("no: its retention"));
        let every = |interval: &str| Managed {
            interval: interval.to_owned(),
            ..managed()
        };
        for (interval, word) in [
            ("1 day", "day"),
            ("7 days", "week"),
            ("3 mons", "quarter"),
            ("weekly", "week"),
            ("1 year", "year"),
        ] {
            assert!(
                options(&every(interval)).contains(&format!("interval: {word}")),
                "{interval}"
            );
        }
        for interval in ["01:00:00", "10000", "2 days"] {
            assert!(
                options(&every(interval)).starts_with("no: partitions of"),
                "{interval}"
            );
        }
        assert!(
            options(&Managed {
                inner: true,
                ..managed()
            })
            .starts_with("no: its partitions")
        );
    }
}

//! The jobs of pg_cron as a draft.

use super::collect::{Collected, Line};
use super::command::Place;
use super::statement::translate;
use super::work::in_order;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::init::Draft;

/// The table of jobs, where it is the extension's own: anything else of that name is somebody's,
/// and would run what they wrote.
const OWN: &str = "SELECT c.relrowsecurity AND NOT r.rolsuper AS row_security, c.relrowsecurity AND pg_catalog.row_security_active(c.oid) AS filtered,
        (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'cron.timezone') AS zone,
        pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AS may
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.oid = d.refobjid
    WHERE n.nspname = 'cron' AND c.relname = 'job' AND c.relkind = 'r' AND e.extname = 'pg_cron'";

const JOBS: &str =
    "SELECT j.jobid::int8 AS id, j.schedule::text AS schedule, j.command::text AS command, j.database::text AS database, j.username::text AS user_name,
        j.active::bool AS active, coalesce(j.jobname::text, '') AS name,
        -- Of the server itself it says `localhost` and its port, unless somebody says more.
        CASE WHEN pg_catalog.lower(j.nodename::text) IN ('', 'localhost', '127.0.0.1', '::1') OR pg_catalog.starts_with(j.nodename::text, '/')
            THEN '' ELSE j.nodename::text END AS host,
        CASE j.nodeport::text WHEN pg_catalog.current_setting('port') THEN '' ELSE j.nodeport::text END AS port
    FROM cron.job j ORDER BY id";

/// Translates the jobs of the database's pg_cron. `Ok(Err(_))` says why that is not possible.
///
/// # Errors
/// When the server cannot be asked.
pub async fn draft(
    session: &Session,
    variable: &str,
) -> Result<Result<Draft, String>, EngineError> {
    let doing = "looking for pg_cron";
    let own = session.query(doing, OWN, &[]).await?;
    let Some(row) = own.first() else {
        return Ok(Err(
            "there is no pg_cron in this database: its jobs are in the one that `cron.database_name` names".to_owned(),
        ));
    };
    if row.named("row_security")? {
        return Ok(Err(
            "cron.job belongs to a role that is no superuser and has row security: its policies are not run".to_owned(),
        ));
    }
    let role = crate::engines::postgres::Identifier::new(&*session.server.role);
    if !row.named::<bool>("may")? {
        return Ok(Err(format!(
            "the role may not read cron.job: GRANT USAGE ON SCHEMA cron TO {role}; GRANT SELECT ON cron.job TO {role}"
        )));
    }
    if let Some(why) = super::may_read(session, &["cron.job".to_owned()]).await? {
        return Ok(Err(why));
    }
    let some: bool = row.named("filtered")?;
    let zone: Option<String> = row.named("zone")?;
    let zone = zone.unwrap_or_else(|| "GMT".to_owned());
    let zone = match zone.parse::<crate::values::TimeZone>() {
        // Everybody calls it so today.
        Ok(zone) if zone.to_string() != "GMT" => {
            (zone.to_string(), "What `cron.timezone` says.".to_owned())
        }
        _ => (
            "UTC".to_owned(),
            "What `cron.timezone` says: GMT. With a zone of your own every time here moves."
                .to_owned(),
        ),
    };
    let doing = "reading the jobs of pg_cron";
    let mut collected = Collected::default();
    let mut jobs = 0;
    for row in session.query(doing, JOBS, &[]).await? {
        jobs += 1;
        let text = |column: &str| row.named::<String>(column);
        let (id, schedule, command) =
            (row.named::<i64>("id")?, text("schedule")?, text("command")?);
        let (database, user, name) = (text("database")?, text("user_name")?, text("name")?);
        let mut place = format!("job {id}");
        if !name.is_empty() {
            place.push_str(&format!(" ({name})"));
        }
        if schedule.contains("second") {
            collected.leave(
                &place,
                &command,
                format!("every {schedule}: nothing comes more often than once a minute"),
            );
            continue;
        }
        // pg_cron writes the last day of a month as `$`.
        let cron = schedule.replace('$', "L");
        let database = Place {
            host: text("host")?,
            port: text("port")?,
            database,
        };
        match translate(&command) {
            Ok(mut works) => {
                in_order(&mut works);
                if user != session.server.role {
                    for work in &mut works {
                        work.differs.push_str(&format!(
                            " It ran as {}: the role of the target needs the same rights.",
                            crate::engines::postgres::Identifier::new(&*user)
                        ));
                    }
                }
                let line = Line {
                    place,
                    cron: &cron,
                    zone: None,
                    text: &command,
                    active: row.named("active")?,
                };
                collected.add(&line, &database, works);
            }
            Err(reason) => collected.leave(&place, &command, reason),
        }
    }
    let about = format!(
        "Written by `maint init --from pg_cron` from {jobs} jobs in the database {}. Once you have seen these at work: SELECT cron.unschedule(jobid).",
        session.server.database
    );
    let mut draft = collected.draft(about, zone, variable, Some(&session.server.database));
    if some {
        draft.notes.push(format!(
            "Only the jobs of {role} are seen: row security hides those of others from all but a superuser."
        ));
    }
    Ok(Ok(draft))
}

//! What is done with a database, from the facts.

mod cleanup;
mod partitions;

use chrono_tz::Tz;

use self::cleanup::cleanup;
use self::partitions::partitions;
use super::facts::{Overview, Partitioned, Table, View};
use super::growing;
use super::hours::{Quiet, quiet};
use crate::engines::postgres::{Identifier, RelationName, Server};
use crate::init::{Draft, DraftSchedule, DraftTarget, DraftTask, Left};
use crate::report::text::{counted, human_bytes, human_count};
use crate::values::{Engine, TableName, wall_clock};

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) overview: Overview,
    pub(super) tables: Vec<Table>,
    pub(super) partitioned: Vec<Partitioned>,
    pub(super) views: Vec<View>,
}

const WHOSE_ZONE: &str =
    "The time zone of sessions on that server. Every time here is on its clocks.";

/// So many names are told in a comment.
const MOST_NAMES: usize = 20;

pub(super) fn draft(server: &Server, variable: &str, facts: &Facts) -> Draft {
    let overview = &facts.overview;
    let zone: Option<Tz> = overview.zone.parse().ok();
    let mut draft = Draft {
        about: vec![format!(
            "What maint looks after, and when. Written by `maint init` from the database {} on PostgreSQL {}, seen by the role {}. `maint check` says what is wrong with this file, `maint next` when things will run.",
            server.database, server.version, server.role
        )],
        zone: match zone {
            // Debian's way to write it.
            Some(Tz::Etc__UTC) => ("UTC".to_owned(), WHOSE_ZONE.to_owned()),
            Some(zone) => (zone.name().to_owned(), WHOSE_ZONE.to_owned()),
            None => (
                "UTC".to_owned(),
                "Every time here is UTC: name your own zone, such as Europe/Berlin.".to_owned(),
            ),
        },
        targets: vec![DraftTarget {
            name: "app".to_owned(),
            engine: Engine::Postgres,
            variable: variable.to_owned(),
            about: format!(
                "{}: {}, {}, {}. The URL comes from the environment, so that no password is in a file.",
                server.database,
                human_bytes(overview.bytes),
                counted(size(overview.tables), "table"),
                plural(overview.indexes, "index", "indexes")
            ),
        }],
        ..Draft::default()
    };
    let zone = zone.unwrap_or(Tz::UTC);
    let mut nightly = vec!["analyze", "snapshot"];
    let mut weekly = Vec::new();
    always(&mut draft, overview);
    if !facts.views.is_empty() {
        refresh(&mut draft, &facts.views);
        // A view that is refreshed beside its readers is left with dead rows.
        weekly.push("refresh-views");
    }
    // Space of dead rows is free after a vacuum, and rows that are moved into it get new entries in
    // every index.
    weekly.extend(["vacuum", "repack", "reindex", "integrity"]);
    if cleanup(&mut draft, facts, zone) {
        nightly.insert(0, "cleanup");
    }
    let monthly = partitions(&mut draft, facts, zone);
    let ages = facts
        .tables
        .iter()
        .filter(|table| growing::grows(table))
        .filter_map(|table| growing::rule(table, wall_clock()))
        .filter(|rule| rule.older_than != "0d");
    let columns: Vec<_> = ages.map(|rule| rule.column).collect();
    let quiet = quiet(columns.into_iter(), zone);
    schedules(&mut draft, &quiet, &nightly, &weekly, monthly);
    notes(&mut draft, server, overview);
    draft
}

/// What every database needs.
fn always(draft: &mut Draft, overview: &Overview) {
    let has = |name: &str| overview.extensions.iter().any(|e| e == name);
    draft.tasks.push(
        DraftTask::new(
            "analyze",
            "analyze",
            format!(
                "Fresh statistics for the planner, of those of {} in which enough rows changed.",
                counted(size(overview.tables), "table")
            ),
        )
        .within("budget: 1h"),
    );
    let mut snapshot = DraftTask::new(
        "snapshot",
        "snapshot",
        "The numbers that tell how the database is doing, and a finding where one passes its threshold. Changes nothing.",
    )
    .within("budget: 10min");
    snapshot.why.push(match has("pg_stat_statements") {
        true => "pg_stat_statements is installed: slow statements are told.".to_owned(),
        false => "pg_stat_statements is not installed: slow statements cannot be told.".to_owned(),
    });
    draft.tasks.push(snapshot);
    let mut repack = DraftTask::new(
        "repack",
        "repack",
        format!(
            "Tables that are mostly free space give it back, without blocking reads or writes. They take {} of {}.",
            human_bytes(overview.bytes - overview.index_bytes),
            human_bytes(overview.bytes)
        ),
    )
    .within("transaction_wait: 10min, budget: 3h");
    repack.options = vec!["min_size: 10MB".to_owned(), "min_bloat: 30%".to_owned()];
    draft.tasks.push(repack);
    let mut reindex = DraftTask::new(
        "reindex",
        "reindex",
        format!(
            "Bloated indexes, without blocking reads or writes. {} take {} of {}.",
            plural(overview.indexes, "index", "indexes"),
            human_bytes(overview.index_bytes),
            human_bytes(overview.bytes)
        ),
    )
    .within("lock_timeout: 3s, budget: 3h");
    reindex.options = vec!["min_size: 10MB".to_owned(), "min_bloat: 30%".to_owned()];
    draft.tasks.push(reindex);
    let mut vacuum = DraftTask::new(
        "vacuum",
        "vacuum",
        "Dead rows and old transaction ids, oldest first.",
    )
    .within("step_timeout: 2h, budget: 3h");
    if overview.no_autovacuum > 0 {
        vacuum.why.push(format!(
            "{} with autovacuum_enabled=false: nobody else does it there.",
            counted(size(overview.no_autovacuum), "table")
        ));
    }
    draft.tasks.push(vacuum);
    let mut integrity = DraftTask::new(
        "integrity",
        "integrity",
        format!(
            "Whether the data is still what the schema says: {}, and what else can be proved. Reads only.",
            counted(size(overview.foreign_keys), "foreign key")
        ),
    )
    .within("step_timeout: 1h, budget: 2h");
    integrity.why.push(match has("amcheck") {
        true => "amcheck is installed: pages of tables and indexes are looked at, too.".to_owned(),
        false => "amcheck is not installed: damaged pages cannot be looked for. CREATE EXTENSION amcheck would help.".to_owned(),
    });
    draft.tasks.push(integrity);
}

fn refresh(draft: &mut Draft, views: &[View]) {
    let mut task = DraftTask::new(
        "refresh-views",
        "refresh",
        format!(
            "{}, those that others read first, where their sources changed.",
            counted(views.len(), "materialized view")
        ),
    )
    .within("lock_timeout: 3s, step_timeout: 1h");
    let blocking: Vec<String> = views
        .iter()
        .filter(|view| !view.concurrently)
        .map(|view| view.name.to_string())
        .collect();
    if !blocking.is_empty() {
        task.why.push(format!(
            "Left alone, because their readers would be blocked: {}. A plain unique index on a filled view helps; `allow_blocking: true` refreshes them all the same.",
            names(&blocking)
        ));
    }
    draft.tasks.push(task);
}

/// What was a partition, and bears the mark of a run.
fn on_its_way_out(place: String, text: &str) -> Left {
    Left {
        place,
        text: text.to_owned(),
        reason: "its comment says that maint has taken it out of its table, to drop or archive it: the task that did looks after it".to_owned(),
    }
}

fn schedules(
    draft: &mut Draft,
    quiet: &Quiet,
    nightly: &[&str],
    weekly: &[&str],
    partitions: Vec<String>,
) {
    let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let hour = quiet.hour;
    let until = |hours: u32| match hour + hours {
        24 => 24,
        later => later % 24,
    };
    draft.schedules.push(DraftSchedule {
        name: "daily".to_owned(),
        cron: format!("0 {hour} * * *"),
        tasks: own(nightly),
        window: Some(format!("{hour:02}:00-{:02}:00", until(3))),
        zone: None,
        why: quiet.why.clone(),
    });
    draft.schedules.push(DraftSchedule {
        name: "weekly".to_owned(),
        cron: format!("0 {hour} * * {}", quiet.day.to_uppercase()),
        tasks: own(weekly),
        window: Some(format!("{} {hour:02}:00-{:02}:00", quiet.day, until(4))),
        zone: None,
        why: "What takes long, when least is done.".to_owned(),
    });
    if !partitions.is_empty() {
        draft.schedules.push(DraftSchedule {
            name: "partitions".to_owned(),
            cron: format!("30 {hour} * * *"),
            tasks: partitions,
            window: Some(format!("{hour:02}:00-{:02}:00", until(3))),
            zone: None,
            why: "Every night: where all are there, nothing is done.".to_owned(),
        });
    }
}

fn notes(draft: &mut Draft, server: &Server, overview: &Overview) {
    let role = Identifier::new(&*server.role);
    if server.superuser {
        draft.notes.push(format!(
            "{role} is a superuser, which is more than maint needs: tables of others with code of theirs are left alone. docs/security.md says what to grant instead."
        ));
    }
    if server.in_recovery {
        draft.notes.push(
            "This server is a standby: only what reads can run here. Name the primary in the URL."
                .to_owned(),
        );
    }
    if overview.unseen > 0 {
        draft.notes.push(format!(
            "The role sees no statistics of {}: what is bloated or old there is not known. GRANT SELECT on them, or GRANT pg_read_all_data TO {role}.",
            counted(size(overview.unseen), "table")
        ));
    }
    if overview.filtered > 0 {
        draft.notes.push(format!(
            "Row-level security hides the statistics of {} from the role: what is bloated there is not known. ALTER ROLE {role} BYPASSRLS, or `method: exact`.",
            counted(size(overview.filtered), "table")
        ));
    }
    if overview.counting_since.is_none() {
        draft.notes.push(
            "Since when the server counts rows is not known: what grows may have been missed."
                .to_owned(),
        );
    }
    for (extension, from) in [("pg_cron", "pg_cron"), ("pg_partman", "pg_partman")] {
        if overview.extensions.iter().any(|e| e == extension) {
            draft.notes.push(format!(
                "{extension} is installed here: `maint init --from {from}` translates what it does."
            ));
        }
    }
}

fn shown_name(name: &TableName) -> String {
    RelationName::new(&*name.schema, &*name.table).to_string()
}

fn names(all: &[String]) -> String {
    let mut text = all[..all.len().min(MOST_NAMES)].join(", ");
    if let Some(more @ 1..) = all.len().checked_sub(MOST_NAMES) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn size(count: i64) -> usize {
    usize::try_from(count).unwrap_or(0)
}

fn plural(count: i64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        human_count(count),
        if count == 1 { one } else { many }
    )
}

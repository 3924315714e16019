//! What a command line of `psql`, `vacuumdb` or `reindexdb` is as tasks.

mod options;

use std::collections::BTreeMap;

use self::options::{BY_NAME, COMMON, FLAGS, Options};
use super::statement::{FREEZES, FULL, analyze, reindex_of, translate, vacuum_of};
use super::work::{Work, in_order};

/// Variables by which a client finds its database, as they are set around a command.
pub(super) type Variables = BTreeMap<String, String>;

/// Whether it is one of those.
pub(super) fn is_read(name: &str) -> bool {
    name.starts_with("PG") && !["PGPASSWORD", "PGPASSFILE", "PGAPPNAME", "PGUSER"].contains(&name)
}

/// What has no place in a task, and changes what a command does.
fn foreign(variables: &Variables) -> Option<String> {
    let plain = ["PGDATABASE", "PGHOST", "PGHOSTADDR", "PGPORT"];
    let other = variables.keys().find(|name| {
        !plain.contains(&name.as_str())
            && !name.starts_with("PGSSL")
            && *name != "PGCONNECT_TIMEOUT"
    })?;
    Some(format!(
        "`{other}` is set for it: what that changes is not translated"
    ))
}

/// The database that a command is for, as far as it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: String,
    /// A name, a URL or a connection string.
    pub(super) database: String,
}

impl Place {
    /// Where the command says nothing, its variables do.
    fn filled(mut self, variables: &Variables) -> Place {
        let of = |name: &str| variables.get(name).cloned().unwrap_or_default();
        // A URL or connection string says the rest by itself, as far as it goes.
        let alone = self.database.contains("://") || self.database.contains('=');
        if self.database.is_empty() {
            self.database = of("PGDATABASE");
        }
        if self.host.is_empty() && !alone {
            self.host = match of("PGHOSTADDR") {
                address if address.is_empty() => of("PGHOST"),
                address => address,
            };
        }
        if self.port.is_empty() && !alone {
            self.port = of("PGPORT");
        }
        self
    }

    /// The name of the database, without the rest of a URL.
    pub(super) fn name(&self) -> &str {
        let text = &self.database;
        if let Some((_, rest)) = text.split_once("://") {
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            return path.split(['?', '/']).next().unwrap_or_default();
        }
        if text.contains('=') {
            let words = text.split_whitespace();
            return words
                .filter_map(|word| word.strip_prefix("dbname="))
                .next()
                .unwrap_or_default();
        }
        text
    }
}

/// How it is said that a program is none of those.
pub(super) const UNKNOWN: &str = "is not known here";

/// What a command does, and where; `around` is what the crontab sets for it.
///
/// # Errors
/// Why it is not translated.
pub(super) fn translated(
    words: &[String],
    around: &Variables,
) -> Result<(Place, Vec<Work>), String> {
    let mut variables = around.clone();
    let words = without_wrappers(words, &mut variables);
    let Some((program, arguments)) = words.split_first() else {
        return Err("there is no command in it".to_owned());
    };
    let program = program.rsplit('/').next().unwrap_or_default();
    let done = match program {
        "psql" => psql(arguments),
        "vacuumdb" => vacuumdb(arguments),
        "reindexdb" => reindexdb(arguments),
        "clusterdb" => Err("CLUSTER keeps everybody out of the table while it runs".to_owned()),
        "pg_dump" | "pg_dumpall" | "pg_basebackup" | "pgbackrest" | "barman" | "wal-g"
        | "mongodump" => Err("a backup: maint makes none, leave it as it is".to_owned()),
        "mongo" | "mongosh" => {
            Err("scripts for MongoDB are not translated; docs/mongodb.md has the kinds".to_owned())
        }
        _ => Err(format!("`{program}` {UNKNOWN}")),
    };
    let (place, works) = done?;
    match foreign(&variables) {
        Some(why) => Err(why),
        None => Ok((place.filled(&variables), works)),
    }
}

/// The command without what only says how it is run; variables that it sets are noted.
fn without_wrappers<'a>(mut words: &'a [String], variables: &mut Variables) -> &'a [String] {
    loop {
        let Some((first, rest)) = words.split_first() else {
            return words;
        };
        // Options of these that take a value of their own.
        let valued: &[&str] = match first.rsplit('/').next().unwrap_or_default() {
            "nice" => &["-n"],
            "ionice" => &["-c", "-n"],
            "sudo" => &["-u", "-g"],
            "timeout" => &["-s", "-k"],
            "flock" => &["-w", "-E"],
            "env" | "chronic" | "exec" | "setsid" | "nohup" => &[],
            _ if !first.starts_with('-') && first.contains('=') => {
                let (name, value) = first.split_once('=').unwrap_or((first, ""));
                if is_read(name) {
                    variables.insert(name.to_owned(), value.to_owned());
                }
                &[]
            }
            _ => return words,
        };
        let program = first.rsplit('/').next().unwrap_or_default();
        let mut next = rest;
        while let Some((option, rest)) = next.split_first().filter(|(o, _)| o.starts_with('-')) {
            next = match valued.contains(&option.as_str()) {
                true => rest.get(1..).unwrap_or_default(),
                false => rest,
            };
        }
        if ["timeout", "flock"].contains(&program) {
            next = next.get(1..).unwrap_or_default();
        }
        words = next;
    }
}

fn psql(arguments: &[String]) -> Result<(Place, Vec<Work>), String> {
    let mut long = COMMON.to_vec();
    long.extend([
        ("command", 'c'),
        ("file", 'f'),
        ("set", 'v'),
        ("variable", 'v'),
        ("pset", 'P'),
        ("output", 'o'),
        ("log-file", 'L'),
        ("field-separator", 'F'),
        ("record-separator", 'R'),
        ("table-attr", 'T'),
    ]);
    let options = Options::read(arguments, "cdfhpUvPFRTLo", &long);
    if options.has("f") {
        return Err(
            "the statements are in a file: translate them one by one, or name them in `kind: sql`"
                .to_owned(),
        );
    }
    let commands = options.all("c");
    if commands.is_empty() {
        return Err("it has no statement: only what `-c` names is translated".to_owned());
    }
    let mut works = Vec::new();
    for command in commands {
        works.extend(translate(&command)?);
    }
    in_order(&mut works);
    Ok((options.place(), works))
}

/// The name of a table before its columns, in parentheses.
fn table(text: &str) -> String {
    text.split('(').next().unwrap_or(text).trim().to_owned()
}

fn vacuumdb(arguments: &[String]) -> Result<(Place, Vec<Work>), String> {
    let mut long = COMMON.to_vec();
    long.extend([
        ("all", 'a'),
        ("full", 'f'),
        ("freeze", 'F'),
        ("jobs", 'j'),
        ("table", 't'),
        ("schema", 'n'),
        ("exclude-schema", 'N'),
        ("analyze", 'z'),
        ("analyze-only", 'Z'),
        ("parallel", 'P'),
        ("buffer-usage-limit", BY_NAME),
        ("maintenance-db", BY_NAME),
        ("min-mxid-age", BY_NAME),
        ("min-xid-age", BY_NAME),
    ]);
    long.extend(FLAGS);
    let flags = [
        "analyze-in-stages",
        "disable-page-skipping",
        "force-index-cleanup",
        "missing-stats-only",
        "no-index-cleanup",
        "no-process-main",
        "no-process-toast",
        "no-truncate",
        "skip-locked",
    ];
    let options = Options::read(arguments, "dhpUjtnNP", &long);
    options.all_known("vacuumdb", "afFzZ", &long, &flags)?;
    if options.has("f") {
        return Err(FULL.to_owned());
    }
    let mut names: Vec<String> = options.all("t").iter().map(|t| table(t)).collect();
    names.extend(options.all("n").iter().map(|schema| format!("{schema}.*")));
    let only_analyze = options.has("Z") || options.has("analyze-in-stages");
    let mut works = Vec::new();
    if !only_analyze {
        works.push(vacuum_of(&names));
    }
    if options.has("F") {
        for work in &mut works {
            work.differs.push_str(FREEZES);
        }
    }
    if only_analyze || options.has("z") {
        works.push(analyze(&names));
    }
    let limits = ["buffer-usage-limit", "min-mxid-age", "min-xid-age", "P"];
    options.leave_out(&[&limits[..], &flags[1..]].concat(), &mut works);
    finish(&options, &mut works);
    Ok((options.place(), works))
}

fn reindexdb(arguments: &[String]) -> Result<(Place, Vec<Work>), String> {
    let mut long = COMMON.to_vec();
    long.extend([
        ("all", 'a'),
        ("index", 'i'),
        ("jobs", 'j'),
        ("system", 's'),
        ("schema", 'S'),
        ("table", 't'),
        ("maintenance-db", BY_NAME),
        ("tablespace", BY_NAME),
    ]);
    long.extend(FLAGS);
    let options = Options::read(arguments, "dhpUijSt", &long);
    options.all_known("reindexdb", "as", &long, &["concurrently"])?;
    if options.has("s") {
        return Err(
            "indexes of the system catalogs cannot be rebuilt without blocking everybody"
                .to_owned(),
        );
    }
    let mut names = options.all("t");
    names.extend(options.all("i"));
    names.extend(options.all("S").iter().map(|schema| format!("{schema}.*")));
    let mut works = vec![reindex_of(&names)];
    options.leave_out(&["tablespace"], &mut works);
    finish(&options, &mut works);
    Ok((options.place(), works))
}

/// What both have in common.
fn finish(options: &Options, works: &mut [Work]) {
    let jobs = options.all("j").pop().and_then(|n| n.parse::<u32>().ok());
    let excluded = options.all("N");
    for work in works {
        if let Some(jobs) = jobs.filter(|jobs| *jobs > 0) {
            work.limits = format!("jobs: {jobs}");
        }
        if !excluded.is_empty() {
            let list: Vec<String> = excluded
                .iter()
                .map(|schema| crate::init::yaml::quoted(&format!("{schema}.*")))
                .collect();
            work.options.push(format!("exclude: [{}]", list.join(", ")));
        }
        if options.has("a") {
            work.differs.push_str(
                " `--all` meant every database, and this is for one until its target says `databases: [\"*\"]`: leave the line where it is until then.",
            );
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn command_lines_become_tasks() {
        for (line, expected) in [
            ("psql|-c|VACUUM|shop", "shop: vacuum []"),
            (
                "/usr/bin/psql|-XAtqc|ANALYZE a|-d|shop",
                "shop: analyze [include: [\"a\"]]",
            ),
            (
                "nice|-n|19|psql|--command=VACUUM ANALYZE|-h|db1|postgres://u:p@h/shop?x=1",
                "shop: vacuum [] analyze []",
            ),
            (
                "sudo|-u|postgres|vacuumdb|-az|-j|4",
                ": vacuum [] analyze []",
            ),
            (
                "PGPASSWORD=x|vacuumdb|--analyze-only|-t|app.t(a,b)|dbname=shop host=h",
                "shop: analyze [include: [\"app.t\"]]",
            ),
            (
                "flock|-n|/run/lock/db|reindexdb|--concurrently|-S|app|-d|shop",
                "shop: reindex [include: [\"app.*\"] min_bloat: 30%]",
            ),
            (
                "vacuumdb|--freeze|--min-xid-age|1000000|shop",
                "shop: vacuum []",
            ),
            (
                "vacuumdb|--min-mxid-age|5|--buffer-usage-limit|1MB|-P|2|shop",
                "shop: vacuum []",
            ),
            (
                "vacuumdb|--maintenance-db|postgres|--min-xid-age=7|--skip-locked|-eqvw|shop",
                "shop: vacuum []",
            ),
            (
                "vacuumdb|--brand-new|8|shop",
                "no: `--brand-new` of vacuumdb is not known here",
            ),
            (
                "vacuumdb|-x|8|shop",
                "no: `-x` of vacuumdb is not known here",
            ),
            (
                "reindexdb|--tablespace|ts|--maintenance-db|m|shop",
                "shop: reindex [min_bloat: 30%]",
            ),
            ("psql|-T|border=1|-c|VACUUM|shop", "shop: vacuum []"),
            ("psql|--table-attr|x|-c|VACUUM|shop", "shop: vacuum []"),
            ("vacuumdb|--full|shop", "no: VACUUM FULL"),
            ("psql|-f|x.sql", "no: the statements are in a file"),
            ("psql|shop", "no: it has no statement"),
            ("pg_dump|shop", "no: a backup"),
            ("/opt/x.sh", "no: `x.sh` is not known"),
        ] {
            let words: Vec<String> = line.split('|').map(str::to_owned).collect();
            let told = match translated(&words, &Variables::new()) {
                Err(why) => format!("no: {why}"),
                Ok((place, works)) => {
                    let works: Vec<String> = works
                        .iter()
                        .map(|work| format!("{} [{}]", work.kind, work.options.join(" ")))
                        .collect();
                    format!("{}: {}", place.name(), works.join(" "))
                }
            };
            assert!(told.starts_with(expected), "{line}\n{told}");
        }
    }
}

//! What an SQL statement that somebody runs on a schedule is as a task.

use super::delete::delete;
use super::lexer::{Token, Tokens, tokens};
use super::work::{Work, pattern};
use crate::init::yaml::quoted;

/// What the statements of a text are as tasks, in order.
///
/// # Errors
/// Why one of them is not translated.
pub(super) fn translate(sql: &str) -> Result<Vec<Work>, String> {
    let tokens = tokens(sql)?;
    let mut works = Vec::new();
    for part in tokens.all.split(|(token, _)| *token == Token::Sign(';')) {
        if !part.is_empty() {
            works.extend(one(&Tokens {
                sql: tokens.sql,
                all: part.to_vec(),
            })?);
        }
    }
    match works.is_empty() {
        true => Err("there is no statement in it".to_owned()),
        false => Ok(works),
    }
}

fn one(tokens: &Tokens<'_>) -> Result<Vec<Work>, String> {
    match tokens.word(0) {
        "vacuum" => vacuum(tokens),
        "analyze" | "analyse" => {
            let (_, tables) = options_and_tables(tokens, 1)?;
            Ok(vec![analyze(&tables)])
        }
        "reindex" => reindex(tokens).map(|work| vec![work]),
        "refresh" => refresh(tokens).map(|work| vec![work]),
        "delete" => Ok(vec![delete(tokens).unwrap_or_else(|| own(tokens))]),
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" => {
            Err("a transaction of its own: `kind: sql` has `transaction: true` for that".to_owned())
        }
        "create" | "alter" | "drop" | "grant" | "revoke" | "comment" | "cluster" | "copy" => {
            Err(format!(
                "{} is no maintenance that can be planned",
                tokens.word(0).to_uppercase()
            ))
        }
        "select" | "call" if tokens.sql.contains("run_maintenance") => Err(
            "pg_partman's maintenance: `maint init --from pg_partman` translates its tables"
                .to_owned(),
        ),
        "select" if tokens.word(1) == "cron" && tokens.is(2, '.') => {
            Err("it is about pg_cron itself".to_owned())
        }
        "insert" | "update" | "select" | "call" | "do" | "truncate" | "with" | "merge"
        | "notify" => Ok(vec![own(tokens)]),
        "" => Err("it does not begin with a word of SQL".to_owned()),
        other => Err(format!("{} is not known here", other.to_uppercase())),
    }
}

/// What stands in parentheses or as words before the tables, and the tables as patterns.
fn options_and_tables(
    tokens: &Tokens<'_>,
    from: usize,
) -> Result<(Vec<String>, Vec<String>), String> {
    const WORDS: [&str; 5] = ["full", "freeze", "verbose", "analyze", "analyse"];
    let (mut options, mut n) = (Vec::new(), from);
    if tokens.is(n, '(') {
        while n < tokens.all.len() && !tokens.is(n, ')') {
            n += 1;
            let off = ["false", "off", "0"].contains(&tokens.word(n + 1));
            if !tokens.word(n).is_empty() && !off {
                options.push(tokens.word(n).to_owned());
            }
        }
        n += 1;
    }
    while WORDS.contains(&tokens.word(n)) {
        options.push(tokens.word(n).to_owned());
        n += 1;
    }
    let mut tables = Vec::new();
    while n < tokens.all.len() {
        let Some((schema, name, next)) = tokens.name(n) else {
            return Err("what stands behind its options is no table".to_owned());
        };
        tables.push(pattern(schema.as_deref(), &name));
        n = next;
        if tokens.is(n, '(') {
            while n < tokens.all.len() && !tokens.is(n, ')') {
                n += 1;
            }
            n += 1;
        }
        if n < tokens.all.len() && !tokens.is(n, ',') {
            return Err("what stands behind its tables is not known".to_owned());
        }
        n += 1;
    }
    Ok((options, tables))
}

/// `a-b`, for the name of a file.
fn behind(kind: &str, names: &[String]) -> String {
    match names {
        [name] => format!("{kind}-{}", name.trim_start_matches("public.")),
        _ => kind.to_owned(),
    }
}

pub(super) fn analyze(tables: &[String]) -> Work {
    Work::new(
        "analyze",
        behind("analyze", tables),
        "Only tables in which enough rows changed.",
    )
    .including(tables)
}

pub(super) fn vacuum_of(tables: &[String]) -> Work {
    Work::new(
        "vacuum",
        behind("vacuum", tables),
        "Only tables with enough dead rows, or old ones.",
    )
    .including(tables)
}

pub(super) fn reindex_of(names: &[String]) -> Work {
    let mut work = Work::new(
        "reindex",
        behind("reindex", names),
        "Always CONCURRENTLY, and only what is bloated; `min_bloat: 0%` rebuilds whatever the bloat.",
    )
    .including(names);
    work.options.push("min_bloat: 30%".to_owned());
    work
}

/// What becomes of FREEZE.
pub(super) const FREEZES: &str =
    " FREEZE: rows are frozen when they are old, which `freeze_age` sets.";

/// Why nobody wants it at night either.
pub(super) const FULL: &str = "VACUUM FULL keeps everybody out of the table while it runs, and no kind does that: `kind: vacuum` makes its space reusable";

fn vacuum(tokens: &Tokens<'_>) -> Result<Vec<Work>, String> {
    let (options, tables) = options_and_tables(tokens, 1)?;
    let has = |word: &str| options.iter().any(|option| option == word);
    if has("full") {
        return Err(FULL.to_owned());
    }
    let mut works = vec![vacuum_of(&tables)];
    if has("freeze") {
        works[0].differs.push_str(FREEZES);
    }
    if has("analyze") || has("analyse") {
        works.push(analyze(&tables));
    }
    Ok(works)
}

fn reindex(tokens: &Tokens<'_>) -> Result<Work, String> {
    let mut n = 1;
    if tokens.is(n, '(') {
        while n < tokens.all.len() && !tokens.is(n, ')') {
            n += 1;
        }
        n += 1;
    }
    let what = tokens.word(n).to_owned();
    n += 1;
    if tokens.word(n) == "concurrently" {
        n += 1;
    }
    let name = tokens.name(n);
    match (what.as_str(), name) {
        ("index" | "table", Some((schema, name, _))) => {
            Ok(reindex_of(&[pattern(schema.as_deref(), &name)]))
        }
        ("schema", Some((None, name, _))) => Ok(reindex_of(&[pattern(Some(&name), "*")])),
        ("database", _) => Ok(reindex_of(&[])),
        ("system", _) => Err(
            "indexes of the system catalogs cannot be rebuilt without blocking everybody"
                .to_owned(),
        ),
        _ => Err("what is to be rebuilt is not understood".to_owned()),
    }
}

fn refresh(tokens: &Tokens<'_>) -> Result<Work, String> {
    if (tokens.word(1), tokens.word(2)) != ("materialized", "view") {
        return Err("what is to be refreshed is not understood".to_owned());
    }
    let concurrently = tokens.word(3) == "concurrently";
    let Some((schema, name, next)) = tokens.name(3 + usize::from(concurrently)) else {
        return Err("the view is not understood".to_owned());
    };
    if tokens.word(next + 1) == "no" {
        return Err("WITH NO DATA empties the view".to_owned());
    }
    let view = pattern(schema.as_deref(), &name);
    let mut work = Work::new(
        "refresh",
        behind("refresh", std::slice::from_ref(&view)),
        "Only where its sources changed.",
    )
    .including(&[view]);
    if !concurrently {
        work.options.push("allow_blocking: true".to_owned());
        work.differs.push_str(" Without CONCURRENTLY its readers wait, as until now; with a plain unique index they need not, and `allow_blocking` can go.");
    }
    Ok(work)
}

/// A statement of one's own. Not enabled: whether it means the same there is for people to see.
fn own(tokens: &Tokens<'_>) -> Work {
    let text = tokens.text(0..tokens.all.len());
    let mut work = Work::new(
        "sql",
        format!("sql-{}", tokens.word(0)),
        "As it is, under maint's limits. Not enabled: every name in it needs its schema, since the search_path is empty. Look at `maint plan`, then remove `enabled: false`.",
    );
    work.enabled = false;
    work.options = vec![
        "statements:".to_owned(),
        format!(
            "  - {{ name: {}, sql: {} }}",
            quoted(&tokens.word(0).to_uppercase()),
            quoted(text)
        ),
    ];
    work
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn told(sql: &str) -> String {
        match translate(sql) {
            Ok(works) => works
                .iter()
                .map(|work| format!("{} {} {}", work.kind, work.name, work.options.join("|")))
                .collect::<Vec<_>>()
                .join(" + "),
            Err(why) => format!("no: {why}"),
        }
    }

    #[test]
    fn statements_become_tasks() {
        for (sql, expected) in [
            (
                "DELETE FROM sessions WHERE created_at < now() - interval '90 days';",
                "cleanup cleanup-sessions rules:|  - { table: public.sessions, column: created_at, older_than: 90d }",
            ),
            (
                "delete from app.\"Log\" where kind = 'a;b' and (x or y) and now() - '6 months'::interval >= at",
                "cleanup cleanup-Log rules:|  - { table: app.Log, column: at, older_than: 6mo, where: \"kind = 'a;b' AND (x or y)\" }",
            ),
            (
                "DELETE FROM t WHERE expires_at < CURRENT_TIMESTAMP",
                "cleanup cleanup-t rules:|  - { table: public.t, column: expires_at, older_than: 0d }",
            ),
            (
                "DELETE FROM t WHERE day < current_date - 30",
                "cleanup cleanup-t rules:|  - { table: public.t, column: day, older_than: 31d }",
            ),
            (
                "DELETE FROM t WHERE at < now()::date - interval '2 weeks'",
                "cleanup cleanup-t rules:|  - { table: public.t, column: at, older_than: 15d }",
            ),
            (
                "DELETE FROM t WHERE at < current_date - interval '1 month'",
                "sql",
            ),
            (
                "DELETE FROM t WHERE at < now()::time - interval '1 hour'",
                "sql",
            ),
            (
                "DELETE FROM t WHERE at < now() - interval '1 day' OR gone",
                "sql sql-delete statements:|  - { name: \"DELETE\", sql: \"DELETE FROM t WHERE at < now() - interval '1 day' OR gone\" }",
            ),
            ("DELETE FROM t WHERE at > now() - interval '1 day'", "sql"),
            ("DELETE FROM t", "sql"),
            ("VACUUM", "vacuum vacuum "),
            (
                "VACUUM (ANALYZE, VERBOSE false) a, b.c (x)",
                "vacuum vacuum include: [\"a\", \"b.c\"] + analyze analyze include: [\"a\", \"b.c\"]",
            ),
            ("vacuum full t", "no: VACUUM FULL keeps"),
            ("ANALYZE VERBOSE t", "analyze analyze-t include: [\"t\"]"),
            (
                "REINDEX TABLE CONCURRENTLY app.t",
                "reindex reindex-app.t include: [\"app.t\"]|min_bloat: 30%",
            ),
            (
                "REINDEX (VERBOSE) SCHEMA app",
                "reindex reindex-app.* include: [\"app.*\"]|min_bloat: 30%",
            ),
            ("REINDEX SYSTEM x", "no: indexes of the system"),
            (
                "REFRESH MATERIALIZED VIEW CONCURRENTLY mv",
                "refresh refresh-mv include: [\"mv\"]",
            ),
            (
                "REFRESH MATERIALIZED VIEW s.mv",
                "refresh refresh-s.mv include: [\"s.mv\"]|allow_blocking: true",
            ),
            (
                "VACUUM; -- and\n ANALYZE",
                "vacuum vacuum  + analyze analyze ",
            ),
            ("CALL partman.run_maintenance_proc()", "no: pg_partman's"),
            ("SELECT cron.schedule('x')", "no: it is about pg_cron"),
            ("UPDATE t SET a = $$x;y$$", "sql sql-update statements:"),
            ("DROP TABLE t", "no: DROP is no maintenance"),
            ("SELECT 'open", "no: a quote"),
            (
                "DELETE FROM t WHERE a = E'\\' OR true --'",
                "no: a string with escapes",
            ),
            ("", "no: there is no statement"),
            ("\\copy t to x", "no: it does not begin"),
        ] {
            let told = told(sql);
            assert!(told.starts_with(expected), "{sql}\n{told}");
        }
    }
}

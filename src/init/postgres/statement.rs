//! What an SQL statement that somebody runs on a schedule is as a task.

use std::ops::Range;

use super::lexer::{Token, Tokens, tokens};
use crate::init::yaml::{quoted, scalar};
use crate::values::TableName;

/// A task that does what a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) kind: &'static str,
    /// What its file could be called.
    pub(super) name: String,
    /// Lines of YAML below `options:`.
    pub(super) options: Vec<String>,
    pub(super) limits: String,
    pub(super) enabled: bool,
    /// What differs from the command.
    pub(super) differs: String,
}

impl Work {
    pub(super) fn new(kind: &'static str, name: impl Into<String>, differs: &str) -> Work {
        Work {
            kind,
            name: name.into(),
            options: Vec::new(),
            limits: String::new(),
            enabled: true,
            differs: differs.to_owned(),
        }
    }

    pub(super) fn including(mut self, patterns: &[String]) -> Work {
        if !patterns.is_empty() {
            let list: Vec<String> = patterns.iter().map(|name| quoted(name)).collect();
            self.options.push(format!("include: [{}]", list.join(", ")));
        }
        self
    }
}

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

/// Tells those that delete that they came behind others: what has to be done first, and done well.
pub(super) fn in_order(works: &mut [Work]) {
    let kinds: Vec<&'static str> = works.iter().map(|work| work.kind).collect();
    for (n, work) in works.iter_mut().enumerate().skip(1) {
        if work.kind == "cleanup" {
            work.differs.push_str(&format!(
                " It came behind other statements ({}), and a task does not wait for another to succeed: where one of them keeps a copy of what this deletes, take `kind: archive`, which deletes nothing that it has not kept.",
                kinds[..n].join(", ")
            ));
        }
    }
}

/// A name as a pattern: without a schema, in any.
fn pattern(schema: Option<&str>, name: &str) -> String {
    let part = |name: &str| match name.contains(['.', '"']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_owned(),
    };
    match schema {
        Some(schema) => format!("{}.{}", part(schema), part(name)),
        None => part(name),
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

/// `DELETE FROM t WHERE column < now() - interval '90 days' AND …` as a rule; `None` where it is
/// something else.
fn delete(tokens: &Tokens<'_>) -> Option<Work> {
    if tokens.word(1) != "from" {
        return None;
    }
    let (schema, table, next) = tokens.name(2)?;
    if tokens.word(next) != "where" {
        return None;
    }
    let parts = conjuncts(tokens, next + 1)?;
    let (column, age, n) = parts
        .iter()
        .enumerate()
        .find_map(|(n, part)| age(tokens, part.clone()).map(|(column, age)| (column, age, n)))?;
    let older_than = age.older_than;
    let rest: Vec<&str> = parts
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != n)
        .map(|(_, part)| tokens.text(part.clone()))
        .collect();
    let name = TableName {
        schema: schema.unwrap_or_else(|| "public".to_owned()),
        table: table.clone(),
    };
    let only = match rest.is_empty() {
        true => String::new(),
        false => format!(", where: {}", quoted(&rest.join(" AND "))),
    };
    let mut work = Work::new(
        "cleanup",
        format!("cleanup-{table}"),
        "In small batches, each committed by itself. Not enabled: it deletes rows, and whether they may go is yours to say. Look at what `maint run --dry-run` says of it, then remove `enabled: false`.",
    );
    work.enabled = false;
    work.differs.push_str(&format!(
        " Where {column} is of type timestamp (without time zone), the rule needs `time_zone` with the zone that its values are told in, which is mostly what `SHOW TimeZone` says there: without it they are taken for UTC, and rows may go hours earlier than there."
    ));
    let others = parts.iter().enumerate().filter(|(other, _)| *other != n);
    if let Some(table) = others
        .filter_map(|(_, part)| unqualified(tokens, part.clone()))
        .next()
    {
        work.differs.push_str(&format!(
            " In `where`, every table of a subquery has to be named with its schema, such as public.{table}, since the search_path is empty."
        ));
    }
    if let Some(days) = age.midnight {
        work.differs.push_str(&format!(
            " There it counted back from midnight, here it counts from the moment of the run: with {older_than} nothing goes earlier than there, and some up to a day later. For a column of type date, {days}d is the same as there."
        ));
    }
    work.options = vec![
        "rules:".to_owned(),
        format!(
            "  - {{ table: {}, column: {}, older_than: {older_than}{only} }}",
            scalar(&name.to_string()),
            scalar(&column)
        ),
    ];
    work.limits = "budget: 1h".to_owned();
    Some(work)
}

/// The conditions that have to be met together; `None` where one of several is enough.
fn conjuncts(tokens: &Tokens<'_>, from: usize) -> Option<Vec<Range<usize>>> {
    let (mut depth, mut begin, mut parts) = (0_i32, from, Vec::new());
    for n in from..tokens.all.len() {
        match (&tokens.all[n].0, depth) {
            (Token::Sign('('), _) => depth += 1,
            (Token::Sign(')'), _) => depth -= 1,
            (Token::Word(word), 0) if word == "and" => {
                parts.push(begin..n);
                begin = n + 1;
            }
            (Token::Word(word), 0)
                if ["or", "between", "returning", "case"].contains(&word.as_str()) =>
            {
                return None;
            }
            _ => {}
        }
    }
    parts.push(begin..tokens.all.len());
    (depth == 0 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// The first table of a subquery that is named without its schema.
fn unqualified(tokens: &Tokens<'_>, part: Range<usize>) -> Option<String> {
    if !part.clone().any(|n| tokens.word(n) == "select") {
        return None;
    }
    let mut behind = part.filter(|n| {
        let distinct = n
            .checked_sub(1)
            .is_some_and(|n| tokens.word(n) == "distinct");
        ["from", "join"].contains(&tokens.word(*n)) && !distinct
    });
    behind.find_map(|n| match tokens.name(n + 1)? {
        (None, name, next) if !tokens.is(next, '(') && name != "lateral" => {
            Some(pattern(None, &name))
        }
        _ => None,
    })
}

/// How old rows may become.
struct Age {
    /// As a rule says it, counted back from the moment of the run.
    older_than: String,
    /// Where it was counted back from a midnight: by so many days. The rule then waits a day longer,
    /// so that nothing goes earlier.
    midnight: Option<u32>,
}

/// The column and the span of a condition on the age of a row.
fn age(tokens: &Tokens<'_>, part: Range<usize>) -> Option<(String, Age)> {
    let of = |range: Range<usize>| {
        let all = tokens.all.get(range)?.to_vec();
        Some(Tokens {
            sql: tokens.sql,
            all,
        })
    };
    let sign = part
        .clone()
        .find(|n| tokens.is(*n, '<') || tokens.is(*n, '>'))?;
    // `<=` differs by one moment.
    let behind = sign + 1 + usize::from(tokens.is(sign + 1, '='));
    let (left, right) = (of(part.start..sign)?, of(behind..part.end)?);
    let (column, moment) = match tokens.is(sign, '<') {
        true => (left, right),
        false => (right, left),
    };
    let (None, name, next) = column.name(0)? else {
        return None;
    };
    (next == column.all.len()).then_some(())?;
    Some((name, before_now(&moment)?))
}

/// `now() - interval '90 days'` as `90d`; `now()` as `0d`.
fn before_now(tokens: &Tokens<'_>) -> Option<Age> {
    let (span, day) = span_before_now(tokens)?;
    if !day {
        return Some(Age {
            older_than: span,
            midnight: None,
        });
    }
    // How long a month before a midnight is, nobody can say in days.
    let days = match span.strip_suffix('w') {
        Some(weeks) => weeks.parse::<u32>().ok()?.checked_mul(7)?,
        None => span.strip_suffix('d')?.parse::<u32>().ok()?,
    };
    Some(Age {
        older_than: format!("{}d", days.checked_add(1)?),
        midnight: Some(days),
    })
}

/// The span, and whether it is counted back from a midnight.
fn span_before_now(tokens: &Tokens<'_>) -> Option<(String, bool)> {
    let mut n = 1;
    let mut day = tokens.word(0) == "current_date";
    match tokens.word(0) {
        "now" | "clock_timestamp" | "transaction_timestamp" | "statement_timestamp" => {
            (tokens.is(1, '(') && tokens.is(2, ')')).then_some(())?;
            n = 3;
        }
        "current_timestamp" | "localtimestamp" | "current_date" => {}
        _ => return None,
    }
    if tokens.is(n, ':') && tokens.is(n + 1, ':') {
        match tokens.word(n + 2) {
            "date" => day = true,
            "timestamp" | "timestamptz" => {}
            _ => return None,
        }
        n += 3;
    }
    if n == tokens.all.len() {
        return Some(("0d".to_owned(), day));
    }
    tokens.is(n, '-').then_some(())?;
    n += 1;
    let text = match (tokens.word(n), tokens.all.get(n), tokens.all.get(n + 1)) {
        ("interval", _, Some((Token::Text(text), _))) if n + 2 == tokens.all.len() => text,
        (_, Some((Token::Text(text), _)), _)
            if tokens.is(n + 1, ':')
                && tokens.is(n + 2, ':')
                && tokens.word(n + 3) == "interval"
                && n + 4 == tokens.all.len() =>
        {
            text
        }
        (days, _, None) if day => {
            let days = days.parse::<u32>().ok()?;
            return Some((format!("{days}d"), day));
        }
        _ => return None,
    };
    Some((span(text)?, day))
}

/// An interval as the configuration writes it: `90 days`, `1 year`, `36:00:00`.
pub(super) fn span(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    if let Some((hours, rest)) = text.split_once(':')
        && rest == "00:00"
    {
        return hours.parse::<u32>().ok().map(|hours| format!("{hours}h"));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    number.parse::<u32>().ok()?;
    let unit = match unit.trim() {
        "d" | "day" | "days" => "d",
        "w" | "week" | "weeks" => "w",
        "mon" | "mons" | "month" | "months" => "mo",
        "y" | "year" | "years" => "y",
        "h" | "hour" | "hours" => "h",
        "min" | "mins" | "minute" | "minutes" => "min",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
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

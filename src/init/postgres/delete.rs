//! A DELETE of what is old as a rule of `kind: cleanup`.

use std::ops::Range;

use super::lexer::{Token, Tokens};
use super::work::{Work, pattern};
use crate::init::yaml::{quoted, scalar};
use crate::values::TableName;

/// `DELETE FROM t WHERE column < now() - interval '90 days' AND …` as a rule; `None` where it is
/// something else.
pub(super) fn delete(tokens: &Tokens<'_>) -> Option<Work> {
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
                if ["or", "between", "returning", "case", "limit", "order"]
                    .contains(&word.as_str()) =>
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

//! A crontab as a draft.

use super::collect::{Collected, Line, told};
use super::command::{UNKNOWN, Variables, is_read, translated};
use crate::init::Draft;
use crate::report::text::counted;
use crate::values::TimeZone;

/// Translates the lines of a crontab; `name` is what the file is called, `zone` that of this
/// machine, where it is known. `variable` is to hold the URL where there is one database.
pub fn draft(text: &str, name: &str, zone: Option<&str>, variable: &str) -> Draft {
    let mut collected = Collected::default();
    let mut own_zone: Option<String> = None;
    // Each holds for the lines below it.
    let mut variables = Variables::new();
    let (mut lines, mut above) = (0, false);
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("line {}", n + 1);
        if let Some((key, value)) = assignment(line) {
            if key == "CRON_TZ" {
                match value.parse::<TimeZone>() {
                    Ok(zone) => own_zone = Some(zone.to_string()),
                    Err(wrong) => collected.leave(&place, line, wrong.to_string()),
                }
            } else if key == "TZ" {
                collected.note(format!(
                    "{place}: `{}` is the time zone of the commands. Cron goes by that of its machine, or by `CRON_TZ`, and so do the times here.",
                    told(line)
                ));
            } else if is_read(key) {
                variables.insert(key.to_owned(), value.to_owned());
            }
            continue;
        }
        lines += 1;
        let (cron, command) = times(line);
        if cron == "@reboot" {
            collected.leave(&place, line, "@reboot: nothing starts with the machine");
            continue;
        }
        let result = words(command).and_then(|mut words| {
            // A crontab of the system names the user before the command.
            let plain = translated(&words, &variables);
            let unknown = |result: &Result<_, String>| {
                result
                    .as_ref()
                    .is_err_and(|why: &String| why.ends_with(UNKNOWN))
            };
            if unknown(&plain) && words.len() > 1 && is_user(&words[0]) && is_program(&words[1]) {
                words.remove(0);
                let behind = translated(&words, &variables);
                return if unknown(&behind) { plain } else { behind };
            }
            plain
        });
        match result {
            Ok((database, works)) => {
                above |= own_zone.is_none();
                let line = Line {
                    place,
                    cron,
                    zone: own_zone.clone().or_else(|| zone.map(str::to_owned)),
                    text: line,
                    active: true,
                };
                collected.add(&line, &database, works);
            }
            Err(reason) => collected.leave(&place, line, reason),
        }
    }
    // What stands above `CRON_TZ` goes by the clock of the machine.
    let zone = match (own_zone.filter(|_| !above), zone) {
        (Some(zone), _) => (zone, "The time zone that the crontab names.".to_owned()),
        (None, Some(zone)) => (
            zone.to_owned(),
            "The time zone of the machine on which this was written: that of the crontab's machine counts.".to_owned(),
        ),
        (None, None) => (
            "UTC".to_owned(),
            "The crontab names no time zone: name that of its machine, such as Europe/Berlin.".to_owned(),
        ),
    };
    let about = format!(
        "Written by `maint init --from crontab` from {name}: {} with a command. Take what is here out of the crontab, once you have seen it at work.",
        counted(lines, "line")
    );
    collected.draft(about, zone, variable, None)
}

/// `NAME = value`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (is_name && name.chars().all(plain)).then(|| (name, value.trim().trim_matches(['"', '\''])))
}

/// When, and what.
fn times(line: &str) -> (&str, &str) {
    let fields = if line.starts_with('@') { 1 } else { 5 };
    let mut rest = line;
    for _ in 0..fields {
        rest = rest.trim_start();
        rest = &rest[rest.find(char::is_whitespace).unwrap_or(rest.len())..];
    }
    let (cron, command) = line.split_at(line.len() - rest.len());
    (cron.trim(), command.trim())
}

fn is_user(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(plain)
}

fn is_program(word: &str) -> bool {
    word.starts_with('/') || word.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The words of a command, as a shell would take it apart; an error where it is more than one
/// command. Where its output goes is left out.
fn words(command: &str) -> Result<Vec<String>, String> {
    let more = |what: &str| {
        Err(format!(
            "more than one command (`{what}`): only a single one is translated"
        ))
    };
    let (mut words, mut word, mut begun) = (Vec::new(), String::new(), false);
    // Words that only say where output goes.
    let mut skip = false;
    let mut chars = command.chars().peekable();
    let mut end = |word: &mut String, begun: &mut bool, skip: &mut bool| {
        if *begun && !std::mem::take(skip) {
            words.push(std::mem::take(word));
        }
        word.clear();
        *begun = false;
    };
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => end(&mut word, &mut begun, &mut skip),
            '\'' => {
                begun = true;
                word.extend(chars.by_ref().take_while(|c| *c != '\''));
            }
            '"' => {
                begun = true;
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    match c {
                        '`' => return more("`"),
                        '$' if chars.peek() == Some(&'(') => return more("$("),
                        '\\' if matches!(chars.peek(), Some('"' | '\\' | '$' | '`' | '%')) => {
                            word.extend(chars.next());
                        }
                        c => word.push(c),
                    }
                }
            }
            '\\' => {
                begun = true;
                word.extend(chars.next());
            }
            '>' => {
                // `2>`, `&>`: the number is no word.
                if word.chars().all(|c| c.is_ascii_digit()) {
                    word.clear();
                    begun = false;
                }
                end(&mut word, &mut begun, &mut skip);
                while chars.peek().is_some_and(|c| matches!(c, '>' | '&' | ' ')) {
                    chars.next();
                }
                skip = true;
            }
            '&' if chars.peek() == Some(&'>') => {}
            '|' => return more("|"),
            '&' => return more("&"),
            ';' if chars.peek().is_none() => {}
            ';' => return more(";"),
            '`' => return more("`"),
            '$' if chars.peek() == Some(&'(') => return more("$("),
            '<' => return Err("it reads its statements from elsewhere (`<`)".to_owned()),
            '%' => {
                return Err(
                    "what follows `%` is its input: only arguments are translated".to_owned(),
                );
            }
            c => {
                begun = true;
                word.push(c);
            }
        }
    }
    end(&mut word, &mut begun, &mut skip);
    // `sh -c "…"` is what is in it.
    if let [shell, dash_c, inner] = words.as_slice()
        && dash_c == "-c"
        && ["sh", "bash", "dash"].contains(&shell.rsplit('/').next().unwrap_or_default())
    {
        return self::words(inner);
    }
    if let ["su", rest @ ..] = words
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
        && let Some(at) = rest.iter().position(|word| *word == "-c")
        && let Some(inner) = rest.get(at + 1)
    {
        return self::words(inner);
    }
    Ok(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_line_goes_by_the_zone_that_cron_goes_by() {
        let line = |n| format!("{n} 1 * * * psql shop -c 'VACUUM t{n}'\n");
        let zones = |crontab: &str, machine| {
            let draft = draft(crontab, "c", machine, "DATABASE_URL");
            let of = |s: &crate::init::DraftSchedule| s.zone.clone().unwrap_or_default();
            let own: Vec<String> = draft.schedules.iter().map(of).collect();
            (draft.zone.0, own.join(" "), draft.notes.len())
        };
        let berlin = Some("Europe/Berlin");
        let text = |zone: &str, own: &str, notes| (zone.to_owned(), own.to_owned(), notes);
        // `TZ` is for the commands.
        let crontab = format!("TZ=America/New_York\n{}", line(1));
        assert_eq!(zones(&crontab, berlin), text("Europe/Berlin", "", 1));
        let crontab = format!("CRON_TZ=America/New_York\n{}", line(1));
        assert_eq!(zones(&crontab, berlin), text("America/New_York", "", 0));
        // What stands above it does not know of it.
        let crontab = format!("{}CRON_TZ=America/New_York\n{}", line(1), line(2));
        assert_eq!(
            zones(&crontab, berlin),
            text("Europe/Berlin", " America/New_York", 0)
        );
        assert_eq!(zones(&crontab, None), text("UTC", " America/New_York", 0));
    }

    #[test]
    fn a_day_that_has_to_fit_both_ways_is_told() {
        let draft = draft(
            "10 1 */2 * 1 psql shop -c 'VACUUM a'\n11 1 1-7 * */2 psql shop -c 'VACUUM b'\n\
             12 1 */1 * 1 psql shop -c 'VACUUM c'\n13 1 1 * 1 psql shop -c 'VACUUM d'\n\
             14 1 */2 * * psql shop -c 'VACUUM e'\n",
            "c",
            Some("Europe/Berlin"),
            "DATABASE_URL",
        );
        let left: Vec<&str> = draft.left.iter().map(|left| left.place.as_str()).collect();
        assert_eq!(left, ["line 1", "line 2"]);
        assert!(draft.left[0].reason.contains("have to fit the same day"));
        let times: Vec<&str> = draft.schedules.iter().map(|s| s.cron.as_str()).collect();
        assert_eq!(times, ["12 1 * * 1", "13 1 1 * 1", "14 1 */2 * *"]);
    }

    #[test]
    fn every_line_becomes_a_task_or_is_told() {
        let crontab = r#"# nightly
MAILTO=dba@example.com
PATH=/usr/bin
30 3 * * * psql -d shop -c "DELETE FROM sessions WHERE created_at < now() - interval '90 days'" >/dev/null 2>&1
0 4 * * SUN postgres vacuumdb --analyze shop >> /var/log/v.log
@daily reindexdb -d shop --concurrently -t orders
0 5 * * * cd /opt && ./x.sh
0 5 * * * psql shop < x.sql
0 5 * * * su - postgres -c 'psql shop -c "REFRESH MATERIALIZED VIEW mv"' &> /dev/null
61 5 * * * psql shop -c VACUUM
@reboot psql -c VACUUM
0 6 * * * PGPASSWORD=geheim pg_dump shop | gzip > x.gz
"#;
        let draft = draft(crontab, "c", Some("Europe/Berlin"), "DATABASE_URL");
        let tasks: Vec<&str> = draft.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(
            tasks,
            [
                "cleanup-sessions",
                "vacuum",
                "analyze",
                "reindex-orders",
                "refresh-mv"
            ]
        );
        let times: Vec<String> = draft
            .schedules
            .iter()
            .map(|s| format!("{} {}: {}", s.name, s.cron, s.tasks.join(" ")))
            .collect();
        assert_eq!(
            times,
            [
                "daily 30 3 * * *: cleanup-sessions",
                "weekly 0 4 * * SUN: vacuum analyze",
                "daily-2 @daily: reindex-orders",
                "daily-3 0 5 * * *: refresh-mv",
            ]
        );
        let left: Vec<&str> = draft.left.iter().map(|left| left.place.as_str()).collect();
        assert_eq!(left, ["line 7", "line 8", "line 10", "line 11", "line 12"]);
        assert!(!format!("{draft:?}").contains("geheim"));
        assert_eq!(draft.targets.len(), 1);
        assert_eq!(draft.targets[0].name, "shop");
        assert_eq!(draft.zone.0, "Europe/Berlin");
    }
}

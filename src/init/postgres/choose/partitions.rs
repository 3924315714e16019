//! Tables whose next partitions have to be made, as tasks.

use chrono_tz::Tz;

use super::super::bounds::shared;
use super::super::facts::Partitioned;
use super::{Facts, on_its_way_out, shown_name, size};
use crate::init::yaml::scalar;
use crate::init::{Draft, DraftTask, Left};
use crate::report::text::counted;

/// A task for each length of partitions; the names of the tasks.
pub(super) fn partitions(draft: &mut Draft, facts: &Facts, zone: Tz) -> Vec<String> {
    let zones = [zone, Tz::UTC];
    let mut groups: Vec<(&'static str, Option<Tz>, Vec<&Partitioned>)> = Vec::new();
    for table in &facts.partitioned {
        let left = |reason: &str| Left {
            place: shown_name(&table.name),
            text: "is partitioned".to_owned(),
            reason: reason.to_owned(),
        };
        if table.on_its_way_out {
            draft
                .left
                .push(on_its_way_out(shown_name(&table.name), "is partitioned"));
            continue;
        }
        let moments = table.key_type == "timestamptz";
        let reason = match () {
            () if table.strategy != "r" => Some("not by range"),
            () if table.key_columns != 1 => Some("by more than one column"),
            () if matches!(table.key_type.as_str(), "int4" | "int8" | "uuid") => Some(
                "by a number or a uuid: `kind: partitions` can, but what it counts nobody but you knows (docs/partitions.md)",
            ),
            () if !moments && !matches!(table.key_type.as_str(), "timestamp" | "date") => {
                Some("not by a time")
            }
            () => None,
        };
        if let Some(reason) = reason {
            draft.left.push(left(reason));
            continue;
        }
        let Some((interval, found)) = shared(&table.bounds, &zones, moments) else {
            draft.left.push(left(match table.count {
                0 => "it has no partition that would tell how long they are",
                _ => "its newest partitions are not days, weeks, months, quarters or years in a zone that is known",
            }));
            continue;
        };
        let own = (found != zone).then_some(found);
        match groups
            .iter_mut()
            .find(|(known, zone, _)| *known == interval && *zone == own)
        {
            Some((_, _, tables)) => tables.push(table),
            None => groups.push((interval, own, vec![table])),
        }
    }
    let partman = facts.overview.extensions.iter().any(|e| e == "pg_partman");
    let alone = groups.len() == 1;
    let mut made = Vec::new();
    for (interval, own, tables) in groups {
        let name = match alone {
            true => "partitions".to_owned(),
            false => draft.free_name(&format!("partitions-{interval}")),
        };
        let mut task = DraftTask::new(
            &name,
            "partitions",
            "The next partitions, before the first row needs them. Nothing goes: `keep: 12mo` would retire what is older.",
        )
        .within("lock_timeout: 3s");
        for table in &tables {
            task.why.push(format!(
                "{}: {}, the newest each a {interval} long.",
                shown_name(&table.name),
                counted(size(table.count), "partition")
            ));
        }
        if partman {
            task.enabled = false;
            task.why.push("Not enabled: pg_partman is installed, and may look after them. `maint init --from pg_partman` translates what it does.".to_owned());
        }
        task.options.push("tables:".to_owned());
        for table in tables {
            task.options
                .push(format!("  - {}", scalar(&table.name.to_string())));
        }
        task.options.push(format!("interval: {interval}"));
        let ahead = match interval {
            "day" => 14,
            "week" => 6,
            "month" => 3,
            _ => 2,
        };
        task.options.push(format!("ahead: {ahead}"));
        if let Some(zone) = own {
            task.options.push(format!("time_zone: {}", zone.name()));
        }
        draft.tasks.push(task);
        made.push(name);
    }
    made
}

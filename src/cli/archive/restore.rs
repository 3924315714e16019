//! Bringing back: what fits together, into which target, and nothing twice.

use std::borrow::Cow;

use super::archived::Archived;
use super::manifests::{NOT_CONFIGURED, everything, narrowed, wholes};
use super::returning::{ByDatabase, How, Into};
use super::{Chosen, documents, rows, unknown};
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::report::text::shown;
use crate::values::Engine;

/// Brings back what is chosen.
pub(super) async fn restore(
    context: &Context<'_>,
    chosen: &Chosen,
    into: Into<'_>,
    how: How,
) -> Result<u8, Failure> {
    let everything = everything(context, chosen).await?;
    let wholes = wholes(&everything.known);
    let mut unknown = unknown::look(context, chosen, &everything).await?;
    let mut found = narrowed(everything.known, chosen)?;
    unknown.leave_files(&mut found);
    let Some((name, first)) = found.first() else {
        let besides: String = unknown
            .lines()
            .iter()
            .map(|line| format!("\n  {line}"))
            .collect();
        return Err(Failure::Usage(format!(
            "nothing is archived that fits{besides}\n  hint: `maint archive list` shows what is"
        )));
    };
    unknown.only(&first.source());
    let engine = first.engine();
    // What one partition held may have been archived by a task for it and by one for its table.
    let of_one = found.iter().all(|(_, m)| m.table() == first.table());
    let apart = |m: &Archived| !of_one && m.source() != first.source();
    if let Some((other, archived)) = found
        .iter()
        .find(|(other, m)| other != name || apart(m) || m.engine() != engine)
    {
        let of = |name: &Option<String>| {
            name.as_deref()
                .map_or(String::new(), |n| format!(" of {n}"))
        };
        return Err(Failure::Usage(format!(
            "these {} came from several {}: {}{} and {}{}\n  hint: choose with `--from` and {}",
            first.unit(),
            first.containers(),
            first.source(),
            of(name),
            archived.source(),
            of(other),
            "`--of`"
        )));
    }
    if let Some((_, open)) = found.iter().find(|(_, m)| !m.settled() && !how.unsettled) {
        let hint = match &chosen.files {
            None => "run the archive task once more, or choose ids".to_owned(),
            Some(_) => format!(
                "look into the {}, and choose ids; or restore them all the same with `--unsettled`",
                open.container()
            ),
        };
        return Err(Failure::Usage(format!(
            "whether the {} of {} have left {} is not known\n  hint: {hint}",
            open.unit(),
            open.id(),
            open.table()
        )));
    }
    let config = context.config().await?;
    let from = name.clone();
    let name = match (&chosen.files, &chosen.of) {
        (Some(_), _) => chosen.target.as_ref(),
        (None, Some(_)) if chosen.target.is_some() => chosen.target.as_ref(),
        (None, _) => name.as_ref(),
    };
    if let (None, Some(gone)) = (&chosen.files, name)
        && from.as_ref() == Some(gone)
        && config.target(gone).is_none()
    {
        let gone = shown(gone);
        return Err(Failure::Usage(format!(
            "these {} are of the target {gone}, {NOT_CONFIGURED}: into which target?\n  hint: `--of {gone} --target TARGET`",
            first.unit()
        )));
    }
    let mut all = config.targets.iter().filter(|(_, t)| t.engine == engine);
    let target = match (name, all.next(), all.next()) {
        (Some(name), ..) => config
            .target(name)
            .ok_or_else(|| Failure::Usage(format!("there is no target `{name}`")))?,
        (None, Some((_, only)), None) if !only.is_many() => Cow::Borrowed(only),
        _ => {
            return Err(Failure::Usage(
                "into which target?\n  hint: say with `--target`".to_owned(),
            ));
        }
    };
    if target.is_many() {
        let name = &target.name;
        return Err(Failure::Usage(format!(
            "into which database of `{name}`?\n  hint: say with `--target {name}/DATABASE`"
        )));
    }
    if target.engine != engine {
        return Err(Failure::Usage(format!(
            "these are {} of {engine}, and the target `{}` is {}",
            first.unit(),
            target.name,
            target.engine
        )));
    }
    let (mut rows, mut documents) = (Vec::new(), Vec::new());
    for (_, archived) in found {
        match archived {
            Archived::Rows(manifest) => rows.push(*manifest),
            Archived::Documents(manifest) => documents.push(*manifest),
        }
    }
    match engine {
        Engine::Postgres => {
            // Who names archives, or a place and another target, has chosen them.
            let own = chosen.files.is_none() && from.as_ref() == Some(&target.name);
            let by_database = match (how.former || !chosen.ids.is_empty(), own) {
                (true, _) => ByDatabase::Any,
                (false, true) => ByDatabase::Present,
                (false, false) => ByDatabase::One,
            };
            rows::restore(
                context,
                (from, &target),
                into,
                rows::Coming {
                    manifests: rows,
                    wholes,
                    by_database,
                    recorded: chosen.files.is_none(),
                },
                how,
                &unknown,
            )
            .await
        }
        Engine::Mongodb => {
            documents::restore(context, (from, &target), into, documents, how, &unknown).await
        }
    }
}

//! What a person says of two names: that they are of one database.

use std::collections::BTreeSet;

use super::Failure;
use super::archived::{Archived, Known};
use super::manifests::{KIND, asked_for, everything, narrowed, unit_of};
use super::unknown;
use crate::cli::context::{Context, known_target};
use crate::history::{Entry, RunStatus};
use crate::plan::Memory;
use crate::plan::archived::{Manifested, remembered_as, seen_as};
use crate::plan::postgres::Manifest;
use crate::report::text::{counted_rows, shown};
use crate::values::wall_clock;

/// Has the runs of `target` look after what was archived under the name `of`.
pub(super) async fn adopt(context: &Context<'_>, of: &str, target: &str) -> Result<u8, Failure> {
    let config = context.config().await?;
    known_target(&config, target)?;
    let server = of.split_once('/').map_or(of, |(server, _)| server);
    if config.target(of).is_some() || config.target(server).is_some() {
        return Err(Failure::Usage(format!(
            "`{}` is configured, and its own runs look after its archives",
            shown(of)
        )));
    }
    let chosen = super::Chosen {
        ids: Vec::new(),
        from: None,
        target: None,
        of: Some(of.to_owned()),
        files: None,
    };
    let found = asked_for(context, &chosen).await?;
    let engine = config.target(target).map(|target| target.engine);
    let wrong = |archived: &Archived| engine.is_some_and(|engine| engine != archived.engine());
    if let Some((_, archived)) = found.iter().find(|(_, archived)| wrong(archived)) {
        return Err(Failure::Usage(format!(
            "{} of {} is of another engine than {}",
            archived.id(),
            shown(of),
            shown(target)
        )));
    }
    let store = crate::history::open_existing(config.history.expose()).await?;
    for (_, archived) in &found {
        let Archived::Rows(manifest) = archived else {
            continue;
        };
        let run = store.run(&manifest.run.to_string()).await;
        if !manifest.settled() && run.is_ok_and(|run| run.status == RunStatus::Running) {
            return Err(Failure::Usage(format!(
                "the run {} is at work on {}: wait for its end, or end it with `maint cancel`",
                manifest.run, manifest.id
            )));
        }
    }
    let own = store.memories(target, KIND).await?;
    let memories = store.memories(of, KIND).await?;
    let entries = Entry::moved(KIND, (of, memories), (target, &own));
    store.record(&entries).await?;
    store.close().await;
    outln!(
        "{} archived, {}: the runs of {} look after them from now on",
        found.len(),
        counted_rows(
            found.iter().map(|(_, archived)| archived.rows()).sum(),
            unit_of(&found)
        ),
        shown(target)
    );
    Ok(0)
}

/// Has the runs of `target` look after what lies beside files, and its history does not know.
pub(super) async fn beside(
    context: &Context<'_>,
    files: Option<String>,
    from: Option<String>,
    target: &str,
) -> Result<u8, Failure> {
    let config = context.config().await?;
    known_target(&config, target)?;
    let chosen = super::Chosen {
        ids: Vec::new(),
        from,
        target: None,
        of: None,
        files,
    };
    let everything = everything(context, &chosen).await?;
    let unknown = unknown::look(context, &chosen, &everything).await?;
    let mut found = narrowed(everything.known, &chosen)?;
    // What several archive into one place is each one's own.
    found.retain(|(of, _)| of.as_ref().is_none_or(|of| of == target));
    let store = crate::history::open_existing(config.history.expose()).await?;
    for name in store.remembered(KIND).await? {
        let known = store.memories(&name, KIND).await?;
        let is_known = |archived: &Archived| {
            let value = known.get(&remembered_as(archived.id()));
            value.is_some_and(|value| !value.is_null())
        };
        found.retain(|(_, archived)| !is_known(archived));
    }
    let engine = config.target(target).map(|target| target.engine);
    found.retain(|(_, archived)| engine.is_none_or(|engine| engine == archived.engine()));
    let found: Vec<Known> = found
        .into_iter()
        .map(|(of, archived)| (of, archived.doubted()))
        .collect();
    let mut memories: Vec<Memory> = found
        .iter()
        .map(|(_, archived)| Memory {
            key: remembered_as(archived.id()),
            value: archived.json(),
        })
        .collect();
    // Whatever set the history back may have set the database back: the next run looks, once.
    let rows = |(_, archived): &Known| matches!(archived, Archived::Rows(_));
    let sources: BTreeSet<String> = found
        .iter()
        .filter(|known| rows(known))
        .map(|(_, archived)| archived.source())
        .collect();
    memories.extend(sources.iter().map(|source| Memory {
        key: seen_as(source),
        value: Manifest::to_be_looked_for(),
    }));
    store
        .remember(target, KIND, wall_clock(), &memories)
        .await?;
    store.close().await;
    outln!(
        "{} archived, {}, not known before: the runs of {} look after them from now on",
        found.len(),
        counted_rows(
            found.iter().map(|(_, archived)| archived.rows()).sum(),
            unit_of(&found)
        ),
        shown(target)
    );
    unknown.tell();
    Ok(u8::from(!unknown.is_none()))
}

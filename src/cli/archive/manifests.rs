//! The manifests that are chosen, of the history or beside the files.

mod lying;

use self::lying::beside;
use super::Chosen;
use super::archived::{Archived, Known};
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::history::HistoryError;
use crate::values::Engine;

/// What is said of a target that only the history has.
pub(super) const NOT_CONFIGURED: &str = "which is not configured any more";

/// What is in a place, or known of targets.
pub(super) struct Everything {
    /// Oldest first.
    pub(super) known: Vec<Known>,
    /// What lies beside files as a manifest and cannot be read as one, with why.
    pub(super) unread: Vec<String>,
}

/// The manifests of the history that are asked for, oldest first.
pub(super) async fn asked_for(
    context: &Context<'_>,
    chosen: &Chosen,
) -> Result<Vec<Known>, Failure> {
    narrowed(remembered(context, chosen).await?, chosen)
}

/// All manifests of that place, or of these targets, oldest first.
pub(super) async fn everything(
    context: &Context<'_>,
    chosen: &Chosen,
) -> Result<Everything, Failure> {
    match &chosen.files {
        Some(url) => beside(url).await,
        None => Ok(Everything {
            known: remembered(context, chosen).await?,
            unread: Vec::new(),
        }),
    }
}

/// The ids of partitions that have left as a whole.
pub(super) fn wholes(found: &[Known]) -> Vec<u32> {
    let of = |(_, archived): &Known| match archived {
        Archived::Rows(m) if m.settled => m.whole.as_ref().map(|whole| whole.oid),
        _ => None,
    };
    found.iter().filter_map(of).collect()
}

/// Those of them that are asked for.
pub(super) fn narrowed(mut found: Vec<Known>, chosen: &Chosen) -> Result<Vec<Known>, Failure> {
    if let Some(of) = &chosen.of {
        found.retain(|(target, _)| target.as_ref() == Some(of));
    }
    found.retain(|(_, m)| chosen.from.as_ref().is_none_or(|from| m.is_from(from)));
    let begins = |m: &Archived, wanted: &String| m.id().to_string().starts_with(wanted.as_str());
    for wanted in &chosen.ids {
        if !found.iter().any(|(_, m)| begins(m, wanted)) {
            return Err(Failure::Usage(format!(
                "nothing archived has an id that begins with `{wanted}`\n  hint: `maint archive list` shows them"
            )));
        }
    }
    found.retain(|(_, m)| {
        chosen.ids.is_empty() || chosen.ids.iter().any(|wanted| begins(m, wanted))
    });
    Ok(found)
}

/// By which kind archives are remembered.
pub(super) const KIND: &str = "archive";

/// What the history knows.
async fn remembered(context: &Context<'_>, chosen: &Chosen) -> Result<Vec<Known>, Failure> {
    let config = context.config().await?;
    let store = match crate::history::open_existing(config.history.expose()).await {
        // Nothing was archived yet that it knows of; what was not found is not out of reach.
        Err(error @ HistoryError::Missing { .. }) => {
            let hint = error.hint().map(|hint| format!("\n  hint: {hint}"));
            return Err(Failure::Usage(format!(
                "{error}{}",
                hint.unwrap_or_default()
            )));
        }
        opened => opened?,
    };
    let mut found = Vec::new();
    // Of a target that is gone, or goes by another name now, the archive is all there is.
    let names = store.remembered(KIND).await?;
    // What is brought back may come from another target than it goes to.
    let wanted = chosen.of.as_ref().or(chosen.target.as_ref());
    for name in [&chosen.of, &chosen.target].into_iter().flatten() {
        if !names.contains(name) {
            crate::cli::context::known_target(&config, name)?;
        }
    }
    for name in &names {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let memories = store.memories(name, KIND).await?;
        let manifests = memories
            .into_iter()
            .filter(|(key, value)| key.starts_with("archive ") && !value.is_null());
        let mut here = Vec::new();
        for (key, value) in manifests {
            let id = key.trim_start_matches("archive ");
            let mut archived = Archived::read(value)
                .map_err(|why| Failure::Usage(format!("what the history says of {id}: {why}")))?;
            if let Archived::Rows(manifest) = &mut archived {
                manifest.target.get_or_insert_with(|| name.clone());
            }
            here.push((Some(name.clone()), archived));
        }
        here.sort_by_key(|(_, archived)| archived.id());
        found.extend(here);
    }
    Ok(found)
}

/// What one of all these is called. Of both kinds together the words of tables do.
pub(super) fn unit_of<'a>(all: impl IntoIterator<Item = &'a Known>) -> &'static str {
    let mut engines = all.into_iter().map(|(_, archived)| archived.engine());
    match engines.next() {
        Some(first) if engines.all(|engine| engine == first) => first.counted(),
        _ => Engine::Postgres.counted(),
    }
}

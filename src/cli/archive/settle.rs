//! What a person says of a batch whose end no server can tell any more.

use uuid::Uuid;

use super::archived::Archived;
use super::manifests::{KIND, asked_for};
use super::{Chosen, Failure};
use crate::cli::context::Context;
use crate::engines::storage::Storage;
use crate::execute;
use crate::history::RunStatus;
use crate::plan::Memory;
use crate::plan::archived::{Manifested, left_over_as};
use crate::plan::postgres::{Lost, Manifest};
use crate::report::text::{counted_do, counted_rows, shown};
use crate::values::{wall_clock, with_causes};

/// Where the rows of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// They have left their table: what was archived is all there is of them.
    Gone,
    /// They are in their table: what was archived is not needed.
    Kept,
    /// Another database has lost them, and they are brought back or given up.
    SeenTo,
}

/// Settles the one batch of this id.
pub(super) async fn settle(
    context: &Context<'_>,
    id: &str,
    target: Option<&str>,
    rows: Rows,
) -> Result<u8, Failure> {
    let chosen = Chosen {
        ids: vec![id.to_owned()],
        from: None,
        target: target.map(str::to_owned),
        of: None,
        files: None,
    };
    if rows == Rows::SeenTo
        && let Some(said) = forget_left_over(context, id, target).await?
    {
        outln!("{said}");
        return Ok(0);
    }
    let mut found = asked_for(context, &chosen).await?;
    let (Some((Some(target), archived)), true) = (found.pop(), found.is_empty()) else {
        return Err(Failure::Usage(format!(
            "several archives have an id that begins with `{id}`: give more of it"
        )));
    };
    if rows == Rows::SeenTo {
        return seen_to(context, &target, archived.id()).await;
    }
    let Archived::Rows(manifest) = archived else {
        return Err(Failure::Usage(format!(
            "{} is of a collection, and is settled by the next run of its task",
            archived.id()
        )));
    };
    if manifest.settled() {
        return Err(Failure::Usage(format!(
            "{} is settled: its rows have left {}",
            manifest.id, manifest.table
        )));
    }
    let config = context.config().await?;
    let store = crate::history::open_existing(config.history.expose()).await?;
    let run = store.run(&manifest.run.to_string()).await;
    if run.is_ok_and(|run| run.status == RunStatus::Running) {
        return Err(Failure::Usage(format!(
            "the run {} is at work on it: wait for its end, or end it with `maint cancel`",
            manifest.run
        )));
    }
    let (memories, said) = match rows {
        Rows::Gone => gone(*manifest).await?,
        Rows::Kept | Rows::SeenTo => kept(*manifest).await?,
    };
    store
        .remember(&target, KIND, wall_clock(), &memories)
        .await?;
    store.close().await;
    outln!("{said}");
    Ok(0)
}

/// Has files told no more that could not be removed; what is said of it, where there are such.
async fn forget_left_over(
    context: &Context<'_>,
    id: &str,
    target: Option<&str>,
) -> Result<Option<String>, Failure> {
    let config = context.config().await?;
    let store = crate::history::open_existing(config.history.expose()).await?;
    let mut said = None;
    for name in store.remembered(KIND).await? {
        if target.is_some_and(|target| target != name) {
            continue;
        }
        let memories = store.memories(&name, KIND).await?;
        let left = memories.iter().filter(|(key, value)| {
            let of = key.strip_prefix("left over ");
            of.is_some_and(|of| of.starts_with(id)) && !value.is_null()
        });
        for (key, manifest) in left {
            // What lies there is nobody's concern any more, as an archive of another installation.
            let of_nobody = key.replacen("left over ", "stranger ", 1);
            let forgotten = [
                Memory {
                    key: key.clone(),
                    value: serde_json::Value::Null,
                },
                Memory {
                    key: of_nobody,
                    value: serde_json::json!({ "target": name }),
                },
            ];
            store
                .remember(&name, KIND, wall_clock(), &forgotten)
                .await?;
            let storage = manifest.get("storage").and_then(|url| url.as_str());
            said = Some(format!(
                "seen to: what {} is not told any more",
                key.replace("left over ", "is left of ") + " in " + storage.unwrap_or_default()
            ));
        }
    }
    store.close().await;
    Ok(said)
}

/// Has it told no more that another database has lost rows.
async fn seen_to(context: &Context<'_>, target: &str, id: Uuid) -> Result<u8, Failure> {
    let config = context.config().await?;
    let store = crate::history::open_existing(config.history.expose()).await?;
    let memories = store.memories(target, KIND).await?;
    let mut told = Lost::among(&memories);
    told.retain(|(_, lost)| lost.batches.contains(&id));
    if told.is_empty() {
        return Err(Failure::Usage(format!(
            "no run has told that rows of {id} were lost by the database that they came into"
        )));
    }
    let forgotten: Vec<Memory> = told
        .iter()
        .map(|(key, _)| Memory {
            key: (*key).clone(),
            value: serde_json::Value::Null,
        })
        .collect();
    store
        .remember(target, KIND, wall_clock(), &forgotten)
        .await?;
    store.close().await;
    for (_, lost) in told {
        outln!(
            "seen to: {} batches of {} are not told any more",
            lost.batches.len(),
            shown(&lost.source)
        );
    }
    Ok(0)
}

async fn gone(manifest: Manifest) -> Result<(Vec<Memory>, String), Failure> {
    let manifest = Manifest {
        settled: true,
        // What a person has seen is asked of no server again.
        transaction: String::new(),
        server: None,
        since: None,
        ..manifest
    };
    if manifest.received.is_none() {
        // Beside the files first, so that what the history says of them is never ahead.
        execute::put_beside(&manifest)
            .await
            .map_err(|error| Failure::Other(with_causes(&error)))?;
    }
    let said = format!(
        "settled: {} of {}, in the archive alone",
        counted_rows(manifest.rows, "row"),
        shown(&manifest.table)
    );
    Ok((vec![known(&manifest)], said))
}

async fn kept(manifest: Manifest) -> Result<(Vec<Memory>, String), Failure> {
    let forgotten = |manifest: &Manifest| Memory {
        key: manifest.key(),
        value: serde_json::Value::Null,
    };
    let table = shown(&manifest.table).into_owned();
    if manifest.whole.is_some() {
        let manifest = Manifest {
            transaction: String::new(),
            server: None,
            since: None,
            ..manifest
        };
        let said = format!("settled: {table} is there, and the next run goes on with it");
        return Ok((vec![known(&manifest)], said));
    }
    if let Some(received) = &manifest.received {
        let said = format!(
            "settled: what came into {} on {} is not looked after any more; see to it by hand",
            shown(&received.table),
            received.target
        );
        return Ok((vec![forgotten(&manifest)], said));
    }
    let failed = |error| Failure::Other(with_causes(&error));
    let storage = Storage::open(&manifest.storage).map_err(failed)?;
    let removed = async {
        for file in &manifest.files {
            storage.remove(&file.path).await?;
        }
        storage.remove(&manifest.path()).await
    };
    if let Err(why) = removed.await {
        // Whatever becomes of them: the rows are in the table, and the next run archives them anew.
        let left = Memory {
            key: left_over_as(manifest.id),
            value: serde_json::to_value(&manifest).unwrap_or_default(),
        };
        let said = format!(
            "settled: {} in {table}; their files could not be removed, and runs try it again: {}",
            counted_do(manifest.rows, "row", ("is", "are")),
            with_causes(&why)
        );
        return Ok((vec![left, forgotten(&manifest)], said));
    }
    let said = format!(
        "settled: {} in {table}; their files were removed",
        counted_do(manifest.rows, "row", ("is", "are"))
    );
    Ok((vec![forgotten(&manifest)], said))
}

fn known(manifest: &Manifest) -> Memory {
    Memory {
        key: manifest.key(),
        value: serde_json::to_value(manifest).unwrap_or_default(),
    }
}

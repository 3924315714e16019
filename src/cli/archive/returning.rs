//! What comes back, how, and what is noted of it: nothing comes twice.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::Failure;
use crate::cli::context::Context;
use crate::engines::EngineError;
use crate::engines::storage::{Storage, StorageError};
use crate::execute::{self, Back};
use crate::history::{self, HistoryError, Store};
use crate::pipeline::PipelineError;
use crate::plan::Memory;
use crate::plan::archived::{self, MANIFEST, Manifested};
use crate::values::{wall_clock, with_causes};

/// How it comes back.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) dry_run: bool,
    pub(super) disable_triggers: bool,
    pub(super) again: bool,
    pub(super) former: bool,
    pub(super) unsettled: bool,
}

/// Which databases what comes back may have come from: one may have been dropped and made anew under its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ByDatabase {
    /// Whichever.
    Any,
    /// The one that is there now; what another had is left out.
    Present,
    /// All from the same.
    One,
}

/// Where it comes back to, as written.
#[derive(Clone, Copy)]
pub(super) struct Into<'a> {
    pub(super) name: &'a str,
    pub(super) database: Option<&'a str>,
}

/// A manifest that notes where it was brought back to.
pub(super) trait Returning:
    Manifested + Serialize + DeserializeOwned + Clone + Sync
{
    /// What is noted.
    type Mark: Serialize + DeserializeOwned + Clone + PartialEq + Sync;

    /// Where it was brought back to.
    fn marks(&mut self) -> &mut Vec<Self::Mark>;

    /// Where and when, as shown to people.
    fn went(mark: &Self::Mark) -> String;

    /// Folder or bucket, and the path of the manifest in it.
    fn place(&self) -> (&str, String);

    /// As it lies beside its files, where that can be read.
    async fn read_beside(&self) -> Option<Self> {
        let (storage, path) = self.place();
        let storage = Storage::open(storage).ok()?;
        let content = storage.get(&path, MANIFEST).await.ok()?;
        let beside: Self = serde_json::from_slice(&content).ok()?;
        (beside.id() == self.id()).then_some(beside)
    }

    /// Keeps its marks beside its files, with those that are there.
    ///
    /// # Errors
    /// Those of the storage.
    async fn put_beside(&self) -> Result<(), StorageError> {
        let mut own = self.clone();
        let mut beside = self.read_beside().await.unwrap_or_else(|| self.clone());
        for mark in own.marks() {
            if !beside.marks().contains(mark) {
                beside.marks().push(mark.clone());
            }
        }
        let (storage, path) = self.place();
        let text = serde_json::to_vec_pretty(&beside).unwrap_or_default();
        Storage::open(storage)?.put(&path, text.into()).await
    }
}

/// What was brought back before, and where to.
pub(super) type Before<M> = Vec<(Uuid, <M as Returning>::Mark)>;

/// The ids of what was brought back before.
pub(super) fn ids<M: Returning>(before: &Before<M>) -> Vec<String> {
    before.iter().map(|(id, _)| id.to_string()).collect()
}

/// What a restore notes, and where.
pub(super) struct Notes<'a> {
    store: Option<Arc<dyn Store>>,
    target: &'a str,
    /// The target it came from: under its name it is noted what came back while it had that name.
    from: Option<String>,
}

impl<'a> Notes<'a> {
    /// Those of the target, in the history where that can be opened.
    pub(super) async fn open(
        context: &Context<'_>,
        target: &'a str,
        from: Option<String>,
    ) -> Result<Self, Failure> {
        let config = context.config().await?;
        let store = history::open(config.history.expose()).await.ok();
        Ok(Notes {
            store,
            target,
            from: from.filter(|from| from != target),
        })
    }

    /// Where the runs on the target have worked last.
    pub(super) async fn last_place(&self) -> Result<Option<Value>, HistoryError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let mut known = store.memories(self.target, execute::PLACES).await?;
        Ok(known.remove(execute::LAST_PLACE))
    }

    /// What is noted in the history of these, wherever.
    pub(super) async fn known<M: Returning>(
        &self,
        manifests: &[M],
    ) -> Result<HashMap<Uuid, Vec<M::Mark>>, HistoryError> {
        let mut all: HashMap<Uuid, Vec<M::Mark>> = HashMap::new();
        let Some(store) = &self.store else {
            return Ok(all);
        };
        for name in [Some(self.target), self.from.as_deref()]
            .into_iter()
            .flatten()
        {
            let known = store.memories(name, "archive").await?;
            for manifest in manifests {
                let marks = known.get(&archived::restored_as(manifest.id())).cloned();
                let marks: Option<Vec<M::Mark>> =
                    marks.and_then(|v| serde_json::from_value(v).ok());
                all.entry(manifest.id())
                    .or_default()
                    .extend(marks.unwrap_or_default());
            }
        }
        Ok(all)
    }

    /// Leaves out what is back already: nothing may come twice. What is left, and what was
    /// left out.
    ///
    /// # Errors
    /// Where the history cannot be read, the target not be asked, or nothing is left.
    pub(super) async fn not_back<M: Returning>(
        &self,
        found: Vec<M>,
        again: bool,
        is_back: impl AsyncFn(&M) -> Result<Back<M::Mark>, EngineError>,
    ) -> Result<(Vec<M>, Before<M>), Failure> {
        let mut known = self.known(&found).await?;
        let (mut manifests, mut before) = (Vec::new(), Vec::new());
        for mut manifest in found {
            let marks = known.remove(&manifest.id());
            manifest.marks().extend(marks.unwrap_or_default());
            match is_back(&manifest).await.map_err(PipelineError::from)? {
                Back::Yes(mark) if !again => before.push((manifest.id(), mark)),
                Back::Perhaps(why) if !again => {
                    return Err(Failure::Usage(format!(
                        "{} may be back already: {why}\n  hint: look into that table; `--again`, with ids, brings it all the same",
                        manifest.id()
                    )));
                }
                _ => manifests.push(manifest),
            }
        }
        if manifests.is_empty() {
            let went = before.first().map(|(_, mark)| M::went(mark));
            return Err(Failure::Usage(format!(
                "{} is back already: {} went back {}\n  hint: `--again` brings it back once more",
                if before.len() == 1 { "it" } else { "all of it" },
                before
                    .first()
                    .map_or_else(String::new, |(id, _)| id.to_string()),
                went.unwrap_or_default()
            )));
        }
        Ok((manifests, before))
    }

    /// What is noted of a manifest now, in the history.
    ///
    /// # Errors
    /// Where the history cannot be read.
    pub(super) async fn marks_now<M: Returning>(
        &self,
        manifest: &M,
    ) -> Result<Vec<M::Mark>, EngineError> {
        let known = self.known(std::slice::from_ref(manifest)).await;
        let mut known = known.map_err(|error| EngineError::Files {
            message: format!(
                "whether it is back already is not known: {}",
                with_causes(&error)
            ),
        })?;
        Ok(known.remove(&manifest.id()).unwrap_or_default())
    }

    /// Writes down that these come back, each with its mark: in the history, and beside the files for when
    /// there is none any more. One of the two has to take it.
    ///
    /// # Errors
    /// Where neither does.
    pub(super) async fn mark<M: Returning>(
        &self,
        manifests: &[M],
        marks: &[M::Mark],
    ) -> Result<(), EngineError> {
        for (manifest, mark) in manifests.iter().zip(marks) {
            let mut marked = manifest.clone();
            marked.marks().push(mark.clone());
            let mut is_noted = false;
            if let Some(store) = &self.store {
                let memory = [Memory {
                    key: archived::restored_as(manifest.id()),
                    value: serde_json::to_value(marked.marks()).unwrap_or_default(),
                }];
                let noted = store.remember(self.target, "archive", wall_clock(), &memory);
                is_noted = noted.await.is_ok();
            }
            let Err(error) = marked.put_beside().await else {
                continue;
            };
            let (id, error) = (manifest.id(), with_causes(&error));
            if !is_noted {
                return Err(EngineError::Files {
                    message: format!(
                        "that {id} comes back could not be written down, and it could come twice: {error}"
                    ),
                });
            }
            tracing::warn!(
                archive = %id,
                error,
                "that it comes back is in the history, and could not be written beside its files: without the history, nobody would know"
            );
        }
        Ok(())
    }
}

/// What would keep all of it from coming back: files that are not there, or not as large as they were written.
/// What is in them is read by the restore itself, and by `verify`.
pub(super) async fn missing<M: Returning>(manifests: &[M]) -> Vec<String> {
    let mut found = Vec::new();
    for manifest in manifests {
        let storage = match Storage::open(manifest.place().0) {
            Ok(storage) => storage,
            Err(error) => {
                found.push(with_causes(&error));
                continue;
            }
        };
        for file in manifest.files() {
            if let Err(error) = storage.look(&file.path, file.size()).await {
                found.push(with_causes(&error));
            }
        }
    }
    found
}

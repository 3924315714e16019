//! Manifests that lie beside the files of a place.

use std::collections::BTreeSet;

use super::super::archived::Archived;
use super::Everything;
use crate::cli::Failure;
use crate::engines::storage::{Storage, StorageError};
use crate::plan::archived::{MANIFEST, is_at};
use crate::values::with_causes;

/// What lies beside the files of a place, oldest first. One manifest that cannot be read keeps nobody
/// from the others: whoever can write to the place may have put it there.
pub(super) async fn beside(url: &str) -> Result<Everything, Failure> {
    let storage = Storage::open(url).map_err(|e| Failure::Usage(with_causes(&e)))?;
    let failed = |error: StorageError| Failure::Other(with_causes(&error));
    let all: BTreeSet<String> = storage
        .list("")
        .await
        .map_err(failed)?
        .into_iter()
        .collect();
    let (mut known, mut unread) = (Vec::new(), Vec::new());
    for path in all.iter().filter(|path| is_at(path)) {
        let content = match storage.get(path, MANIFEST).await {
            Ok(content) => content,
            Err(error) if error.is_about_the_file() => {
                unread.push(with_causes(&error));
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        match lying_at(path, &content, &all, url) {
            Ok(archived) => known.push(archived.beside(url)),
            Err(why) => unread.push(format!("{}: {why}", storage.full(path))),
        }
    }
    match (known.is_empty(), unread.is_empty()) {
        (true, true) => {
            let hint = match above(url) {
                Some(root) => format!(
                    "they lie at the top of the folder of a table or collection, and are found from the folder above it: --files {root}"
                ),
                None => "they lie in folders `table=…` and `collection=…` as `_ID.manifest.json`"
                    .to_owned(),
            };
            return Err(Failure::Usage(format!(
                "there are no manifests below {url}\n  hint: {hint}"
            )));
        }
        (true, false) => return Err(Failure::Usage(unread.swap_remove(0))),
        (false, _) => {}
    }
    known.sort_by_key(|(_, archived)| archived.id());
    known.dedup_by_key(|(_, archived)| archived.id());
    Ok(Everything { known, unread })
}

/// The manifest with this content at this path, one of `all` below the place.
fn lying_at(
    path: &str,
    content: &[u8],
    all: &BTreeSet<String>,
    url: &str,
) -> Result<Archived, String> {
    let value: serde_json::Value = serde_json::from_slice(content)
        .map_err(|error| format!("is no manifest that this version can read: {error}"))?;
    let archived = Archived::read(value)?;
    if !path.ends_with(&format!("_{}.manifest.json", archived.id())) {
        return Err(format!(
            "`id` is {}, and its name says another",
            archived.id()
        ));
    }
    let files = archived.files();
    if !files.is_empty()
        && !files.iter().any(|file| all.contains(&file.path))
        && let Some(root) = root(url, path, &archived.path())
    {
        return Err(format!(
            "the files that it names begin with a folder `{}` below {url}, where none of them is\n  hint: their place is another folder: --files {root}",
            archived.path().split('/').next().unwrap_or_default()
        ));
    }
    Ok(archived)
}

/// The folder that paths begin at, where a manifest that was found at this path below this folder is
/// at another one: the folder is too deep then, or not deep enough.
fn root(url: &str, found: &str, path: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let ends = |whole: &str, end: &str| {
        let rest = whole.strip_suffix(end)?.strip_suffix('/')?;
        (!rest.is_empty()).then(|| rest.to_owned())
    };
    if let Some(below) = ends(found, path) {
        return Some(format!("{url}/{below}"));
    }
    let place = ends(url, &ends(path, found)?)?;
    let is_one = |(_, folder): (&str, &str)| !folder.is_empty() && folder != "/";
    place.split_once("://").is_some_and(is_one).then_some(place)
}

/// The folder above the one of a table or collection that a place is in.
fn above(url: &str) -> Option<String> {
    let is_of_a_table = |folder: &str| {
        folder
            .split_once('=')
            .is_some_and(|(key, _)| ["table", "collection"].contains(&key.trim_end_matches('_')))
    };
    let (scheme, path) = url.split_once("://")?;
    let folders: Vec<&str> = path.split('/').collect();
    let at = folders.iter().position(|folder| is_of_a_table(folder))?;
    Some(format!("{scheme}://{}", folders.get(..at)?.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_that_is_meant_is_found() {
        let path = "table=public.t/_1.manifest.json";
        for (url, found, meant) in [
            ("file:///a/b", path, None),
            (
                "file:///a/b/table=public.t/",
                "_1.manifest.json",
                Some("file:///a/b"),
            ),
            (
                "file:///a",
                "b/c/table=public.t/_1.manifest.json",
                Some("file:///a/b/c"),
            ),
            ("file:///a/other", "_1.manifest.json", None),
            ("s3://table=public.t", "_1.manifest.json", None),
        ] {
            let root = root(url, found, path);
            assert_eq!(root.as_deref(), meant, "{url} {found}");
        }
        for (url, meant) in [
            ("s3://b/a/table_=public.t/year=2020", Some("s3://b/a")),
            ("file:///a/collection=d.c", Some("file:///a")),
            ("file:///a/year=2020", None),
            ("/a/table=t", None),
        ] {
            assert_eq!(above(url).as_deref(), meant, "{url}");
        }
    }
}

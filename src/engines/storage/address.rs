//! Addresses of places for files.

use std::path::{Component, Path};

use super::StorageError;
use crate::values::redact;

/// What an address of files names.
pub(super) enum Named<'a> {
    Folder(&'a str),
    /// A bucket, and what the names of files begin with there.
    Bucket(&'a str, &'a str),
}

pub(super) fn place_of(url: &str) -> Result<Named<'_>, &'static str> {
    if let Some(folder) = url.strip_prefix("file://") {
        if !folder.starts_with('/') {
            return Err("the path is not absolute");
        }
        let mut parts = Path::new(folder).components();
        if !parts.any(|part| matches!(part, Component::Normal(_))) {
            return Err("it is the root of all folders, and names none in it");
        }
        return Ok(Named::Folder(folder));
    }
    if url.starts_with('/') {
        return Err("it is a path; write `file://` before it");
    }
    let rest = url.strip_prefix("s3://").ok_or("its scheme is unknown")?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("it names no bucket");
    }
    Ok(Named::Bucket(bucket, prefix))
}

/// Why nothing can be stored at an address, as far as the address alone tells.
///
/// # Errors
/// When it names no folder and no bucket.
pub fn check_address(url: &str) -> Result<(), StorageError> {
    let wrong = |why: &str| StorageError::Address {
        url: redact(url),
        why: why.to_owned(),
    };
    let path = match place_of(url).map_err(wrong)? {
        Named::Folder(folder) => folder,
        Named::Bucket(bucket, _) if bucket.contains(['@', ':']) => {
            return Err(wrong(
                "it has a name or a password in it, or an endpoint; the environment has them: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`",
            ));
        }
        Named::Bucket(bucket, _) if bucket.contains(['?', '#']) => {
            return Err(wrong("no bucket has `?` or `#` in its name"));
        }
        Named::Bucket(_, prefix) if prefix.contains(['?', '#']) => {
            return Err(wrong(
                "nothing is set in it: the environment says of which store and region the bucket is",
            ));
        }
        Named::Bucket(_, prefix) => prefix,
    };
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(wrong("`.` and `..` in it name another place"));
    }
    Ok(())
}

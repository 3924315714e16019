//! Files on local disk or in an S3-compatible store: whole files only,
//! complete and durable once written.

mod address;
mod disk;
mod error;
mod listing;
mod ports;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};

pub use self::address::check_address;
use self::address::{Named, place_of};
use self::disk::{may_make, on_disk, part, write};
use self::error::is_no_file;
pub use self::error::{Refusal, StorageError};
pub use self::ports::ports;

/// How large a file may be that is read, in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// As it was written.
    Exactly(u64),
    /// Not larger than anything written.
    UpTo(u64),
}

impl Size {
    fn fits(self, found: u64) -> Result<(), String> {
        match self {
            Size::Exactly(size) if found != size => Err(format!(
                "it has {found} bytes, not {size} as written, and so another SHA-256"
            )),
            Size::UpTo(most) if found > most => Err(format!(
                "it has {found} bytes, more than the {most} that are read"
            )),
            _ => Ok(()),
        }
    }
}

/// Which content a file has: where the stamp is another, it may be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(String);

/// A folder, or part of a bucket.
pub struct Storage {
    url: String,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Bucket(Arc<dyn ObjectStore>, String),
}

impl Stamp {
    /// Whoever writes to a file changes one of these, whatever else they set.
    fn of_disk(about: &std::fs::Metadata) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        Stamp(format!(
            "{} {}:{} {}.{} {}.{}",
            about.size(),
            about.dev(),
            about.ino(),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec()
        ))
    }
}

impl Storage {
    /// Opens a place by its address. Credentials for S3 come from the
    /// environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub fn open(url: &str) -> Result<Storage, StorageError> {
        let wrong = |why: &str| StorageError::Address {
            url: url.to_owned(),
            why: why.to_owned(),
        };
        let place = match place_of(url).map_err(wrong)? {
            Named::Folder(folder) => Place::Folder(PathBuf::from(folder)),
            Named::Bucket(bucket, prefix) => {
                // A second call finds it installed already.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let retry = RetryConfig {
                    max_retries: 4,
                    retry_timeout: std::time::Duration::from_secs(60),
                    ..RetryConfig::default()
                };
                let store = AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_retry(retry)
                    .with_client_options(options())
                    .build()
                    .map_err(|source| StorageError::Address {
                        url: url.to_owned(),
                        why: source.to_string(),
                    })?;
                Place::Bucket(Arc::new(store), prefix.trim_matches('/').to_owned())
            }
        };
        Ok(Storage {
            url: url.trim_end_matches('/').to_owned(),
            place,
        })
    }

    /// Whether it is a folder of this machine.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// Writes a small file, reads it back, and removes it. `false`: the folder is not there yet, is not
    /// made for that, and could be.
    ///
    /// # Errors
    /// When one of the three is refused, what is read is not what was written, or no such folder could
    /// be made.
    pub async fn try_out(&self) -> Result<bool, StorageError> {
        if let Place::Folder(folder) = &self.place
            && !folder.exists()
        {
            let above = folder.ancestors().skip(1).find(|above| above.exists());
            let above = above.unwrap_or(Path::new("/")).to_owned();
            let path = above.display().to_string();
            return on_disk(path, "written", move || may_make(&above))
                .await
                .map(|()| false);
        }
        let path = format!(".maint-tried-{}", uuid::Uuid::now_v7());
        let content = Bytes::from_static(b"written, read and removed by maint\n");
        self.put(&path, content.clone()).await?;
        let size = Size::Exactly(content.len() as u64);
        let read = self.get(&path, size).await;
        self.remove(&path).await?;
        match read? == content {
            true => Ok(true),
            false => Err(StorageError::Odd {
                path: self.full(&path),
                why: "it is not what was written to it just now".to_owned(),
            }),
        }
    }

    /// Writes a file. It is there as a whole, and on disk, or not at all.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn put(&self, path: &str, content: Bytes) -> Result<(), StorageError> {
        match &self.place {
            Place::Folder(folder) => {
                let file = folder.join(path);
                on_disk(self.full(path), "written", move || write(&file, &content)).await
            }
            Place::Bucket(store, prefix) => store
                .put(&key(prefix, path), content.into())
                .await
                .map(drop)
                .map_err(self.refused(path, "written")),
        }
    }

    /// Reads a file that is as large as said. Nothing is read of one that is
    /// not, that is no plain file, or that lies outside of the folder.
    ///
    /// # Errors
    /// When it could not be read.
    pub async fn get(&self, path: &str, size: Size) -> Result<Bytes, StorageError> {
        let odd = |why: String| StorageError::Odd {
            path: self.full(path),
            why,
        };
        match &self.place {
            Place::Folder(folder) => {
                let (folder, file) = (folder.clone(), folder.join(path));
                let read = move || {
                    let mut open = match disk::within(&folder, &file)? {
                        Ok(open) => open,
                        Err(why) => return Ok(Err(why)),
                    };
                    let now = open.metadata()?.len();
                    if let Err(why) = size.fits(now) {
                        return Ok(Err(why));
                    }
                    let mut content = Vec::with_capacity(usize::try_from(now).unwrap_or(0));
                    open.by_ref().take(now).read_to_end(&mut content)?;
                    Ok(Ok(Bytes::from(content)))
                };
                on_disk(self.full(path), "read", read).await?.map_err(odd)
            }
            Place::Bucket(store, prefix) => {
                let answer = store.get(&key(prefix, path)).await;
                let answer = answer.map_err(self.refused(path, "read"))?;
                size.fits(answer.meta.size).map_err(odd)?;
                answer.bytes().await.map_err(self.refused(path, "read"))
            }
        }
    }

    /// Looks whether there is a file as large as said, without reading it.
    ///
    /// # Errors
    /// When [`Storage::get`] could not read it.
    pub async fn look(&self, path: &str, size: Size) -> Result<(), StorageError> {
        let found = match &self.place {
            Place::Folder(folder) => {
                let (folder, file) = (folder.clone(), folder.join(path));
                let look = move || match disk::within(&folder, &file)? {
                    Ok(open) => Ok(Ok(open.metadata()?.len())),
                    Err(why) => Ok(Err(why)),
                };
                on_disk(self.full(path), "read", look).await?
            }
            Place::Bucket(store, prefix) => {
                let answer = store.head(&key(prefix, path)).await;
                Ok(answer.map_err(self.refused(path, "read"))?.size)
            }
        };
        let fits = found.and_then(|found| size.fits(found));
        fits.map_err(|why| StorageError::Odd {
            path: self.full(path),
            why,
        })
    }

    /// The stamp of a file, without reading it; none where there is no file, or
    /// where the store gives its files no tags.
    ///
    /// # Errors
    /// When the place could not be asked.
    pub async fn stamp(&self, path: &str) -> Result<Option<Stamp>, StorageError> {
        match &self.place {
            Place::Folder(folder) => {
                let file = folder.join(path);
                on_disk(self.full(path), "read", move || match file.metadata() {
                    Ok(about) => Ok(Some(Stamp::of_disk(&about))),
                    Err(e) if is_no_file(&e) => Ok(None),
                    Err(e) => Err(e),
                })
                .await
            }
            Place::Bucket(store, prefix) => match store.head(&key(prefix, path)).await {
                Ok(meta) => Ok(meta.e_tag.map(|tag| Stamp(format!("{} {tag}", meta.size)))),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(source) => Err(self.refused(path, "read")(source)),
            },
        }
    }

    /// Removes a file, and what a write that broke off left of it. One that
    /// is not there is no error.
    ///
    /// # Errors
    /// When it could not be removed.
    pub async fn remove(&self, path: &str) -> Result<(), StorageError> {
        match &self.place {
            Place::Folder(folder) => {
                let file = folder.join(path);
                on_disk(self.full(path), "removed", move || {
                    for file in [part(&file), file] {
                        match std::fs::remove_file(file) {
                            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                            _ => {}
                        }
                    }
                    Ok(())
                })
                .await
            }
            Place::Bucket(store, prefix) => match store.delete(&key(prefix, path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(source) => Err(self.refused(path, "removed")(source)),
            },
        }
    }

    /// The address of a file.
    pub fn full(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    fn refused(
        &self,
        path: &str,
        doing: &'static str,
    ) -> impl FnOnce(object_store::Error) -> StorageError + use<> {
        let path = self.full(path);
        move |source| StorageError::Store {
            path,
            doing,
            source: Refusal::of(&source),
        }
    }
}

fn options() -> ClientOptions {
    let plain = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|v| v == "true" || v == "1");
    ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout(std::time::Duration::from_secs(60))
}

fn key(prefix: &str, path: &str) -> Key {
    let whole = if prefix.is_empty() {
        path.to_owned()
    } else {
        format!("{prefix}/{path}")
    };
    // Names were made safe before; this must not encode them once more.
    Key::parse(&whole).unwrap_or_else(|_| Key::from(whole))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let of = |path: &Path| Storage::open(&format!("file://{}", path.display())).unwrap();
        assert!(of(folder.path()).try_out().await.unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let gone = folder.path().join("not/yet");
        assert!(!of(&gone).try_out().await.unwrap());
        assert!(!gone.exists());
        // What is no folder takes no file.
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(of(&file).try_out().await.is_err());
    }
}

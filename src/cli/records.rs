//! Whether the place where runs are recorded can be read and written.

use crate::config::Config;
use crate::history::{HistoryError, Place, RunFilter};
use crate::values::{redact, with_causes};

/// What was found at one place.
pub(super) struct Found {
    pub(super) place: String,
    /// Exit code: 0 where it can be used.
    pub(super) code: u8,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Found {
    pub(super) fn good(place: String, text: String) -> Found {
        Found {
            place,
            code: 0,
            text,
            hint: None,
        }
    }
}

/// Whether the history can be read, and the next run can write its records.
pub(super) async fn look(config: &Config) -> Found {
    let place = "history".to_owned();
    let url = config.history.expose();
    match crate::history::open_existing(url).await {
        Ok(store) => {
            let newest = RunFilter {
                limit: Some(1),
                ..RunFilter::default()
            };
            let text = match store.runs(&newest).await {
                Ok(runs) => match runs.first() {
                    Some(run) => format!(
                        "{}, the newest run began {}",
                        where_it_is(url),
                        run.started_at
                            .with_timezone(&config.timezone)
                            .format("%Y-%m-%d %H:%M %Z")
                    ),
                    None => format!("{}, nothing has run yet", where_it_is(url)),
                },
                Err(error) => return bad(place, &error),
            };
            store.close().await;
            match crate::history::could_be_written(url).await {
                Ok(()) => Found::good(place, text),
                Err(error) => bad(place, &error),
            }
        }
        Err(HistoryError::Missing {
            place: Place::Server(server),
        }) => match crate::history::could_be_written(url).await {
            Ok(()) => Found::good(
                place,
                format!("there is none at {server} yet; the first run makes its schema `maint`"),
            ),
            Err(error) => bad(place, &error),
        },
        Err(HistoryError::Missing {
            place: Place::File(path),
        }) if writable(&path) => Found::good(
            place,
            format!(
                "{} is not there yet; the first run makes it",
                path.display()
            ),
        ),
        Err(HistoryError::Missing {
            place: Place::File(path),
        }) => Found {
            place,
            code: 3,
            text: format!(
                "{} is not there, and its folder cannot be written",
                path.display()
            ),
            hint: Some(
                "`history:` names the file; its folder must exist and be writable".to_owned(),
            ),
        },
        Err(error) => bad(place, &error),
    }
}

fn bad(place: String, error: &HistoryError) -> Found {
    Found {
        place,
        code: 3,
        text: redact(&with_causes(error)),
        hint: error.hint(),
    }
}

/// The file, or the kind of server; the rest of a URL is nobody's business here.
fn where_it_is(url: &str) -> String {
    match url.strip_prefix("sqlite:") {
        Some(file) => file.to_owned(),
        None => "in PostgreSQL".to_owned(),
    }
}

fn writable(file: &std::path::Path) -> bool {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => std::path::Path::new("."),
    };
    nix::unistd::access(
        folder,
        nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK,
    )
    .is_ok()
}

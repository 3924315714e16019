//! How much is free on the disk of a server, where that can be known: PostgreSQL does not say.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Row, Session};
use crate::engines::EngineError;

/// What is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    /// How many bytes, on the fullest of the disks that the server writes to.
    pub bytes: u64,
    /// Where, for people.
    pub place: String,
}

/// Where the server keeps its data, as it says itself. The setting is hidden from ordinary roles; the
/// view of all settings would say as much, and takes longer than all the rest.
const PLACES: &str =
    "SELECT pg_catalog.host(pg_catalog.inet_client_addr()) AS address, pg_catalog.inet_client_port()::int8 AS port,
        CASE WHEN pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')
            THEN pg_catalog.current_setting('data_directory') END AS data,
        ARRAY(SELECT pg_catalog.pg_tablespace_location(t.oid) FROM pg_catalog.pg_tablespace t
            WHERE pg_catalog.pg_tablespace_location(t.oid) <> '') AS tablespaces";

/// How much is free on the disks of the server, where it runs on this machine; otherwise why that
/// is not known.
///
/// # Errors
/// When the server reports one, or the connection is gone.
pub async fn free(db: &Session) -> Result<Result<Free, String>, EngineError> {
    let doing = "asking where the server keeps its data";
    let rows = db.query(doing, PLACES, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(Err("the server does not say where its data is".to_owned()));
    };
    match here(db, row)? {
        Err(why) => Ok(Err(why)),
        Ok((root, places)) => Ok(least(&root, &places)),
    }
}

/// The root folder of the server's process, and the folders that it writes to, where it is a
/// process of this machine. An address of this machine proves nothing: a tunnel may be behind it.
fn here(db: &Session, row: &Row) -> Result<Result<(PathBuf, Vec<PathBuf>), String>, EngineError> {
    let address: Option<String> = row.named("address")?;
    let port: Option<i64> = row.named("port")?;
    let data: Option<String> = row.named("data")?;
    let tablespaces: Vec<String> = row.named("tablespaces")?;
    let loopback = |address: &str| address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if address.as_deref().is_some_and(|address| !loopback(address)) {
        return Ok(Err("the server is on another machine".to_owned()));
    }
    let Some(data) = data else {
        let role = super::Identifier::new(&*db.server.role);
        return Ok(Err(format!(
            "the role may not see where the server keeps its data: GRANT pg_read_all_settings TO {role}"
        )));
    };
    let process = PathBuf::from(format!("/proc/{}", db.pid));
    let title = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let title = String::from_utf8_lossy(&title);
    let whose = format!(" {} {} ", db.server.session_role, db.server.database);
    let end = port.map_or_else(|| "[local]".to_owned(), |port| format!("({port})"));
    // Its own words about this very connection.
    if !(title.starts_with("postgres: ") && title.contains(&whose) && title.contains(&end)) {
        return Ok(Err(
            "the server is no process of this machine that can be seen".to_owned(),
        ));
    }
    let mut places = vec![PathBuf::from(&data), Path::new(&data).join("pg_wal")];
    places.extend(tablespaces.iter().map(PathBuf::from));
    let root = process.join("root");
    if std::fs::read_dir(&root).is_ok() {
        return Ok(Ok((root, places)));
    }
    // Whose root it is, only its user and root may see. Then the folder has to be its own.
    let owner = |path: &Path| std::fs::metadata(path).map(|found| found.uid()).ok();
    let (server, folder) = (owner(&process), owner(Path::new(&data)));
    if server.is_some() && server == folder {
        return Ok(Ok((PathBuf::from("/"), places)));
    }
    Ok(Err(format!("{data} is not a folder of the server's here")))
}

/// The least that is free in any of them. What is inside of a folder that only the server may enter
/// is taken to be on the same disk.
fn least(root: &Path, places: &[PathBuf]) -> Result<Free, String> {
    let mut least: Option<Free> = None;
    for place in places {
        let seen = root.join(place.strip_prefix("/").unwrap_or(place));
        let Ok(found) = nix::sys::statvfs::statvfs(&seen) else {
            continue;
        };
        #[allow(
            clippy::useless_conversion,
            reason = "other systems count blocks with fewer bits"
        )]
        let bytes = u64::from(found.blocks_available()).saturating_mul(found.fragment_size());
        if least.as_ref().is_none_or(|least| bytes < least.bytes) {
            least = Some(Free {
                bytes,
                place: place.display().to_string(),
            });
        }
    }
    least.ok_or_else(|| "the folders of the server cannot be looked at from here".to_owned())
}

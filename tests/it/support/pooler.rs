//! A real PgBouncer in front of a test database.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::Config;

use super::servers::TestDatabase;

/// Stopped when it goes out of scope.
pub(crate) struct Pooler {
    process: Child,
    pub(crate) url: String,
    _folder: TempDir,
}

impl Pooler {
    pub(crate) fn start(db: &TestDatabase, mode: &str) -> Pooler {
        Pooler::sized(db, mode, 5, 120)
    }

    /// With so many connections, and so many seconds for which it lets wait for one.
    pub(crate) fn sized(db: &TestDatabase, mode: &str, size: u32, waits: u32) -> Pooler {
        let server: Config = db.url.parse().unwrap();
        let password = String::from_utf8(server.get_password().unwrap().to_vec()).unwrap();
        let tokio_postgres::config::Host::Tcp(host) = &server.get_hosts()[0] else {
            panic!("the test servers listen on TCP");
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(
            &config,
            format!(
                "[databases]\napp = host={host} port={} dbname={} user={} password='{password}'\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\nquery_wait_timeout = {waits}\n",
                server.get_ports()[0],
                db.name,
                server.get_user().unwrap(),
            ),
        )
        .unwrap();
        let mut command = Command::new("pgbouncer");
        if nix::unistd::geteuid().is_root() {
            // It refuses to run as root.
            std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).unwrap();
            std::os::unix::fs::chown(&config, Some(65534), Some(65534)).unwrap();
            command.uid(65534).gid(65534);
        }
        let process = command
            .arg(&config)
            .env("PATH", "/usr/sbin:/usr/bin:/bin")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer is installed: ./scripts/packages does that");
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "pgbouncer did not start"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Pooler {
            process,
            url: format!("postgres://somebody@127.0.0.1:{port}/app?sslmode=disable"),
            _folder: folder,
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

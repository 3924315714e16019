//! A PostgreSQL server of one's own that leaves nothing behind.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::setup::{ClusterOptions, Owner, configure, init, last_lines, random_password};
use super::{Binaries, DemoError, watcher};

/// How long a server may take until it answers. It needs a tenth of a
/// second on an idle machine; this is for a laptop that is swapping.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a start is tried when somebody else took the free port between
/// finding it and listening on it.
const PORT_ATTEMPTS: u32 = 5;

/// The longest path of a unix socket on Linux, without its final zero byte.
const SOCKET_PATH_LIMIT: usize = 107;

/// Ends the server and removes its folder as soon as its standard input
/// closes, which the system does for us however this process ends: return,
/// panic, `exit`, or `kill -9`. A shell is enough, and unlike
/// `PR_SET_PDEATHSIG` it does not mistake the end of the thread that started
/// the server for the end of the process.
const WATCHER: &str = r#"
cat >/dev/null
if pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && [ -n "$pid" ]; then
  kill -QUIT "$pid" 2>/dev/null
  tries=0
  while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
fi
rm -rf -- "$1"
"#;

/// A running PostgreSQL server on 127.0.0.1 that is stopped and removed when
/// this value is dropped, and also when this process dies without dropping it.
#[derive(Debug)]
pub struct Cluster {
    folder: Option<TempDir>,
    data: PathBuf,
    socket_dir: Option<PathBuf>,
    port: u16,
    password: String,
    server: Child,
    watcher: Child,
    stopped: bool,
}

impl Cluster {
    /// Creates and starts a cluster; returns when it accepts connections.
    ///
    /// Blocks for about a second: call it from a blocking task where other
    /// work must go on meanwhile. As root, which PostgreSQL refuses, all of
    /// it runs as `postgres` or, where there is no such user, as `nobody`.
    pub fn start(binaries: &Binaries, options: ClusterOptions) -> Result<Self, DemoError> {
        let owner = Owner::of_server()?;
        let parent = options.parent.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new()
            .prefix("maint-demo-")
            .tempdir_in(&parent)
            .map_err(DemoError::file("create a folder in", &parent))?;
        owner.hand_over(folder.path())?;
        let data = folder.path().join("data");
        let password = random_password()?;

        init(binaries, &owner, folder.path(), &data, &password)?;
        let socket_dir = Some(folder.path().to_owned()).filter(|dir| {
            dir.as_os_str().len() + "/.s.PGSQL.65535.lock".len() <= SOCKET_PATH_LIMIT
        });
        configure(&owner, &data, socket_dir.as_deref(), &options)?;

        let log = folder.path().join("log");
        let mut attempt = 1;
        let (server, watcher, port) = loop {
            let port = free_port().map_err(DemoError::file("find a free port for", &data))?;
            match launch(binaries, &owner, folder.path(), &data, &log, port) {
                Ok((server, watcher)) => break (server, watcher, port),
                Err(DemoError::Start { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            folder: Some(folder),
            data,
            socket_dir,
            port,
            password,
            server,
            watcher,
            stopped: false,
        })
    }

    /// A connection URL for one of its databases, as the superuser.
    pub fn url(&self, database: &str) -> String {
        let Self { password, port, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password; the superuser is `postgres`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The folder of its unix socket; none where the path would be longer
    /// than the system allows.
    pub fn socket_dir(&self) -> Option<&Path> {
        self.socket_dir.as_deref()
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.data.with_file_name("log")
    }

    /// Stops the server, at first with its sessions disconnected in order
    /// and then by force, and removes its folder.
    pub fn stop(mut self) -> Result<(), DemoError> {
        self.shut_down()
    }

    /// Leaves the server running and its folder in place when this process
    /// ends; returns that folder.
    pub fn detach(mut self) -> PathBuf {
        // The watcher must be gone before its input closes.
        end_child(&mut self.watcher);
        self.stopped = true;
        match self.folder.take() {
            Some(folder) => folder.keep(),
            None => self.data.clone(),
        }
    }

    fn shut_down(&mut self) -> Result<(), DemoError> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        let stopped = stop_server(&mut self.server);
        drop(self.folder.take());
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
        stopped
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.shut_down();
    }
}

fn launch(
    binaries: &Binaries,
    owner: &Owner,
    folder: &Path,
    data: &Path,
    log: &Path,
    port: u16,
) -> Result<(Child, Child), DemoError> {
    let open_log = || File::create(log).map_err(DemoError::file("write", log));
    let log_file = open_log()?;
    owner.hand_over(log)?;
    let errors = log_file
        .try_clone()
        .map_err(DemoError::file("write", log))?;
    // The watcher comes first: there is no moment at which a server could be orphaned.
    let mut watcher = watcher::spawn(WATCHER, folder)?;
    let program = binaries.program("postgres");
    let started = owner
        .command(&program, folder)
        .arg("-D")
        .arg(data)
        .args(["-p", &port.to_string()])
        .stdout(log_file)
        .stderr(errors)
        .spawn()
        .map_err(|source| DemoError::Spawn { program, source })
        .and_then(
            |mut server| match wait_until_ready(&mut server, data, log) {
                Ok(()) => Ok(server),
                Err(error) => {
                    end_child(&mut server);
                    Err(error)
                }
            },
        );
    match started {
        Ok(server) => Ok((server, watcher)),
        Err(error) => {
            // Killed rather than closed: the folder is still needed for another try.
            end_child(&mut watcher);
            Err(error)
        }
    }
}

/// Waits as `pg_ctl` does: the eighth line of `postmaster.pid` says `ready`.
fn wait_until_ready(server: &mut Child, data: &Path, log: &Path) -> Result<(), DemoError> {
    let failed = |what: String| DemoError::Start {
        what,
        log: last_lines(&fs::read_to_string(log).unwrap_or_default()),
    };
    let began = Instant::now();
    while began.elapsed() < START_TIMEOUT {
        if let Ok(Some(status)) = server.try_wait() {
            return Err(failed(format!("ended while it was starting ({status})")));
        }
        let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if pid_file
            .lines()
            .nth(7)
            .is_some_and(|status| status.trim() == "ready")
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(failed(format!(
        "did not answer within {} seconds",
        START_TIMEOUT.as_secs()
    )))
}

/// `SIGINT` is the server's fast shutdown, `SIGQUIT` its immediate one.
fn stop_server(server: &mut Child) -> Result<(), DemoError> {
    let requests = [
        (Signal::SIGINT, Duration::from_secs(10)),
        (Signal::SIGQUIT, Duration::from_secs(5)),
        (Signal::SIGKILL, Duration::from_secs(5)),
    ];
    for (signal, patience) in requests {
        // A child that was not waited for keeps its process id, so this cannot hit a stranger.
        if ended(server).is_some() {
            return Ok(());
        }
        let _ = kill(Pid::from_raw(server.id().cast_signed()), signal);
        let asked = Instant::now();
        while asked.elapsed() < patience {
            if ended(server).is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Err(DemoError::Stop { pid: server.id() })
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    child.try_wait().ok().flatten()
}

fn end_child(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

pub(super) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

//! A MongoDB server of one's own that leaves nothing behind.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::super::DemoError;
use super::super::cluster::free_port;
use super::super::setup::{last_lines, random_password};
use super::super::watcher;

/// How long a server may take until it answers, and until it is primary.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const OLDEST: (u32, u32) = (4, 4);

/// Ends the server and removes its folder as soon as its standard input
/// closes, however this process ends.
const WATCHER: &str = r#"
cat >/dev/null
if pid=$(head -n 1 "$1/data/mongod.lock" 2>/dev/null) && [ -n "$pid" ]; then
  kill -KILL "$pid" 2>/dev/null
  tries=0
  while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
  done
fi
rm -rf -- "$1"
"#;

/// A server program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mongod {
    program: PathBuf,
}

/// What came of looking for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This one.
    Program(Mongod),
    /// None, and why.
    None(String),
}

impl Mongod {
    /// The program that `MAINT_MONGOD` names, else one on the `PATH`;
    /// `MAINT_MONGOD=none` wants none.
    ///
    /// # Errors
    /// When `MAINT_MONGOD` names something else: whoever set it wanted that one.
    pub fn find() -> Result<Found, DemoError> {
        let named = std::env::var_os("MAINT_MONGOD").filter(|named| !named.is_empty());
        if let Some(named) = named {
            if named == "none" {
                return Ok(Found::None("MAINT_MONGOD is `none`".to_owned()));
            }
            let program = PathBuf::from(named);
            return Mongod::at(&program)
                .map(Found::Program)
                .map_err(|reason| DemoError::BadMongod { program, reason });
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut why = "no `mongod` is on the PATH".to_owned();
        for folder in std::env::split_paths(&path) {
            let program = folder.join("mongod");
            if !program.is_file() {
                continue;
            }
            match Mongod::at(&program) {
                Ok(found) => return Ok(Found::Program(found)),
                Err(reason) => why = format!("{}: {reason}", program.display()),
            }
        }
        Ok(Found::None(why))
    }

    fn at(program: &Path) -> Result<Mongod, String> {
        // It is started from another folder, so a relative path would miss.
        let program = program.canonicalize().map_err(|error| error.to_string())?;
        let said = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|error| format!("`mongod --version` does not run: {error}"))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        match release_of(&said) {
            Some(release) if release >= OLDEST => Ok(Mongod { program }),
            Some((major, minor)) => Err(format!(
                "MongoDB {major}.{minor} is older than {}.{}",
                OLDEST.0, OLDEST.1
            )),
            None => Err(format!(
                "`mongod --version` said {:?}",
                said.lines().next().unwrap_or_default()
            )),
        }
    }
}

/// `db version v6.0.5` → 6.0.
fn release_of(version: &str) -> Option<(u32, u32)> {
    let (_, version) = version.split_once("db version v")?;
    let mut parts = version.split(['.', '\n', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A running server on 127.0.0.1, a replica set of one member, that is stopped
/// and removed when this value is dropped, and also when this process dies.
#[derive(Debug)]
pub struct Throwaway {
    folder: Option<TempDir>,
    port: u16,
    password: String,
    server: Child,
    watcher: Child,
    client: Client,
}

impl Throwaway {
    /// Starts one; returns when it can be written to.
    ///
    /// # Errors
    /// When it cannot be started, with the end of its log.
    pub async fn start(mongod: &Mongod) -> Result<Throwaway, DemoError> {
        let parent = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("maint-demo-mongodb-")
            .tempdir_in(&parent)
            .map_err(DemoError::file("create a folder in", &parent))?;
        let data = folder.path().join("data");
        fs::create_dir(&data).map_err(DemoError::file("create", &data))?;
        let password = random_password()?;
        // Members of a set know each other by it; no passwords without one.
        let key = folder.path().join("key");
        let secret = random_password()?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&key)
            .and_then(|mut file| file.write_all(secret.as_bytes()))
            .map_err(DemoError::file("write", &key))?;
        let port = free_port().map_err(DemoError::file("find a free port for", &data))?;
        let (mut server, mut watcher) = launch(mongod, folder.path(), port)?;
        let ready = ready(&mut server, folder.path(), port, &password).await;
        let client = match ready {
            Ok(client) => client,
            Err(error) => {
                end_child(&mut server);
                end_child(&mut watcher);
                return Err(error);
            }
        };
        Ok(Throwaway {
            folder: Some(folder),
            port,
            password,
            server,
            watcher,
            client,
        })
    }

    /// A connection URL for one of its databases, as somebody who may do everything.
    pub fn url(&self, database: &str) -> String {
        url(self.port, &self.password, database)
    }

    /// A client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Stops the server and removes its folder.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(mut self) -> Result<(), DemoError> {
        self.shut_down()
    }

    /// Leaves the server running and its folder in place; returns its process and that folder.
    pub fn detach(mut self) -> (u32, PathBuf) {
        // The watcher must be gone before its input closes.
        end_child(&mut self.watcher);
        let folder = self.folder.take().map(TempDir::keep).unwrap_or_default();
        (self.server.id(), folder)
    }

    fn shut_down(&mut self) -> Result<(), DemoError> {
        let Some(folder) = self.folder.take() else {
            return Ok(());
        };
        // A child that was not waited for keeps its process id, so this cannot hit a stranger.
        let _ = kill(
            Pid::from_raw(self.server.id().cast_signed()),
            Signal::SIGTERM,
        );
        let asked = Instant::now();
        let mut ended = false;
        while !ended && asked.elapsed() < STOP_TIMEOUT {
            ended = self.server.try_wait().ok().flatten().is_some();
            std::thread::sleep(Duration::from_millis(20));
        }
        if !ended {
            end_child(&mut self.server);
        }
        drop(folder);
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
        Ok(())
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = self.shut_down();
    }
}

fn url(port: u16, password: &str, database: &str) -> String {
    format!(
        "mongodb://maint:{password}@127.0.0.1:{port}/{database}?replicaSet=rs0&authSource=admin&tls=false"
    )
}

fn launch(mongod: &Mongod, folder: &Path, port: u16) -> Result<(Child, Child), DemoError> {
    // The watcher comes first: there is no moment at which a server could be orphaned.
    let mut watcher = watcher::spawn(WATCHER, folder)?;
    let server = Command::new(&mongod.program)
        .args(["--replSet", "rs0", "--bind_ip", "127.0.0.1"])
        .args(["--port", &port.to_string(), "--nounixsocket"])
        .arg("--dbpath")
        .arg(folder.join("data"))
        .arg("--keyFile")
        .arg(folder.join("key"))
        .arg("--logpath")
        .arg(folder.join("log"))
        .args(["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "256"])
        // Sessions that have expired go while one watches.
        .args(["--setParameter", "ttlMonitorSleepSecs=1"])
        .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|source| DemoError::Spawn {
            program: mongod.program.clone(),
            source,
        });
    match server {
        Ok(server) => Ok((server, watcher)),
        Err(error) => {
            end_child(&mut watcher);
            Err(error)
        }
    }
}

/// Waits until it listens, makes it a set of one, and makes the user.
async fn ready(
    server: &mut Child,
    folder: &Path,
    port: u16,
    password: &str,
) -> Result<Client, DemoError> {
    let began = Instant::now();
    let failed = |what: String| {
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        DemoError::StartMongod {
            what,
            log: last_lines(&log),
        }
    };
    while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_err()
    {
        if let Ok(Some(status)) = server.try_wait() {
            return Err(failed(format!("ended while it was starting ({status})")));
        }
        if began.elapsed() > START_TIMEOUT {
            return Err(failed("did not listen within a minute".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let doing = "making it a replica set of one member";
    let alone = format!("mongodb://127.0.0.1:{port}/admin?directConnection=true&tls=false");
    let first = Client::with_uri_str(alone).await.map_err(sql(doing))?;
    let admin = first.database("admin");
    let members = vec![doc! { "_id": 0, "host": format!("127.0.0.1:{port}") }];
    let initiate = doc! { "replSetInitiate": { "_id": "rs0", "members": members } };
    admin.run_command(initiate).await.map_err(sql(doing))?;
    loop {
        let hello: Document = admin
            .run_command(doc! { "hello": 1 })
            .await
            .map_err(sql(doing))?;
        if hello.get_bool("isWritablePrimary").unwrap_or(false) {
            break;
        }
        if began.elapsed() > START_TIMEOUT {
            return Err(failed("did not become primary within a minute".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let doing = "making its user";
    // Who is first, and on this machine, may make the first user.
    let create = doc! { "createUser": "maint", "pwd": password, "roles": ["root"] };
    admin.run_command(create).await.map_err(sql(doing))?;
    Client::with_uri_str(url(port, password, "admin"))
        .await
        .map_err(sql(doing))
}

fn sql(doing: &'static str) -> impl FnOnce(mongodb::error::Error) -> DemoError {
    move |source| DemoError::Mongodb {
        doing: doing.to_owned(),
        source: Box::new(source),
    }
}

fn end_child(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::release_of;

    #[test]
    fn the_release_is_what_follows_the_v() {
        assert_eq!(release_of("db version v6.0.5\nBuild Info: {"), Some((6, 0)));
        assert_eq!(release_of("db version v8.1.0-rc0\n"), Some((8, 1)));
        assert_eq!(release_of("mongos version v6.0.5"), None);
    }
}

//! A real S3 server with credentials, and what can go wrong with one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use super::workspace::Workspace;

/// The bucket that is there from the beginning.
pub(crate) const BUCKET: &str = "backups";

/// What the server does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fault {
    None,
    /// Answers 503 to everything.
    Unavailable,
    /// Cuts the connection without an answer when something is written.
    Cut,
    /// Says it has written, and has not.
    Lies,
    /// Writes half of it, and says it has written.
    Halves,
    /// Takes every request from the first that writes on, and never answers.
    Silent,
    /// Takes what is written, and never answers that; answers everything else.
    Slow = 7,
    /// Takes what is written, lists and removes it, and gives none of it back: the key may not.
    WriteOnly = 8,
    /// Stores what is written, and says that it has failed.
    Denies = 9,
}

/// Says nothing any more.
const SILENT: u8 = 6;

/// The server; ends with the test process.
pub(crate) struct S3 {
    pub(crate) folder: tempfile::TempDir,
    endpoint: String,
    fault: Arc<AtomicU8>,
    /// Requests that still pass before the fault begins.
    healthy: Arc<AtomicUsize>,
}

impl S3 {
    pub(crate) fn start() -> S3 {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("the key", "the s3cret"));
        let service = builder.build();
        let (fault, healthy) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicUsize::new(0)));
        let (mode, left) = (Arc::clone(&fault), Arc::clone(&healthy));
        let router = axum::Router::new().fallback(move |request: Request| {
            let (service, mode, left) = (service.clone(), Arc::clone(&mode), Arc::clone(&left));
            async move {
                let spare = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
                let writes = request.method() == "PUT";
                let lists = request.uri().query().is_some_and(|query| query.contains("list-type"));
                let reads = !lists && (request.method() == "GET" || request.method() == "HEAD");
                let fault = if spare.is_ok() { 0 } else { mode.load(Ordering::SeqCst) };
                let plain = |status: u16| Response::builder().status(status).body(Body::empty()).unwrap();
                let request = match fault {
                    1 => return plain(503),
                    5 if writes => {
                        mode.store(SILENT, Ordering::SeqCst);
                        std::future::pending().await
                    }
                    SILENT => std::future::pending().await,
                    7 if writes => std::future::pending().await,
                    8 if reads => return plain(403),
                    2 if writes => panic!("the connection is cut on purpose"),
                    3 if writes => {
                        return Response::builder().header("etag", "\"0\"").body(Body::empty()).unwrap();
                    }
                    _ => request.map(s3s::Body::http_body_unsync),
                };
                let path = request.uri().path().to_owned();
                if !ROOT.with(|root| root.borrow().join(path.split('/').nth(1).unwrap()).is_dir()) {
                    // This server would make the bucket; others answer like this.
                    let body = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
                    return Response::builder().status(404).body(Body::from(body)).unwrap();
                }
                let answer = service.call(request).await.unwrap();
                if fault == 4 && writes {
                    halve(&path);
                }
                if fault == 9 && writes {
                    return plain(500);
                }
                answer.map(Body::new)
            }
        });
        // A thread of its own: tests block theirs while maint runs.
        let (tell, told) = std::sync::mpsc::channel();
        let root = folder.path().to_owned();
        std::thread::spawn(move || {
            ROOT.with(|place| *place.borrow_mut() = root);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        let endpoint = format!("http://{}", told.recv().unwrap());
        S3 {
            folder,
            endpoint,
            fault,
            healthy,
        }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.endpoint.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// From so many requests on, this goes wrong.
    pub(crate) fn fail(&self, fault: Fault, after: usize) {
        self.healthy.store(after, Ordering::SeqCst);
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    /// The environment in which `maint` finds the server.
    pub(crate) fn known_to(&self, workspace: Workspace) -> Workspace {
        workspace
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "eu-central-1")
            .env("AWS_ACCESS_KEY_ID", "the key")
            .env("AWS_SECRET_ACCESS_KEY", "the s3cret")
    }
}

thread_local! {
    static ROOT: std::cell::RefCell<std::path::PathBuf> = std::cell::RefCell::default();
}

fn halve(path: &str) {
    ROOT.with(|root| {
        let file = root.borrow().join(decoded(path.trim_start_matches('/')));
        let content = std::fs::read(&file).unwrap();
        std::fs::write(file, &content[..content.len() / 2]).unwrap();
    });
}

/// The path of a request as the file system has it.
fn decoded(path: &str) -> std::path::PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Path::new(std::str::from_utf8(&bytes).unwrap()).to_owned()
}

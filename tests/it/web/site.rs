use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use maint::execute::{Live, Stop};
use maint::history::{Recorder, RunRecord, RunStatus, Store, Trigger, open};
use maint::report::Templates;
use maint::values::Secret;
use maint::web::pages::{Access, Pages, router};
use reqwest::{Client, Response, redirect::Policy};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::workspace::Workspace;

pub(super) const TOKEN: &str = "geheimes-langes-wort";

/// A status page of its own, with a task on one target.
pub(super) struct Site {
    pub(super) url: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) client: Client,
    _workspace: Workspace,
}

impl Site {
    pub(super) async fn start(database: &str, token: Option<&str>) -> Site {
        Self::start_at("127.0.0.1:1", database, token).await
    }

    /// As if it listened at `address`; it listens to this machine only.
    pub(super) async fn start_at(address: &str, database: &str, token: Option<&str>) -> Site {
        let workspace = Workspace::new(&format!(
            "timezone: UTC\ntargets:\n  app: {{ engine: postgres, url: \"{database}\" }}\n\
             schedules:\n  hourly: {{ cron: \"0 * * * *\", tasks: [analyze] }}\n"
        ))
        // However long a test takes to look, it does not give up.
        .task(
            "analyze",
            "kind: analyze\ntarget: app\nlimits: { lock_retries: 1000 }\n",
        )
        .task("vacuum", "kind: vacuum\ntarget: app\n");
        Self::of(workspace, address, token).await
    }

    /// Of what a folder says.
    pub(super) async fn of(workspace: Workspace, address: &str, token: Option<&str>) -> Site {
        let config = maint::config::load(
            &workspace.path().join("schedules.yaml"),
            &maint::kinds::catalog(),
            &|_| None,
        )
        .unwrap();
        let store = open(config.history.expose()).await.unwrap();
        let (_, config) = tokio::sync::watch::channel(Arc::new(config));
        let address: SocketAddr = address.parse().unwrap();
        let access = Access::new(token.map(Secret::new), address, false).unwrap();
        let pages = Pages {
            runs: tokio_util::task::TaskTracker::default(),
            recorder: Arc::new(Recorder::start(
                Arc::clone(&store),
                workspace.path().join("spool"),
            )),
            store: Arc::clone(&store),
            config,
            live: Live::default(),
            access: Arc::new(access),
            templates: Arc::new(Templates::built_in()),
            stop: Stop::default(),
            host: "db-tools".into(),
            teller: None,
            watcher: Arc::new(maint::scheduler::Silence),
            watched: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let over = CancellationToken::new();
        tokio::spawn(maint::web::serve(listener, router(pages), 1024, over));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(Policy::none()).build().unwrap();
        Site {
            url,
            store,
            client,
            _workspace: workspace,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.url));
        request.send().await.unwrap()
    }

    pub(super) async fn post(
        &self,
        path: &str,
        body: &str,
        headers: &[(&'static str, String)],
    ) -> Response {
        let mut request = self
            .client
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.send().await.unwrap()
    }

    /// The last run of this task, once it has ended.
    pub(super) async fn ended(&self, task: &str) -> RunRecord {
        for _ in 0..3600 {
            let last = self.store.last_run(task, "app").await.unwrap();
            if let Some(run) = last.filter(|run| run.status != RunStatus::Running) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{task} did not end");
    }
}

pub(super) fn run(status: RunStatus, at: DateTime<Utc>) -> RunRecord {
    RunRecord {
        id: Uuid::now_v7(),
        task: "analyze".into(),
        kind: "analyze".into(),
        target: "app".into(),
        trigger: Trigger::Schedule,
        status,
        scheduled_for: Some(at),
        started_at: at,
        finished_at: Some(at),
        duration_ms: 1_000,
        inspect_ms: 0,
        rows: 0,
        bytes_before: 0,
        bytes_after: 0,
        error: None,
        host: "h".into(),
        pid: 1,
        process: None,
        schedule: None,
        part: None,
        steps: Vec::new(),
        findings: Vec::new(),
    }
}

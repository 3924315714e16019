use super::Failure;
use super::context::Context;
use crate::demo::{self, Binaries, Cluster, ClusterOptions};

/// A throwaway PostgreSQL with the data of a learning platform, aged, and
/// maintained by the shipped tasks.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// How much data; 1 is about 2.3 GB
    #[arg(long, default_value_t = demo::DEFAULT_SCALE)]
    scale: f64,
    /// Leave the server running and print how to connect
    #[arg(long)]
    keep: bool,
}

/// The shipped tasks of the kinds that exist, in the order they run here.
const TASKS: [(&str, &str); 4] = [
    ("analyze", include_str!("../../tasks/analyze.yaml")),
    ("reindex", include_str!("../../tasks/reindex.yaml")),
    (
        "rebuild-fulltext",
        include_str!("../../tasks/rebuild-fulltext.yaml"),
    ),
    ("vacuum", include_str!("../../tasks/vacuum.yaml")),
];

impl Demo {
    pub(super) async fn call(&self, context: &Context<'_>) -> Result<u8, Failure> {
        eprintln!("starting a throwaway PostgreSQL");
        let options = ClusterOptions {
            settings: demo::settings(),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(&Binaries::find()?, options)?;
        let url = cluster.url("postgres");
        let work = self.maintain(context, &url);
        let ended = tokio::select! {
            ended = work => ended,
            _ = tokio::signal::ctrl_c() => Ok(130),
        };
        if self.keep {
            println!("The server keeps running: psql '{url}'");
            println!("Its folder: {}", cluster.detach().display());
        } else {
            cluster.stop()?;
        }
        ended
    }

    async fn maintain(&self, context: &Context<'_>, url: &str) -> Result<u8, Failure> {
        let say = |what: &str| eprintln!("  {what}");
        let failed = |error: tokio_postgres::Error| Failure::Other(error.to_string());
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .map_err(failed)?;
        tokio::spawn(connection);
        demo::load(&client, self.scale, &say).await?;
        demo::age(&client, self.scale, &say).await?;

        let folder = tempfile::tempdir().map_err(|e| Failure::Other(e.to_string()))?;
        let write = |path: &str, text: &str| {
            std::fs::write(folder.path().join(path), text)
                .map_err(|e| Failure::Other(e.to_string()))
        };
        std::fs::create_dir(folder.path().join("tasks"))
            .map_err(|e| Failure::Other(e.to_string()))?;
        write(
            "schedules.yaml",
            "targets:\n  app: { engine: postgres, url: \"${MAINT_DEMO_URL}\" }\n",
        )?;
        for (name, text) in TASKS {
            write(&format!("tasks/{name}.yaml"), text)?;
        }
        let env = |name: &str| (name == "MAINT_DEMO_URL").then(|| url.to_owned());
        let config =
            crate::config::load(&folder.path().join("schedules.yaml"), &context.kinds, &env)?;
        let size = "SELECT sum(pg_catalog.pg_relation_size(oid))::int8 FROM pg_catalog.pg_class WHERE relkind = 'i'";
        let before: i64 = client.query_one(size, &[]).await.map_err(failed)?.get(0);
        let names: Vec<String> = TASKS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let work = context.tasks(&config, &names, None, &[])?;
        let code = super::run::run_all(context, &config, work, true).await?;
        let after: i64 = client.query_one(size, &[]).await.map_err(failed)?.get(0);
        println!(
            "All indexes, by pg_relation_size: {} before, {} after",
            crate::report::text::human_bytes(before),
            crate::report::text::human_bytes(after)
        );
        Ok(code)
    }
}

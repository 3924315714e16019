//! stub
use tokio_util::sync::CancellationToken;
pub struct Dial {
    pub config: tokio_postgres::Config,
}
pub struct Link {
    pub client: tokio_postgres::Client,
    pub canceller: Canceller,
    pub notices: tokio::sync::mpsc::UnboundedReceiver<Notice>,
    pub closed: CancellationToken,
}
#[derive(Clone, Debug)]
pub struct Notice {
    pub severity: String,
    pub code: String,
    pub message: String,
}
#[derive(Clone)]
pub struct Canceller(tokio_postgres::CancelToken);
impl Canceller {
    pub async fn cancel(&self) -> Result<(), ConnectError> {
        self.0
            .cancel_query(tokio_postgres::NoTls)
            .await
            .map_err(ConnectError)
    }
}
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ConnectError(#[source] tokio_postgres::Error);
impl ConnectError {
    pub fn hint(&self) -> Option<String> {
        None
    }
}
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct DialError;
impl Dial {
    pub fn resolve(
        url: Option<&str>,
        _env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Dial, DialError> {
        Ok(Dial {
            config: url.unwrap_or("").parse().map_err(|_| DialError)?,
        })
    }
    pub fn describe(&self) -> String {
        "stub".into()
    }
    pub fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or("")
    }
    pub async fn connect(&self, app: &str) -> Result<Link, ConnectError> {
        let mut c = self.config.clone();
        c.application_name(app);
        let (client, mut conn) = c
            .connect(tokio_postgres::NoTls)
            .await
            .map_err(ConnectError)?;
        let (tx, notices) = tokio::sync::mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        let done = closed.clone();
        tokio::spawn(async move {
            while let Some(Ok(m)) = std::future::poll_fn(|cx| conn.poll_message(cx)).await {
                if let tokio_postgres::AsyncMessage::Notice(n) = m {
                    let _ = tx.send(Notice {
                        severity: n.severity().into(),
                        code: n.code().code().into(),
                        message: n.message().into(),
                    });
                }
            }
            done.cancel();
        });
        let canceller = Canceller(client.cancel_token());
        Ok(Link {
            client,
            canceller,
            notices,
            closed,
        })
    }
}

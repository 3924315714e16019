//! One run per task and target, also where two histories know nothing of each
//! other: a document in the target, renewed while the run lasts. The server's
//! own clock decides when it has run out.

mod held_by;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::held_by::HeldBy;
use super::names::CLAIMS;
use super::session::Claim;
use super::{Limit, MongoError, Session, number, unconfirmed};
use crate::values::{host, may_be_alive, process, wall_clock, with_causes};

/// How long a claim holds without a sign of life.
const LEASE: Duration = Duration::from_secs(30);
/// A claim that ends later than this is none; more than [`LEASE`], as the
/// clocks of members may differ.
const FARTHEST: Duration = Duration::from_secs(600);
/// A claim that ends later than this has another clock behind it, or nobody: it holds as long as it is renewed.
const USUAL: Duration = Duration::from_secs(40);
/// How often it is looked whether such a claim is renewed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// More bytes than a claim has: what is larger was written by somebody else, and is none.
const MOST_BYTES: i32 = 16 << 10;
/// More claims than hold at once. Who finds so many does not look which of their processes are no more.
const MOST_CLAIMS: i32 = 1000;
/// So many runs are asked for at once.
const AT_ONCE: usize = 500;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(8);
const PATIENCE: Limit = Limit(Duration::from_secs(10));
/// Code: MaxTimeMSExpired.
const OUT_OF_TIME: i32 = 50;
/// Code: WriteConcernFailed.
const UNCONFIRMED: i32 = 64;

impl Session {
    /// Takes the task, unless somebody has it: then tells who, since when.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn claim(&self, task: &str) -> Result<Option<HeldBy>, MongoError> {
        let owner = self.name().to_owned();
        let any = doc! { "_id": task };
        let holder = match self.take(task, any.clone(), &owner, true).await {
            // Two that came at once: one of them made the document.
            Err(error) if error.code() == Some(11000) => self.take(task, any, &owner, true).await?,
            taken => taken?,
        };
        let Some(holder) = holder else {
            return Ok(Some(HeldBy {
                who: "its claim was just given back".to_owned(),
                ..HeldBy::default()
            }));
        };
        if holder.get_str("owner").ok() != Some(owner.as_str()) {
            if !has_died(&holder) && !self.is_abandoned(task, &holder).await? {
                return Ok(Some(HeldBy::of(&holder, self.database())));
            }
            let mut same = doc! { "_id": task };
            for name in ["owner", "expires"] {
                same.insert(name, holder.get(name).cloned().unwrap_or(Bson::Null));
            }
            if self.take(task, same, &owner, false).await?.is_none() {
                return Ok(Some(HeldBy::of(&holder, self.database())));
            }
        }
        let claim = Claim {
            session: self.alone(),
            task: task.to_owned(),
            owner,
            end: CancellationToken::new(),
        };
        claim.renew(self.lost.clone());
        *self.claimed.lock().await = Some(claim);
        Ok(None)
    }

    /// Cancelled when the claim is lost.
    pub fn claim_lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Whether a claim that ends later than ours do is not renewed for as long as ours hold: whoever may write
    /// to the database can write one.
    async fn is_abandoned(&self, task: &str, holder: &Document) -> Result<bool, MongoError> {
        let Ok(expires) = holder.get_datetime("expires") else {
            return Ok(false);
        };
        let there = self.server.clock(wall_clock()).timestamp_millis();
        if expires.timestamp_millis() - there <= millis(USUAL) {
            return Ok(false);
        }
        let same = doc! { "_id": task, "expires": *expires };
        let find = doc! { "find": CLAIMS, "filter": same, "projection": { "_id": 1 }, "limit": 1 };
        let doing = "looking whether a claim is renewed";
        let began = Instant::now();
        while began.elapsed() < LEASE {
            tokio::time::sleep(LOOK_AGAIN).await;
            let found = self.all(doing, self.database(), find.clone(), PATIENCE);
            if found.await?.is_empty() {
                return Ok(false);
            }
        }
        tracing::warn!(
            "the claim was not renewed for {} s, and is taken: {}",
            LEASE.as_secs(),
            HeldBy::of(holder, self.database()).who
        );
        Ok(true)
    }

    /// Those of these runs that hold a claim now, by what they are called on the server.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(crate) async fn at_work(
        &self,
        runs: impl IntoIterator<Item = &String>,
    ) -> Result<HashSet<String>, MongoError> {
        let runs: HashSet<&String> = runs.into_iter().collect();
        let mut alive = HashSet::new();
        let runs: Vec<&str> = runs.into_iter().map(String::as_str).collect();
        for some in runs.chunks(AT_ONCE) {
            let holding = self.holding(doc! { "owner": { "$in": some.to_vec() } });
            let owners = holding.await?;
            let owners = owners.iter().filter_map(|of| of.get_str("owner").ok());
            alive.extend(owners.map(str::to_owned));
        }
        Ok(alive)
    }

    /// Who holds the claim on each of these tasks now, and since when, by task.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn holders(&self, tasks: &[&str]) -> Result<BTreeMap<String, HeldBy>, MongoError> {
        let holding = self.holding(doc! { "_id": { "$in": tasks.to_vec() } });
        let holding = holding.await?;
        let told = |of: &Document| {
            let task = of.get_str("_id").ok()?;
            Some((task.to_owned(), HeldBy::of(of, self.database())))
        };
        Ok(holding.iter().filter_map(told).collect())
    }

    /// The claims among these that hold now, and whose process is not known to be no more.
    async fn holding(&self, among: Document) -> Result<Vec<Document>, MongoError> {
        let command = doc! {
            "find": CLAIMS, "filter": { "$and": [among, { "$expr": holds() }] }, "limit": MOST_CLAIMS,
        };
        let doing = "looking who is at work";
        let mut found = self.all(doing, self.database(), command, PATIENCE).await?;
        if found.len() < MOST_CLAIMS as usize {
            found.retain(|holder| !has_died(holder));
        }
        Ok(found)
    }

    /// Removes the claims of a run that is over. Our own stays.
    ///
    /// # Errors
    /// When the server refuses, or cannot be asked.
    pub(crate) async fn end_claims(&self, run: &str) -> Result<usize, MongoError> {
        if run == self.name() {
            return Ok(0);
        }
        let command = doc! {
            "delete": CLAIMS, "deletes": [{ "q": { "owner": run }, "limit": 0 }],
            "writeConcern": { "w": "majority", "wtimeout": millis(PATIENCE.0) },
        };
        let doing = "removing the claim of a run that is over";
        let answer = self
            .command(doing, self.database(), command, PATIENCE)
            .await?;
        let removed = number(answer.get("n")).unwrap_or(0);
        Ok(usize::try_from(removed).unwrap_or(0))
    }

    /// Gives the claim back.
    pub async fn release(&self) {
        if let Some(claim) = self.claimed.lock().await.take() {
            claim.end.cancel();
            claim.remove().await;
        }
    }

    /// Writes a claim where `query` finds none that holds, or, without
    /// `if_expired`, whatever it finds; gives what is there afterwards.
    async fn take(
        &self,
        task: &str,
        query: Document,
        owner: &str,
        if_expired: bool,
    ) -> Result<Option<Document>, MongoError> {
        let claim = literal(doc! {
            "_id": task,
            "owner": owner,
            "host": host(),
            "process": process(std::process::id()),
            "since": "$$NOW",
            "expires": { "$add": ["$$NOW", millis(LEASE)] },
        });
        let replacement = if if_expired {
            doc! { "$cond": [holds(), "$$ROOT", claim] }
        } else {
            claim
        };
        let command = doc! {
            "findAndModify": CLAIMS,
            "query": query,
            "update": [{ "$replaceWith": replacement }],
            "upsert": if_expired,
            "new": true,
            "writeConcern": { "w": "majority", "wtimeout": millis(PATIENCE.0) },
        };
        let doing = "claiming the task";
        let answer = self
            .command(doing, self.database(), command, PATIENCE)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if matches!(error.code(), Some(OUT_OF_TIME | UNCONFIRMED)) => {
                return Err(told_why(error, unconfirmed(self).await));
            }
            Err(error) => return Err(error),
        };
        Ok(answer.get_document("value").ok().cloned())
    }
}

/// Whether a document is a claim that holds. What is not there yet has run out, too, and nobody of ours says
/// that a claim holds for longer, or writes a large one: else whoever does would keep the task for ever.
fn holds() -> Document {
    let latest = doc! { "$add": ["$$NOW", millis(FARTHEST)] };
    doc! { "$and": [
        { "$gte": ["$expires", "$$NOW"] }, { "$lte": ["$expires", latest] },
        { "$lte": [{ "$bsonSize": "$$ROOT" }, MOST_BYTES] },
    ] }
}

/// A claim is one small document: what keeps it from being written keeps everything.
fn told_why(error: MongoError, unconfirmed: Option<String>) -> MongoError {
    match error {
        MongoError::Command {
            doing,
            code,
            name,
            message,
        } => MongoError::Command {
            doing,
            code,
            name,
            message: match unconfirmed {
                Some(why) => format!(
                    "{why}; the server takes writes, and a run waits until a majority has them: bring the members back, or take away the votes of those that cannot confirm ({message})"
                ),
                None if code == UNCONFIRMED => message,
                None => format!(
                    "the server took no write within {} s: it is locked, as for a backup of its files (db.fsyncLock(); db.fsyncUnlock() ends that), or no majority of the members confirms it, or it does not keep up ({message})",
                    PATIENCE.0.as_secs()
                ),
            },
        },
        error => error,
    }
}

/// Text stays text, whatever it begins with; only our own expressions are expressions.
fn literal(claim: Document) -> Document {
    claim
        .into_iter()
        .map(|(key, value)| match &value {
            mongodb::bson::Bson::String(text) if text != "$$NOW" => {
                (key, doc! { "$literal": value }.into())
            }
            _ => (key, value),
        })
        .collect()
}

impl Claim {
    /// Renews in the background, until the end or until it is lost.
    fn renew(&self, lost: CancellationToken) {
        let (session, end) = (self.session.clone(), self.end.clone());
        let query = doc! { "_id": &self.task, "owner": &self.owner };
        tokio::spawn(async move {
            let mut renewed = Instant::now();
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    () = tokio::time::sleep(RENEW) => {}
                }
                let command = doc! {
                    "findAndModify": CLAIMS,
                    "query": query.clone(),
                    "update": [{ "$set": { "expires": { "$add": ["$$NOW", millis(LEASE)] } } }],
                    "writeConcern": { "w": "majority", "wtimeout": millis(PATIENCE.0) },
                };
                let asked = Instant::now();
                let answer = session
                    .command("renewing the claim", session.database(), command, PATIENCE)
                    .await;
                if end.is_cancelled() {
                    return;
                }
                match answer {
                    Ok(answer) if answer.get_document("value").is_ok() => renewed = asked,
                    Ok(_) => {
                        lost.cancel();
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(error = %with_causes(&error), "the claim could not be renewed")
                    }
                }
                if renewed.elapsed() + RENEW >= LEASE {
                    lost.cancel();
                    return;
                }
            }
        });
    }

    async fn remove(&self) {
        let command = doc! {
            "delete": CLAIMS,
            "deletes": [{ "q": { "_id": &self.task, "owner": &self.owner }, "limit": 1 }],
        };
        let session = &self.session;
        if let Err(error) = session
            .command(
                "giving the claim back",
                session.database(),
                command,
                PATIENCE,
            )
            .await
        {
            tracing::warn!(error = %with_causes(&error), "the claim could not be given back; it runs out by itself");
        }
    }
}

impl Drop for Claim {
    /// A run that ended early has not given it back.
    fn drop(&mut self) {
        if self.end.is_cancelled() {
            return;
        }
        self.end.cancel();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let claim = Claim {
                session: self.session.clone(),
                task: self.task.clone(),
                owner: self.owner.clone(),
                end: self.end.clone(),
            };
            runtime.spawn(async move { claim.remove().await });
        }
    }
}

/// Whether the process that holds a claim ran on this machine and is no more.
fn has_died(holder: &Document) -> bool {
    if holder.get_str("host").ok() != Some(host().as_str()) {
        return false;
    }
    let theirs = holder.get_str("process").ok();
    theirs.is_some_and(|theirs| !may_be_alive(theirs))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

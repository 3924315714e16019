//! Configured targets to sessions.

use uuid::Uuid;

use super::PipelineError;
use crate::config::Target;
use crate::engines::EngineError;
use crate::engines::postgres::Session;
use crate::engines::postgres::connect::Dial;
use crate::plan::{AnyKind, Finding, Severity, Site};

/// Resolves how to reach a target.
///
/// # Errors
/// When it has no URL, or one that makes no sense.
pub fn dial(target: &Target) -> Result<Dial, PipelineError> {
    if !target.configured {
        return Err(PipelineError::NotConfigured {
            target: target.name.clone(),
        });
    }
    let env = |name: &str| std::env::var(name).ok();
    let url = target.url.as_ref().map(|url| url.expose());
    Ok(Dial::resolve(url, &env).map_err(EngineError::from)?)
}

pub(super) fn replica_dials(target: &Target) -> Result<Vec<Dial>, PipelineError> {
    let env = |name: &str| std::env::var(name).ok();
    target
        .replicas
        .iter()
        .map(|url| Ok(Dial::resolve(Some(url.expose()), &env).map_err(EngineError::from)?))
        .collect()
}

/// The target's sessions. A replica out of reach is told, and stops nothing.
pub(super) async fn site(
    primary: Session,
    kind: &dyn AnyKind<Session>,
    replicas: &[Dial],
    application_name: &str,
) -> Site<Session> {
    let mut site = Site {
        primary,
        replicas: Vec::new(),
        findings: Vec::new(),
    };
    if !kind.reads_replicas() {
        return site;
    }
    for (n, dial) in replicas.iter().enumerate() {
        match Session::open(dial, application_name).await {
            Ok(session) => site.replicas.push((n, session)),
            Err(error) => site.findings.push(Finding {
                code: "replica.unreachable".to_owned(),
                severity: Severity::Warning,
                object: dial.describe(),
                message: format!("the replica could not be looked at: {error}"),
                suggestion: None,
            }),
        }
    }
    site
}

pub(super) async fn open(dial: &Dial, application_name: &str) -> Result<Session, EngineError> {
    let session = Session::open(dial, application_name).await?;
    if session.server.in_recovery {
        return Err(EngineError::InRecovery {
            server: dial.describe(),
        });
    }
    Ok(session)
}

/// What our sessions are called in `pg_stat_activity`: 63 bytes at most.
pub(super) fn application_name(run: Uuid) -> String {
    format!("maint {run}")
}

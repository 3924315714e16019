//! What helps against an error: which role is to be granted, and what else there is to do.

use super::super::names::CLAIMS;
use super::{MongoError, Refusal};

/// Where users are made, if nothing else is said.
pub(super) const ADMIN: &str = "admin";

/// Which role is missing: a run's record has errors without their hints.
pub(super) fn role_text(command: &str, namespace: &str) -> String {
    let (role, on) = role_for(command, namespace);
    let narrower = match command {
        "findAndModify" if namespace.ends_with(&format!(".{CLAIMS}")) => format!(
            ", and so has a role of your own with find, insert, update and remove on {namespace}"
        ),
        _ => String::new(),
    };
    format!("the role {role} on {on} has that right{narrower}")
}

impl MongoError {
    /// What to do next, where there is something better to say than the error itself.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            MongoError::NoDatabase => {
                "write it behind the host: mongodb://host/DATABASE?authSource=admin".to_owned()
            }
            MongoError::TooOld { .. } => "upgrade the server".to_owned(),
            MongoError::Unauthorized {
                command,
                namespace,
                lives_in,
                ..
            } => {
                let (role, on) = role_for(command, namespace);
                format!("let the user: {}", grant(lives_in, role, &on))
            }
            MongoError::NoText { .. } => {
                "leave such documents out with `where` or `keep`, by another field, or write that text anew as UTF-8; MongoDB's own tools (mongoexport) say in which document it stands".to_owned()
            }
            MongoError::Lost { .. } => {
                "look whether the members are up and one of them is primary; then run the task again".to_owned()
            }
            MongoError::Connect { refusal, .. } => match refusal {
                Refusal::UnknownHost => "look at the spelling of the host in the target's `url`".to_owned(),
                Refusal::NoNames => "look at the spelling of the host in the target's `url` and at this machine's name server; without SRV records the members are named one by one: mongodb://a:27017,b:27017/DATABASE".to_owned(),
                Refusal::Refused => "look whether mongod runs there, on that port, and listens on that address (`net.bindIp`)".to_owned(),
                Refusal::NoAnswer => "look at firewalls between here and there; `connectTimeoutMS` in the URL changes how long maint waits".to_owned(),
                Refusal::NoTls { by_default: true } => "beyond this machine TLS is the default: turn it on in the server (`net.tls.mode`), or accept that everybody on the way can read along, with tls=false in the URL".to_owned(),
                Refusal::NoTls { by_default: false } => "turn TLS on in the server (`net.tls.mode`), or say tls=false in the URL".to_owned(),
                Refusal::WantsTls => "say tls=true in the URL, and tlsCAFile=FILE where its authority is one of your own".to_owned(),
                Refusal::Certificate(_) => "say with tlsCAFile=FILE in the URL which authority signed it; the host in the URL must be one that the certificate names".to_owned(),
                Refusal::OurCertificate => "look whether it is valid, and signed by an authority that the server trusts (`net.tls.CAFile` there)".to_owned(),
                Refusal::NoCertificate { .. } => "name a file with the certificate and its key in the URL: tlsCertificateKeyFile=FILE".to_owned(),
                Refusal::Credentials => "look at user, password and `authSource` (the database the user was made in, often admin)".to_owned(),
                Refusal::NoUser => "write user and password in front of the host: mongodb://USER:PASSWORD@host/DATABASE?authSource=admin".to_owned(),
                Refusal::NotPrimary => "name all members in the URL, with replicaSet=NAME and without directConnection=true: then the primary is found, whichever it is".to_owned(),
                Refusal::SetName(name) => format!("say replicaSet={name} in the URL"),
                Refusal::NoPrimary => "look at rs.status() on a member: a majority of the members must be up and see each other".to_owned(),
                Refusal::Astray { writable: true, .. } => "say directConnection=true in the URL where this is the only way there, as through a forwarded port, an SSH tunnel or into a container: then nobody else is looked for; or let the names that the members have in rs.conf() lead to them from here, too".to_owned(),
                Refusal::Astray { writable: false, .. } => "let the names that the members have in rs.conf() lead to them from here, too; or name the primary in the URL, with directConnection=true, where there is only one way to it. If it has just been lost, another one is chosen within seconds: look at rs.status()".to_owned(),
                Refusal::NoSet => "leave replicaSet out of the URL".to_owned(),
                Refusal::Other(_) => return None,
            },
            _ => return None,
        };
        Some(text)
    }
}

/// The command that gives a role to a user who was made in this database.
pub fn grant(lives_in: &str, role: &str, on: &str) -> String {
    format!(
        "db.getSiblingDB({lives_in:?}).grantRolesToUser(USER, [{{ role: {role:?}, db: {on:?} }}])"
    )
}

/// The narrowest built-in role that allows a command, and the database it is granted on. A namespace
/// is a database, with the collection where one was named.
pub fn role_for(command: &str, namespace: &str) -> (&'static str, String) {
    let (database, collection) = namespace.split_once('.').unwrap_or((namespace, ""));
    let own = database.to_owned();
    let admin = "admin".to_owned();
    match command {
        "replSetGetStatus" | "replSetGetConfig" | "serverStatus" | "getParameter" | "currentOp"
        | "$indexStats" | "$currentOp" | "top" | "getCmdLineOpts" => ("clusterMonitor", admin),
        // What the profiler writes is the server's own, and not among what `read` may read.
        "find" | "aggregate" | "count" if collection == "system.profile" => {
            ("clusterMonitor", admin)
        }
        "replSetStepDown" | "replSetStateChange" => ("clusterManager", admin),
        "killOp" => ("hostManager", admin),
        "validate" | "compact" | "collMod" | "profile" => ("dbAdmin", own),
        "find" | "aggregate" | "count" | "collStats" | "dbStats" | "listIndexes"
        | "listCollections" => ("read", own),
        "indexStats" => ("clusterMonitor", admin),
        _ => ("readWrite", own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_names_the_role_that_would() {
        let error = MongoError::Unauthorized {
            doing: "checking it".to_owned(),
            command: "validate".to_owned(),
            namespace: "shop.orders".to_owned(),
            lives_in: "admin".to_owned(),
        };
        assert_eq!(
            error.hint().as_deref(),
            Some(
                "let the user: db.getSiblingDB(\"admin\").grantRolesToUser(USER, [{ role: \"dbAdmin\", db: \"shop\" }])"
            )
        );
        assert!(!error.is_unreachable() && !error.is_passing());
        // Who was made elsewhere is not found in `admin`.
        let hint = error.of_user_in("$external").hint().unwrap_or_default();
        assert!(hint.contains("getSiblingDB(\"$external\").grant"), "{hint}");
    }
}

//! What helps where no connection came about.

use super::{CertificateFault, ConnectError, TlsUse};
use crate::engines::postgres::Identifier;
use crate::values::FilesUsedUp;

impl ConnectError {
    /// The next step.
    pub fn hint(&self) -> String {
        use ConnectError as E;
        let hint = match self {
            E::UnknownHost { .. } => "check the host name, and the name server of this machine",
            E::Refused { .. } => {
                "check the port, that the server runs, and that its `listen_addresses` includes \
                 this address"
            }
            E::NoSocket { .. } => {
                "check that the server runs, and name its socket folder or its host in the URL"
            }
            E::OutOfFiles {
                used_up: FilesUsedUp::Process,
                ..
            } => {
                "raise the limit on open files (`LimitNOFILE=` of systemd, `ulimit -n`), or run \
                 fewer things at once in this process"
            }
            E::OutOfFiles { .. } => "see which process holds them, or raise `fs.file-max`",
            E::Network { .. } => "check the route and the firewalls between here and the server",
            E::TimedOut { .. } => {
                "check for a firewall that drops packets, or raise `connect_timeout`"
            }
            E::WrongPassword {
                certificate_sent: true,
                ..
            } => {
                "check the password; the server also says this when the role does not exist or \
                 when the client certificate is not for this role"
            }
            E::WrongPassword { .. } => {
                "check the password; the server also says this when the role does not exist"
            }
            E::NoPassword { .. } => "set PGPASSWORD, or add a line to the password file",
            E::Login { .. } => "see which login method pg_hba.conf has for this role",
            E::NoSuchDatabase { listed: true, .. } => {
                "it was there when its server was asked which there are: somebody has dropped or renamed it since; the next run works on those that are there"
            }
            E::NoSuchDatabase { database, .. } => {
                return format!("check the name, or create it: `CREATE DATABASE \"{database}\"`");
            }
            E::NoLogin { role, .. } => {
                return format!(
                    "check the name; if it is right, `CREATE ROLE \"{role}\" LOGIN`, or `ALTER ROLE \"{role}\" LOGIN` for one that is there"
                );
            }
            E::NotAdmitted {
                tls: TlsUse::Spoken,
                certificate_sent: false,
                ..
            } => {
                "if the server asks for a client certificate, name one with `sslcert` and `sslkey`; otherwise add a line for this role, database and address to pg_hba.conf, above any that rejects it, and reload the server"
            }
            E::NotAdmitted { .. } => {
                "add a line for this role, database and address to pg_hba.conf, above any that rejects it, and reload the server"
            }
            E::EncryptionDemanded { .. } => {
                "if pg_hba.conf has a line for this role that is for TLS alone (`hostssl`), set `sslmode=verify-full` (or `require`); otherwise add a line for this role, database and address to pg_hba.conf, above any that rejects it, and reload the server"
            }
            E::TooManyConnections { .. } => {
                "wait, close idle sessions, or raise `max_connections` or the role's limit"
            }
            E::PoolFull { .. } => {
                "raise `default_pool_size` of PgBouncer (or `pool_size` of that database), or point the target's `url` at PostgreSQL itself"
            }
            E::NotAccepting { .. } => "wait until the server is up; its log says how far it is",
            E::TlsNotOffered {
                mode_was_given: true,
                ..
            } => "switch `ssl` on in the server, or lower `sslmode` if the network is trusted",
            E::TlsNotOffered { .. } => {
                "switch `ssl` on in the server, or set `sslmode=disable` if the network is trusted"
            }
            E::Untrusted { fault, .. } => match &**fault {
                CertificateFault::UnknownIssuer => {
                    "name the file with its authority's certificate in `sslrootcert`; \
                     `sslmode=require` encrypts without checking"
                }
                CertificateFault::Expired(_) => "renew the server's certificate",
                CertificateFault::NotYetValid(_) => "check the clocks of both machines",
                CertificateFault::WrongName { presented, .. } if presented.is_empty() => {
                    "reissue it with a subject alternative name (a common name alone does not \
                     count), or use `sslmode=verify-ca` with an authority of your own"
                }
                CertificateFault::WrongName { .. } => {
                    "connect by a name the certificate has (`hostaddr` can hold the address), or \
                     reissue it"
                }
                CertificateFault::Revoked => "issue a new certificate for the server",
                CertificateFault::Authority => {
                    "name that very certificate by `sslrootcert` if the server is yours, or give the server one of its own, signed by that authority"
                }
                CertificateFault::Other(_) => "look at it with `openssl x509 -text`",
            },
            E::ClientCertificateRequired { .. } => {
                "name the certificate and its key in `sslcert` and `sslkey`"
            }
            E::ClientCertificateRejected { .. } => {
                "it must be signed by the server's `ssl_ca_file`, be valid, and name this role"
            }
            E::TlsFiles { next_step, .. } => next_step,
            E::Handshake { direct: true, .. } => {
                "`sslnegotiation=direct` needs PostgreSQL 17 or newer; remove it otherwise"
            }
            E::Handshake { .. } => "check the TLS settings and the log of the server",
            E::NotPostgres { .. } => {
                "check the port; behind it may be another service, a proxy, or a server that is \
                 going down"
            }
            E::WrongKind { .. } => "name the other members of the cluster as hosts, too",
            E::MayNotConnect { database, role, .. } => {
                let (database, role) = (Identifier::new(&**database), Identifier::new(&**role));
                return format!("GRANT CONNECT ON DATABASE {database} TO {role}");
            }
            E::Server { .. } => "the server's log has the details",
            E::NoHost { failures, .. } => {
                return failures.last().map(ConnectError::hint).unwrap_or_default();
            }
        };
        hint.to_owned()
    }
}

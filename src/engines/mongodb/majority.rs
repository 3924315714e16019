//! Whether a majority of the members confirms what the primary writes.

use std::time::Duration;

use mongodb::bson::{Document, Timestamp, doc};

use super::session::number;
use super::{Limit, Member, Members, Session};

/// How far a member may be behind, and still be taken for one that confirms, in seconds.
const BEHIND: f64 = 5.0;
/// How long a majority has to confirm what was written when it was asked first.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why no majority confirms what is written just now, in words; none where one does, or where that
/// cannot be asked.
pub async fn unconfirmed(session: &Session) -> Option<String> {
    session.server.set.as_ref()?;
    let doing = "asking whether a majority confirms";
    let ask = || doc! { "replSetGetStatus": 1 };
    let status = session.command(doing, "admin", ask(), Limit::ASIDE).await;
    let written = optime(&status.ok()?, "appliedOpTime")?;
    let mut status = Document::new();
    for _ in 0..2 {
        let answer = session.command(doing, "admin", ask(), Limit::ASIDE).await;
        status = answer.ok()?;
        if optime(&status, "lastCommittedOpTime")? >= written {
            return None;
        }
        tokio::time::sleep(PATIENCE).await;
    }
    let members = Members::of(session).await.ok()?;
    Some(told(&status, &members))
}

/// How far the primary, or a majority, has come.
fn optime(status: &Document, name: &str) -> Option<Timestamp> {
    let optimes = status.get_document("optimes").ok()?;
    optimes.get_document(name).ok()?.get_timestamp("ts").ok()
}

fn told(status: &Document, members: &Members) -> String {
    let voting: Vec<&Member> = members.0.iter().filter(|member| member.votes).collect();
    let all = voting.len();
    let needed = number(status.get("writeMajorityCount"));
    let needed = needed
        .map(|n| format!(" ({n} have to)"))
        .unwrap_or_default();
    let late: Vec<String> = voting.into_iter().filter_map(why_not).collect();
    let late = match late.is_empty() {
        true => String::new(),
        false => format!(": {}", late.join(", ")),
    };
    format!("a majority of the {all} voting members does not confirm what is written{needed}{late}")
}

/// Why a member does not confirm, if it does not.
fn why_not(member: &Member) -> Option<String> {
    let name = &member.name;
    let behind = member.lag.filter(|lag| *lag > BEHIND);
    match (member.state.as_str(), behind) {
        ("ARBITER", _) if member.healthy => Some(format!("{name} is an arbiter and holds nothing")),
        _ if !member.healthy || !member.reads() => Some(format!("{name} is {}", member.state)),
        _ if member.is_delayed() => Some(format!("{name} is delayed by {} s", member.delay)),
        (_, Some(lag)) => Some(format!("{name} is {lag:.0} s behind")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn member(name: &str, state: &str, delay: f64) -> Member {
        Member {
            name: name.to_owned(),
            state: state.to_owned(),
            healthy: !state.starts_with('('),
            lag: None,
            delay,
            hidden: false,
            votes: true,
            tags: HashMap::new(),
            electable: true,
        }
    }

    #[test]
    fn who_does_not_confirm_is_named() {
        let status = doc! {
            "optimes": { "lastCommittedOpTime": { "ts": Timestamp { time: 7, increment: 1 } } },
            "writeMajorityCount": 2,
        };
        let at = optime(&status, "lastCommittedOpTime");
        assert_eq!(at.map(|at| at.time), Some(7));
        let down = member("b:1", "(not reachable/healthy)", 0.0);
        let voteless = Member {
            votes: false,
            ..member("e:1", "SECONDARY", 60.0)
        };
        let members = Members(vec![
            member("a:1", "PRIMARY", 0.0),
            down,
            member("c:1", "ARBITER", 0.0),
            member("d:1", "SECONDARY", 3600.0),
            voteless,
        ]);
        assert_eq!(
            told(&status, &members),
            "a majority of the 4 voting members does not confirm what is written (2 have to): b:1 is (not reachable/healthy), c:1 is an arbiter and holds nothing, d:1 is delayed by 3600 s"
        );
    }
}

//! The members of a replica set: who they are, what they are for, and how far they are behind.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mongodb::bson::{Bson, Document, doc};

use super::session::number;
use super::{Limit, MongoError, Session};

/// A member of a replica set, as the primary sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// `host:port`.
    pub name: String,
    /// `PRIMARY`, `SECONDARY`, `ARBITER`, `(not reachable/healthy)`, …
    pub state: String,
    /// Whether it answers.
    pub healthy: bool,
    /// How far its data is behind the primary's, in seconds, a delay that it
    /// is configured to have taken off; only of secondaries that answer.
    pub lag: Option<f64>,
    /// By how many seconds it is configured to be behind; 0 where it is not.
    pub delay: f64,
    /// Whether clients are not told of it.
    pub hidden: bool,
    /// Whether it has a vote.
    pub votes: bool,
    /// What the configuration says of it: where it is, what it is for.
    pub tags: HashMap<String, String>,
    /// Whether it may become primary.
    pub electable: bool,
}

impl Member {
    /// Whether it is configured to be behind.
    pub fn is_delayed(&self) -> bool {
        self.delay > 0.0
    }

    /// Whether it holds data that may be read.
    pub fn reads(&self) -> bool {
        matches!(self.state.as_str(), "PRIMARY" | "SECONDARY")
    }
}

/// The members of a replica set; empty for a server that stands alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(pub Vec<Member>);

impl Members {
    /// Asks the primary.
    ///
    /// # Errors
    /// When the role may not, or the server cannot be asked.
    pub async fn of(session: &Session) -> Result<Members, MongoError> {
        if session.server.set.is_none() {
            return Ok(Members::default());
        }
        let doing = "looking at the members";
        let status = session
            .command(doing, "admin", doc! { "replSetGetStatus": 1 }, Limit::ASIDE)
            .await?;
        let config = session
            .command(doing, "admin", doc! { "replSetGetConfig": 1 }, Limit::ASIDE)
            .await?;
        Ok(read(&status, &config))
    }

    /// How far the worst of them is behind, in seconds.
    pub fn worst_lag(&self) -> Option<(&Member, f64)> {
        self.0
            .iter()
            .filter_map(|member| Some((member, member.lag?)))
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Those that should hold data, and do not say how far they are.
    pub fn gone(&self) -> impl Iterator<Item = &Member> {
        let says = |member: &&Member| {
            member.healthy && matches!(member.state.as_str(), "PRIMARY" | "SECONDARY" | "ARBITER")
        };
        self.0.iter().filter(move |member| !says(member))
    }

    /// Those that hold data and are not primary.
    pub fn secondaries(&self) -> impl Iterator<Item = &Member> {
        self.0
            .iter()
            .filter(|member| member.state == "SECONDARY" && member.healthy)
    }

    /// Secondaries that may read for others, the one least behind first. One that is
    /// configured to be behind never has what was written just now.
    pub fn readers(&self) -> impl Iterator<Item = &Member> {
        let mut readers: Vec<&Member> = self.secondaries().filter(|m| !m.is_delayed()).collect();
        let lag = |member: &Member| member.lag.unwrap_or(f64::MAX);
        readers.sort_by(|a, b| lag(a).total_cmp(&lag(b)));
        readers.into_iter()
    }

    /// Those of [`Members::readers`] that have all of the tags of the first set that anybody has; all
    /// where no tags are asked for.
    pub fn tagged_readers(&self, sets: &[HashMap<String, String>]) -> Vec<&Member> {
        let has = |member: &Member, set: &HashMap<String, String>| {
            set.iter()
                .all(|(name, value)| member.tags.get(name) == Some(value))
        };
        let of = |set: &HashMap<String, String>| {
            let found: Vec<&Member> = self.readers().filter(|member| has(member, set)).collect();
            (!found.is_empty()).then_some(found)
        };
        match sets {
            [] => self.readers().collect(),
            sets => sets.iter().find_map(of).unwrap_or_default(),
        }
    }

    /// The primary.
    pub fn primary(&self) -> Option<&Member> {
        self.0.iter().find(|member| member.state == "PRIMARY")
    }
}

fn read(status: &Document, config: &Document) -> Members {
    let (delays, tags) = (delays(config), tags(config));
    let never = never_primary(config);
    let list = status
        .get_array("members")
        .map(Vec::as_slice)
        .unwrap_or_default();
    let list: Vec<&Document> = list.iter().filter_map(Bson::as_document).collect();
    let applied = |member: &Document| {
        member
            .get_datetime("optimeDate")
            .ok()
            .map(|at| millis(at.timestamp_millis()))
    };
    let newest = list
        .iter()
        .filter(|member| member.get_str("stateStr").ok() == Some("PRIMARY"))
        .find_map(|member| applied(member));
    Members(
        list.iter()
            .map(|member| {
                let name = member.get_str("name").unwrap_or_default().to_owned();
                let state = member.get_str("stateStr").unwrap_or_default().to_owned();
                let healthy = number(member.get("health")).unwrap_or(0) == 1;
                let wanted = delays
                    .iter()
                    .find(|(host, _)| *host == name)
                    .map_or(0.0, |(_, delay)| *delay);
                let lag = newest
                    .zip(applied(member))
                    .filter(|_| healthy && state == "SECONDARY")
                    .map(|(newest, own)| {
                        let behind = (newest - own).num_milliseconds() as f64 / 1000.0;
                        (behind - wanted).max(0.0)
                    });
                let votes = config_of(config, &name)
                    .is_none_or(|member| number(member.get("votes")).is_none_or(|votes| votes > 0));
                let hidden = config_of(config, &name)
                    .is_some_and(|member| member.get_bool("hidden").unwrap_or(false));
                Member {
                    electable: !never.contains(&name),
                    tags: tags.get(&name).cloned().unwrap_or_default(),
                    name,
                    state,
                    healthy,
                    lag,
                    delay: wanted,
                    hidden,
                    votes,
                }
            })
            .collect(),
    )
}

/// What the configuration says of a member.
fn config_of<'a>(config: &'a Document, name: &str) -> Option<&'a Document> {
    let members = config.get_document("config").ok()?.get_array("members");
    let mut members = members.ok()?.iter().filter_map(Bson::as_document);
    members.find(|member| member.get_str("host").ok() == Some(name))
}

fn delays(config: &Document) -> Vec<(String, f64)> {
    let members = config
        .get_document("config")
        .and_then(|config| config.get_array("members"));
    members
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(Bson::as_document)
        .map(|member| {
            // The name changed with 5.0.
            let delay = member
                .get("secondaryDelaySecs")
                .or(member.get("slaveDelay"));
            (
                member.get_str("host").unwrap_or_default().to_owned(),
                number(delay).unwrap_or(0) as f64,
            )
        })
        .collect()
}

/// Members that are configured to be primary at no time.
fn never_primary(config: &Document) -> Vec<String> {
    let members = config
        .get_document("config")
        .and_then(|config| config.get_array("members"));
    let members = members.map(Vec::as_slice).unwrap_or_default().iter();
    members
        .filter_map(Bson::as_document)
        .filter(|member| {
            let arbiter = member.get_bool("arbiterOnly").unwrap_or(false);
            let priority = match member.get("priority") {
                Some(Bson::Double(n)) => *n > 0.0,
                other => number(other).is_none_or(|n| n > 0),
            };
            arbiter || !priority
        })
        .filter_map(|member| member.get_str("host").ok().map(str::to_owned))
        .collect()
}

fn tags(config: &Document) -> HashMap<String, HashMap<String, String>> {
    let members = config
        .get_document("config")
        .and_then(|config| config.get_array("members"));
    let members = members.map(Vec::as_slice).unwrap_or_default().iter();
    members
        .filter_map(|member| {
            let member = member.as_document()?;
            let tags = member.get_document("tags").ok()?.iter();
            let tags =
                tags.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
            Some((member.get_str("host").ok()?.to_owned(), tags.collect()))
        })
        .collect()
}

fn millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::DateTime as BsonDate;

    #[test]
    fn a_configured_delay_is_no_lag_and_who_is_away_has_none() {
        let at = |seconds: i64| BsonDate::from_millis(1_000_000 + seconds * 1000);
        let status = doc! { "members": [
            { "name": "a:1", "stateStr": "PRIMARY", "health": 1.0, "optimeDate": at(100) },
            { "name": "b:1", "stateStr": "SECONDARY", "health": 1.0, "optimeDate": at(93) },
            { "name": "c:1", "stateStr": "SECONDARY", "health": 1.0, "optimeDate": at(30) },
            { "name": "e:1", "stateStr": "SECONDARY", "health": 1.0, "optimeDate": at(99) },
            { "name": "d:1", "stateStr": "(not reachable/healthy)", "health": 0.0, "optimeDate": at(-1000) },
        ]};
        let config = doc! { "config": { "members": [
            { "host": "c:1", "secondaryDelaySecs": 60_i64 },
            { "host": "e:1", "priority": 0.0 },
            { "host": "b:1", "priority": 0.5, "tags": { "dc": "east", "use": "report" } },
        ]}};
        let members = read(&status, &config);
        let lags: Vec<Option<f64>> = members.0.iter().map(|m| m.lag).collect();
        assert_eq!(lags, [None, Some(7.0), Some(10.0), Some(1.0), None]);
        assert_eq!(
            members.worst_lag().map(|(m, _)| m.name.as_str()),
            Some("c:1")
        );
        assert!(!members.0[4].healthy);
        let electable: Vec<bool> = members.0.iter().map(|m| m.electable).collect();
        assert_eq!(electable, [true, true, true, false, true]);
        let gone: Vec<&str> = members.gone().map(|m| m.name.as_str()).collect();
        assert_eq!(gone, ["d:1"]);
        let order: Vec<&str> = members.readers().map(|m| m.name.as_str()).collect();
        assert_eq!(order, ["e:1", "b:1"], "the one least behind first");
        let set = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        let named = |sets: &[HashMap<String, String>]| -> Vec<String> {
            let found = members.tagged_readers(sets).into_iter();
            found.map(|member| member.name.clone()).collect()
        };
        let (west, east) = (set(&[("dc", "west")]), set(&[("dc", "east")]));
        assert_eq!(named(&[west.clone(), east]), ["b:1"]);
        assert_eq!(named(std::slice::from_ref(&west)), [""; 0]);
        assert_eq!(named(&[west, set(&[])]), ["e:1", "b:1"]);
    }
}

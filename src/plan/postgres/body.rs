//! What a step on PostgreSQL is made of besides what every engine's steps have.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Fate, Most, Query, Sweep, Work};
use crate::engines::postgres::trust::{Guard, Named, Touch};
use crate::plan::Finding;
use crate::plan::body::ID_OF;

/// What is done, and what is asked around it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// The relation whose locks the step needs: where it cannot have them,
    /// this tells whom to name.
    pub relation: Option<u32>,
    /// What is done.
    pub work: Work,
    /// Asked right before the step starts.
    pub only_if: Option<Condition>,
    /// Answers with one row (bytes bigint, tuples double precision), asked
    /// before and after.
    pub measure: Option<Query>,
    /// How to clear away what an aborted attempt left.
    pub on_abort: Option<Sweep>,
    /// Answers with what the step must not leave, asked once it has ended,
    /// however it ended: rows of (object, what is wrong with it, what would
    /// help). The step has failed where there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Query>,
    /// Answers with what the step has taken out of its table and not brought
    /// to its end, asked where it did not succeed: rows of (object, what is so,
    /// what would take it back, whether it is half out only, about how many rows it has).
    /// Each is a finding, and a step that leaves something half out has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Query>,
    /// Answers whether what the step is for has been done and committed although its statement failed,
    /// as where an event trigger fails after that.
    #[serde(skip)]
    pub done: Option<Query>,
    /// What is found where the server meets a key twice, in a step that brings no rows of its own.
    #[serde(skip)]
    pub if_twice: Option<Finding>,
    /// Whether the step's own locks must yield to a vacuum that prevents
    /// transaction id wraparound on the same table.
    pub yields_to_wraparound_vacuum: bool,
    /// Answers with one row, one bigint: exactly how many rows the step would
    /// change now. Asked by a dry run only.
    pub count: Option<Query>,
    /// How the conditions of the step are to be read.
    #[serde(default)]
    pub under: Under,
    /// Which relations it touches, and how: what decides whose code could run.
    #[serde(skip)]
    pub touches: Vec<Touch>,
    /// Which tables it writes to by their names, whatever has these by then.
    #[serde(skip)]
    pub named: Vec<Named>,
    /// Taken first in each of its transactions, where tables belong to owners
    /// who are not trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// What it changes besides its own rows: triggers that fire, rows of other tables that go or
    /// change with its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets_off: Vec<String>,
    /// Tables on other servers that it reads, quoted: where it comes to
    /// nothing because of them, that is told, and no failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub away: Vec<String>,
    /// When the step has to have ended, since it blocks others for as long as it is at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// How much of the log may be kept for the step while it follows that; it gives way to more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_log: Option<i64>,
    /// How many rows its rule may take, where it takes all that `count` answers as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Most>,
    /// What it relies on besides `relation`: the ids of objects and the numbers of columns, by what
    /// they are of. Only saved plans keep them.
    #[serde(skip)]
    pub rests_on: BTreeMap<String, i64>,
}

/// How conditions of the user's are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Under {
    /// Schemas whose operators mean what the types of columns mean, quoted;
    /// they follow the server's own.
    pub schemas: Vec<String>,
    /// Whether the server is to refuse rather than to hide rows: absence is
    /// never proved through a filter.
    pub all_rows: bool,
    /// Whether days, and whatever else goes by `TimeZone`, are those of role and database, as for whoever
    /// wrote the rows, and not UTC.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub their_time: bool,
}

impl Under {
    /// Whether the settings of a session are right as they are.
    pub fn is_usual(&self) -> bool {
        *self == Under::default()
    }

    /// `SET`, or `SET LOCAL`, and what has to follow it.
    pub fn settings(&self, set: &str) -> String {
        let mut path = vec!["pg_catalog"];
        path.extend(self.schemas.iter().map(String::as_str));
        path.push("pg_temp");
        let time = match self.their_time {
            true => format!("; {set} TimeZone = DEFAULT"),
            false => String::new(),
        };
        format!(
            "{set} search_path = {}; {set} row_security = {}{time}",
            path.join(", "),
            if self.all_rows { "off" } else { "on" }
        )
    }
}

impl Body {
    /// The id of the table, partition or index of this name that the step is about; none where it is about
    /// something else.
    pub fn own(&self, object: &str) -> Option<u32> {
        let named = self.rests_on.get(&format!("{ID_OF}{object}"));
        if let Some(id) = named.and_then(|id| u32::try_from(*id).ok()) {
            return Some(id);
        }
        match &self.work {
            Work::Walk(walk) => Some(walk.oid),
            Work::Retire(retire) => Some(retire.oid),
            Work::Shrink(shrink) => Some(shrink.oid),
            Work::Each(_) | Work::Together(_) | Work::Check(_) | Work::Settle(_) => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Body {
            relation: None,
            work: Work::Each(Vec::new()),
            only_if: None,
            measure: None,
            on_abort: None,
            leaves: None,
            outside: None,
            done: None,
            if_twice: None,
            yields_to_wraparound_vacuum: false,
            count: None,
            under: Under::default(),
            touches: Vec::new(),
            named: Vec::new(),
            guard: None,
            sets_off: Vec::new(),
            away: Vec::new(),
            until: None,
            most_log: None,
            most: None,
            rests_on: BTreeMap::new(),
        }
    }
}

impl crate::plan::Body for Body {
    fn text(&self) -> String {
        self.work.text()
    }

    fn at_any_time(&self) -> String {
        self.work.at_any_time()
    }

    fn sets_off(&self) -> Vec<String> {
        self.sets_off.clone()
    }

    fn identity(&self) -> serde_json::Value {
        if self.rests_on.is_empty() {
            return self.relation.into();
        }
        let table = self.relation.map(i64::from);
        let table = table.map(|oid| (format!("{ID_OF}its table"), oid));
        let rests_on = self.rests_on.clone().into_iter();
        rests_on
            .chain(table)
            .map(|(of, number)| (of, number.into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    fn until(&self) -> Option<DateTime<Utc>> {
        self.until
    }

    fn elsewhere(&self) -> Option<String> {
        let beside = |fate: &Fate| match fate {
            Fate::Export(export) => Some(export.storage.clone()),
            Fate::Send(send) => Some(format!("{} of target {}", send.into, send.target)),
            Fate::Delete | Fate::Move { .. } => None,
        };
        match &self.work {
            Work::Walk(walk) => beside(&walk.fate),
            Work::Retire(retire) => retire.walk.as_ref().and_then(|walk| beside(&walk.fate)),
            Work::Settle(_) => Some("the place of the archives".to_owned()),
            Work::Each(_) | Work::Together(_) | Work::Check(_) | Work::Shrink(_) => None,
        }
    }

    fn keeps_what_it_did(&self) -> bool {
        // What is stored of a partition, and what has moved to the front of a table, stays so.
        matches!(self.work, Work::Walk(_) | Work::Retire(_) | Work::Shrink(_))
    }

    fn destroys(&self) -> bool {
        self.work.destroys()
    }

    fn piles_up(&self) -> bool {
        self.on_abort.as_ref().is_some_and(|sweep| sweep.piles_up)
    }
}

//! In which order results are made, and what each is called.

use super::{Aggregation, Refresh};
use crate::engines::mongodb::namespace;

impl Refresh {
    /// Those whose result others read come first, whatever their place in the file, and those that
    /// read each other's stay as they are there. Each with where its result goes, and a name of its
    /// own where several write into one collection.
    pub(super) fn in_order(&self, own: &str) -> Vec<(&Aggregation, (String, String), String)> {
        let mut left: Vec<(&Aggregation, (String, String))> = self
            .aggregations
            .iter()
            .filter_map(|one| Some((one, one.result(own)?)))
            .collect();
        let mut order: Vec<(&Aggregation, (String, String), String)> = Vec::new();
        while !left.is_empty() {
            let ready = left.iter().position(|(one, _)| {
                let sources = one.sources(own);
                let mut others = left.iter().filter(|(other, _)| !std::ptr::eq(*other, *one));
                !others.any(|(_, result)| sources.contains(result))
            });
            let (one, into) = left.remove(ready.unwrap_or(0));
            let whole = namespace(&into.0, &into.1);
            let others = order.iter().map(|(other, into, _)| (*other, into));
            let others = others.chain(left.iter().map(|(other, into)| (*other, into)));
            let shared = others.filter(|(_, other)| **other == into).count() > 0;
            let used = |name: &String| order.iter().any(|(_, _, other)| other == name);
            let mut object = whole.clone();
            if shared {
                let from = &one.collection;
                object = format!("{whole} (from {from})");
                let mut n = 2;
                while used(&object) {
                    object = format!("{whole} (from {from}, {n})");
                    n += 1;
                }
            }
            order.push((one, into, object));
        }
        order
    }
}

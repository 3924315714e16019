//! Which fields a filter names, and what it makes of a document that has none of that name.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::{Bson, Document};

use super::fields::{Kinds, both};

/// Whether a condition is met by a document without the field that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// It is.
    Met,
    /// It is not.
    Unmet,
    /// Only the server could tell, or one condition is and another is not.
    Unknown,
}

impl Without {
    fn negated(self, negated: bool) -> Without {
        match self {
            Without::Met if negated => Without::Unmet,
            Without::Unmet if negated => Without::Met,
            same => same,
        }
    }

    /// Of two conditions that both have to be met.
    fn and(self, other: Without) -> Without {
        match (self, other) {
            (Without::Unmet, _) | (_, Without::Unmet) => Without::Unmet,
            (Without::Met, Without::Met) => Without::Met,
            _ => Without::Unknown,
        }
    }
}

/// What a filter makes of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Met {
    /// Whether it is met without.
    pub(super) without: Without,
    /// What the field is compared with.
    pub(super) kinds: Kinds,
}

/// What a filter names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// The fields, and what it makes of them.
    pub(super) fields: BTreeMap<String, Met>,
    /// An operator that may name others, in a way that only the server follows.
    pub(super) opaque: Option<String>,
}

/// The fields that a filter names.
pub(super) fn named(filter: &Document) -> Named {
    let mut found = Named::default();
    found.of_filter(filter, "", false);
    found
}

/// Operators that no rule can use, since the server takes them only at certain places, or not
/// beside the index that a rule goes along; and what to write instead.
pub(super) fn unusable(filter: &Document) -> Option<(String, &'static str)> {
    let of_value = |value: &Bson| match value {
        Bson::Document(inner) => unusable(inner),
        Bson::Array(parts) => parts
            .iter()
            .filter_map(Bson::as_document)
            .find_map(unusable),
        _ => None,
    };
    filter.iter().find_map(|(key, value)| {
        let why = match key.as_str() {
            "$near" | "$nearSphere" => {
                "which sorts by distance; write `$geoWithin` with `$centerSphere`"
            }
            "$text" => "which only goes along a text index of its own; write `$regex`, or a field that says it",
            _ => return of_value(value),
        };
        Some((key.clone(), why))
    })
}

fn is_condition(value: &Document) -> bool {
    value.keys().next().is_some_and(|key| key.starts_with('$'))
}

impl Named {
    /// Takes in what else is made of a field.
    fn note(&mut self, path: String, without: Without, kinds: Kinds) {
        match self.fields.get_mut(&path) {
            Some(met) => {
                if met.without != without {
                    met.without = Without::Unknown;
                }
                met.kinds = both(met.kinds.take(), kinds);
            }
            None => {
                self.fields.insert(path, Met { without, kinds });
            }
        }
    }

    fn of_filter(&mut self, filter: &Document, above: &str, negated: bool) {
        for (key, value) in filter {
            match (key.as_str(), value) {
                ("$and" | "$or" | "$nor", Bson::Array(parts)) => {
                    for part in parts.iter().filter_map(Bson::as_document) {
                        self.of_filter(part, above, negated != (key == "$nor"));
                    }
                }
                ("$expr", value) => self.of_expression(value),
                ("$jsonSchema", Bson::Document(schema)) => self.of_schema(schema, ""),
                ("$comment", _) => {}
                (key, value) if !key.starts_with('$') => {
                    let path = format!("{above}{key}");
                    self.below(&path, value, negated);
                    let without = without(value).negated(negated);
                    self.note(path, without, kinds_of(value));
                }
                (operator, _) => self.opaque = Some(operator.to_owned()),
            }
        }
    }

    /// Fields of embedded documents that a condition names.
    fn below(&mut self, path: &str, condition: &Bson, negated: bool) {
        let Bson::Document(condition) = condition else {
            return;
        };
        if !is_condition(condition) {
            // Equal to a whole document.
            for (key, value) in condition {
                let inner = format!("{path}.{key}");
                self.below(&inner, value, negated);
                self.note(inner, Without::Unmet.negated(negated), kind_of(value));
            }
            return;
        }
        for (operator, value) in condition {
            match (operator.as_str(), value) {
                ("$elemMatch", Bson::Document(inner)) if !is_condition(inner) => {
                    self.of_filter(inner, &format!("{path}."), negated);
                }
                ("$not", value) => self.below(path, value, !negated),
                ("$all", Bson::Array(parts)) => {
                    let parts = parts.iter().filter(|part| {
                        part.as_document()
                            .is_some_and(|part| part.contains_key("$elemMatch"))
                    });
                    parts.for_each(|part| self.below(path, part, negated));
                }
                _ => {}
            }
        }
    }

    /// Paths in an expression. What is not there is less than everything else: only the server
    /// knows what comes of that.
    fn of_expression(&mut self, expression: &Bson) {
        match expression {
            Bson::String(text) => match path(text) {
                Some(path) => self.note(path.to_owned(), Without::Unknown, None),
                // A field of what a variable stands for.
                None if text.starts_with("$$") && text.contains('.') => {
                    self.opaque = text.split('.').next().map(str::to_owned);
                }
                None => {}
            },
            Bson::Array(parts) => parts.iter().for_each(|part| self.of_expression(part)),
            Bson::Document(parts) => {
                for (operator, value) in parts {
                    self.of_operator(operator, value);
                }
            }
            _ => {}
        }
    }

    fn of_operator(&mut self, operator: &str, value: &Bson) {
        match operator {
            "$literal" => {}
            "$function" | "$accumulator" | "$objectToArray" => {
                self.opaque = Some(operator.to_owned());
                self.of_expression(value);
            }
            "$getField" => {
                let (field, input) = match value {
                    Bson::Document(of) if of.contains_key("field") => {
                        (of.get("field"), of.get("input"))
                    }
                    field => (Some(field), None),
                };
                let of_root = matches!(
                    input.map(Bson::as_str),
                    None | Some(Some("$$ROOT" | "$$CURRENT"))
                );
                match field.and_then(Bson::as_str) {
                    Some(name) if of_root && !name.starts_with('$') && !name.contains('.') => {
                        self.note(name.to_owned(), Without::Unknown, None);
                    }
                    _ => self.opaque = Some(operator.to_owned()),
                }
                input.iter().for_each(|input| self.of_expression(input));
            }
            "$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte" | "$in" => {
                let pair = value.as_array().map(Vec::as_slice);
                let field = |value: &Bson| value.as_str().and_then(path).map(str::to_owned);
                match pair {
                    Some([left, right]) if field(left).is_some() => {
                        let kinds = match right {
                            Bson::Array(values) if operator == "$in" => of_all(values),
                            right => literal(right),
                        };
                        if let Some(left) = field(left) {
                            self.note(left, Without::Unknown, kinds);
                        }
                        self.of_expression(right);
                    }
                    Some([left, right]) if field(right).is_some() && operator != "$in" => {
                        if let Some(right) = field(right) {
                            self.note(right, Without::Unknown, literal(left));
                        }
                        self.of_expression(left);
                    }
                    _ => self.of_expression(value),
                }
            }
            _ => self.of_expression(value),
        }
    }

    fn of_schema(&mut self, schema: &Document, above: &str) {
        for (key, value) in schema {
            match (key.as_str(), value) {
                ("required", Bson::Array(names)) => {
                    for name in names.iter().filter_map(Bson::as_str) {
                        self.note(format!("{above}{name}"), Without::Unknown, None);
                    }
                }
                ("properties", Bson::Document(properties)) => {
                    for (name, property) in properties {
                        let path = format!("{above}{name}");
                        self.note(path.clone(), Without::Unknown, None);
                        if let Bson::Document(property) = property {
                            self.of_schema(property, &format!("{path}."));
                        }
                    }
                }
                ("items" | "additionalItems" | "not", Bson::Document(inner)) => {
                    self.of_schema(inner, above);
                }
                ("items" | "allOf" | "anyOf" | "oneOf", Bson::Array(parts)) => {
                    for part in parts.iter().filter_map(Bson::as_document) {
                        self.of_schema(part, above);
                    }
                }
                ("patternProperties" | "dependencies", _) => {
                    self.opaque = Some("$jsonSchema".to_owned());
                }
                _ => {}
            }
        }
    }
}

/// The field that a text in an expression stands for.
fn path(text: &str) -> Option<&str> {
    let starts = ["$$ROOT.", "$$CURRENT.", "$"];
    let path = starts.iter().find_map(|start| text.strip_prefix(start))?;
    (!path.is_empty() && !path.starts_with('$')).then_some(path)
}

/// Whether a condition on a field is met by a document without it, as the manual says of each
/// operator; where nothing is compared, nothing is met, except with null.
fn without(condition: &Bson) -> Without {
    let met = |is_met: bool| match is_met {
        true => Without::Met,
        false => Without::Unmet,
    };
    let null = |value: &Bson| match value {
        Bson::MinKey | Bson::MaxKey => Without::Unknown,
        value => met(*value == Bson::Null),
    };
    let Bson::Document(operators) = condition else {
        return null(condition);
    };
    if !is_condition(operators) {
        return Without::Unmet;
    }
    let each = operators
        .iter()
        .filter(|(operator, _)| *operator != "$options")
        .map(|(operator, value)| match (operator.as_str(), value) {
            ("$eq" | "$gte" | "$lte", value) => null(value),
            ("$gt" | "$lt", Bson::MinKey | Bson::MaxKey) => Without::Unknown,
            ("$ne", value) => null(value).negated(true),
            ("$in", Bson::Array(values)) => met(values.contains(&Bson::Null)),
            ("$nin", Bson::Array(values)) => met(!values.contains(&Bson::Null)),
            ("$not", value) => without(value).negated(true),
            ("$exists", value) => match value {
                Bson::Boolean(exists) => met(!exists),
                Bson::Int32(n) => met(*n == 0),
                Bson::Int64(n) => met(*n == 0),
                Bson::Double(n) => met(*n == 0.0),
                _ => Without::Unknown,
            },
            ("$all", Bson::Array(values)) if values.contains(&Bson::Null) => Without::Unknown,
            (
                "$gt" | "$lt" | "$all" | "$size" | "$mod" | "$regex" | "$type" | "$elemMatch"
                | "$geoWithin" | "$geoIntersects" | "$bitsAllSet" | "$bitsAllClear" | "$bitsAnySet"
                | "$bitsAnyClear",
                _,
            ) => Without::Unmet,
            _ => Without::Unknown,
        });
    each.reduce(Without::and).unwrap_or(Without::Unknown)
}

/// The types of what a condition compares a field with.
fn kinds_of(condition: &Bson) -> Kinds {
    let Bson::Document(operators) = condition else {
        return kind_of(condition);
    };
    let each = operators
        .iter()
        .filter(|(operator, _)| *operator != "$options")
        .map(|(operator, value)| match (operator.as_str(), value) {
            ("$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte", value) => kind_of(value),
            ("$in" | "$nin" | "$all", Bson::Array(values)) => of_all(values),
            ("$not", value) => kinds_of(value),
            ("$regex", _) => Some(BTreeSet::from(["string"])),
            ("$mod", _) => Some(BTreeSet::from(["number"])),
            ("$size", _) => Some(BTreeSet::from(["array"])),
            _ => None,
        });
    each.reduce(both).flatten()
}

fn of_all(values: &[Bson]) -> Kinds {
    values.iter().map(kind_of).reduce(both).flatten()
}

fn kind_of(value: &Bson) -> Kinds {
    let kind = match value {
        Bson::String(_) | Bson::RegularExpression(_) => "string",
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_) => "number",
        Bson::Boolean(_) => "bool",
        Bson::DateTime(_) => "date",
        Bson::ObjectId(_) => "objectId",
        _ => return None,
    };
    Some(BTreeSet::from([kind]))
}

/// The type of a value in an expression, where it is one.
fn literal(value: &Bson) -> Kinds {
    match value {
        Bson::String(text) if text.starts_with('$') => None,
        value => kind_of(value),
    }
}

#[cfg(test)]
mod tests;

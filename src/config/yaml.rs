//! Text to a tree with places, through the events of `granit-parser`.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span as Region};

use super::files::File;
use super::node::{Content, Entries, Entry, Node, Scalar, Span};
use crate::values::Filled;

/// The tree of the file's one document, or `None` where its syntax is broken.
///
/// What YAML knows but a configuration is better off without (anchors, aliases, merge keys,
/// tags, a second document, a key given twice) is reported, and the rest is read on.
pub(super) fn parse(file: &mut File) -> Option<Node> {
    let text = file.text.clone();
    let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
    let events = Parser::new_from_str_with_options(&text, options);
    let root = Reader { events, file }.document();
    match root {
        Ok(root) => {
            file.parsed = true;
            Some(root)
        }
        Err(why) => {
            let place = why.marker();
            let span = Span {
                line: place.line(),
                column: place.col() + 1,
                ..Span::default()
            };
            let problem = file.problem(span, format!("not valid YAML: {}", why.info()));
            let line = text
                .lines()
                .nth(span.line.saturating_sub(1))
                .unwrap_or_default();
            let tab = line.trim_start_matches(' ').starts_with('\t') || why.info().contains("tab");
            // The values of the line, wherever they stand in it.
            let begins = |signs: &[char]| {
                let values = line.split([':', '[', '{', ',']).skip(1);
                let mut values = values.chain(line.trim_start().strip_prefix("- "));
                values.any(|value| value.trim_start().starts_with(signs))
            };
            file.report(if tab {
                problem.hint("YAML is indented with spaces, not with tabs")
            } else if begins(&['*']) {
                problem.hint("what begins with `*` needs quotes: `cron: \"* 2 * * *\"`")
            } else if begins(&['@', '`', '%']) {
                problem.hint(
                    "what begins with `@`, `%` or a backtick needs quotes: `cron: \"@daily\"`",
                )
            } else {
                problem
            });
            None
        }
    }
}

struct Reader<'a, I: Iterator> {
    events: I,
    file: &'a mut File,
}

type Item<'a> = Result<(Event<'a>, Region), ScanError>;

impl<'a, I: Iterator<Item = Item<'a>>> Reader<'_, I> {
    fn document(&mut self) -> Result<Node, ScanError> {
        let mut root = None;
        while let Some((event, region)) = self.events.next().transpose()? {
            match event {
                Event::DocumentStart(..) if root.is_some() => {
                    let problem = self
                        .file
                        .problem(span(&region), "a second document begins here");
                    self.file
                        .report(problem.hint("a file holds one document; remove the `---`"));
                    break;
                }
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                node => root = Some(self.node(node, &region)?),
            }
        }
        let nothing = || Node {
            span: Span {
                line: 1,
                column: 1,
                width: 0,
                end_line: 1,
            },
            content: Content::Map(Entries::default()),
        };
        Ok(root
            .filter(|root| !root.is_nothing())
            .unwrap_or_else(nothing))
    }

    fn node(&mut self, event: Event<'a>, region: &Region) -> Result<Node, ScanError> {
        let place = span(region);
        if event.anchor_id().is_some_and(|id| id > 0) && !matches!(event, Event::Alias(_)) {
            self.refuse(place, "anchors (`&name`) are not supported");
        }
        if event.tag().is_some() {
            self.refuse(place, "tags (`!name`) are not supported");
        }
        let content = match event {
            Event::Scalar(text, style, ..) => Content::Scalar(Scalar {
                text: text.into_owned(),
                written: None,
                filled: Filled::default(),
                plain: style == ScalarStyle::Plain,
            }),
            Event::SequenceStart(..) => Content::List(self.items()?),
            Event::MappingStart(..) => Content::Map(self.entries()?),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(place, "aliases (`*name`) are not supported");
                Content::Broken
            }
            _ => Content::Broken,
        };
        // A block has no width of its own: carets under its first line would mislead.
        let width = if matches!(content, Content::Scalar(_) | Content::Broken) {
            place.width
        } else {
            0
        };
        Ok(Node {
            span: Span { width, ..place },
            content,
        })
    }

    fn refuse(&mut self, place: Span, what: &str) {
        let problem = self.file.problem(place, what).hint("write the value out");
        self.file.report(problem);
    }

    fn next(&mut self) -> Result<Option<(Event<'a>, Region)>, ScanError> {
        self.events.next().transpose()
    }

    fn items(&mut self) -> Result<Vec<Node>, ScanError> {
        let mut items = Vec::new();
        while let Some((event, region)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, &region)?);
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Entries, ScanError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some((event, region)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, &region)?;
            let Some((event, region)) = self.next()? else {
                break;
            };
            let value = self.node(event, &region)?;
            let Some(name) = key.scalar().map(|scalar| scalar.text.clone()) else {
                if !matches!(key.content, Content::Broken) {
                    let problem = self.file.problem(key.span, "a key must be a word");
                    self.file.report(problem);
                }
                continue;
            };
            if name == "<<" {
                self.refuse(key.span, "merge keys (`<<`) are not supported");
                self.file.hide_by_key(&name, &value);
                continue;
            }
            if let Some(first) = places.get(&name).and_then(|place| entries.get(*place)) {
                let message = format!(
                    "`{name}` is given twice; the first is on line {}",
                    first.key_span.line
                );
                let problem = self.file.problem(key.span, message);
                self.file.report(problem);
                self.file.hide_by_key(&name, &value);
                continue;
            }
            places.insert(name.clone(), entries.len());
            entries.push(Entry {
                key: name,
                key_span: key.span,
                value,
            });
        }
        Ok(Entries::new(entries, places))
    }
}

fn span(region: &Region) -> Span {
    let (start, end) = (region.start, region.end);
    let one_line = start.line() == end.line();
    Span {
        line: start.line(),
        column: start.col() + 1,
        width: if one_line {
            end.col() - start.col().min(end.col())
        } else {
            1
        },
        end_line: if end.col() == 0 && !one_line {
            end.line() - 1
        } else {
            end.line()
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut file = File::new("x.yaml", text);
        parse(&mut file);
        file.into_problems()
            .iter()
            .map(|p| format!("{}:{} {}", p.line, p.column, p.message))
            .collect()
    }

    #[test]
    fn knows_the_place_of_every_key_and_value() {
        let mut file = File::new("x.yaml", "a: 1\nb:\n  c: [x, \"y z\"]\n");
        let root = parse(&mut file).unwrap();
        let c = root.get("b").unwrap().entry("c").unwrap();
        assert_eq!(
            (c.key_span.line, c.key_span.column, c.key_span.width),
            (3, 3, 1)
        );
        let second = &c.value.items()[1];
        assert_eq!(
            (second.span.line, second.span.column, second.span.width),
            (3, 10, 5)
        );
        assert_eq!(second.text(), Some("y z"));
        assert!(!file.has_problems());
    }

    #[test]
    fn refuses_what_a_configuration_can_do_without() {
        assert_eq!(
            problems("a: 1\na: 2\n"),
            ["2:1 `a` is given twice; the first is on line 1"]
        );
        assert_eq!(
            problems("a: &x 1\nb: *x\nc: *y\nd: {<<: 1}\ne: !!str 5\n"),
            [
                "1:7 anchors (`&name`) are not supported",
                "2:4 aliases (`*name`) are not supported",
                "3:4 aliases (`*name`) are not supported",
                "4:5 merge keys (`<<`) are not supported",
                "5:10 tags (`!name`) are not supported",
            ]
        );
        assert_eq!(
            problems("a: 1\n---\nb: 2\n"),
            ["2:1 a second document begins here"]
        );
        assert_eq!(problems("---\na: 1\n"), [""; 0]);
        assert_eq!(problems(""), [""; 0]);
        assert!(problems("a: [1, 2\n")[0].contains("not valid YAML"));
        assert!(problems("a:\n\tb: 1\n")[0].starts_with("2:"));
    }
}

//! The book in `docs`: every page is in it, every link leads somewhere, and every file it shows passes
//! the check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::support::workspace::Workspace;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the book, by their names.
fn pages() -> BTreeMap<String, String> {
    std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// Where the text links to, without what is in blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        if code {
            continue;
        }
        for (n, part) in line.split("](").enumerate() {
            if n > 0 {
                found.push(part.split(')').next().unwrap().to_owned());
            }
        }
        for part in line.split("src=\"").skip(1) {
            found.push(part.split('"').next().unwrap().to_owned());
        }
    }
    found
}

/// The anchors of a page, as GitHub and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut code = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        code ^= line.starts_with("```");
        if code || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let anchor: String = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        found.insert(anchor);
    }
    found
}

#[test]
fn every_page_is_in_the_book_once() {
    let pages = pages();
    let summary = links(&pages["SUMMARY.md"]);
    let linked: BTreeSet<&str> = summary.iter().map(String::as_str).collect();
    assert_eq!(linked.len(), summary.len(), "a page is there twice");
    let written: BTreeSet<&str> = pages.keys().map(String::as_str).collect();
    let missing: Vec<_> = written
        .difference(&linked)
        .filter(|name| **name != "SUMMARY.md")
        .collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
    let lost: Vec<_> = linked.difference(&written).collect();
    assert!(
        lost.is_empty(),
        "in docs/SUMMARY.md, but not written: {lost:?}"
    );
}

#[test]
fn every_link_leads_somewhere() {
    let root = root();
    let mut sources: Vec<PathBuf> = pages()
        .keys()
        .map(|name| root.join("docs").join(name))
        .collect();
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ] {
        sources.push(root.join(name));
    }
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in &sources {
        let text = std::fs::read_to_string(source).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => source.clone(),
                path => source.parent().unwrap().join(path),
            };
            let known = anchor.is_empty()
                || std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).contains(anchor));
            if !target.exists() || !known {
                wrong.push(format!("{}: {link}", source.display()));
            }
        }
    }
    assert!(seen > 60, "only {seen} links were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Blocks of YAML, with the line they begin at.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut block: Option<(usize, String)> = None;
    for (n, line) in text.lines().enumerate() {
        match (&mut block, line.trim_end()) {
            (None, "```yaml") => block = Some((n + 1, String::new())),
            (Some(_), "```") => found.extend(block.take()),
            (Some((_, text)), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    found
}

fn top_level(block: &str) -> BTreeSet<&str> {
    block
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(':'))
        .map(|(key, _)| key)
        .collect()
}

/// What stands between these words and the next `]`, one by one.
fn listed<'a>(block: &'a str, opening: &str) -> Vec<&'a str> {
    block
        .split(opening)
        .skip(1)
        .filter_map(|rest| rest.split(']').next())
        .flat_map(|names| names.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

const TARGETS: &str = "targets:
  app: { engine: postgres, url: \"postgres://maint@db.example.com/app\" }
  warehouse: { engine: postgres, url: \"postgres://maint@db.example.com/warehouse\" }
  content: { engine: mongodb, url: \"mongodb://db.example.com/content\" }
";

/// The folder that a block of the book is a part of, with what it leaves out made up.
fn folder_with(block: &str) -> Workspace {
    let keys = top_level(block);
    let of_a_task = ["throttle", "limits", "retries", "window", "options"];
    let mut workspace = if keys.contains("kind") {
        Workspace::new(TARGETS).task("shown", block)
    } else if keys.iter().all(|key| of_a_task.contains(key)) {
        let task = format!("kind: analyze\ntarget: app\n{block}");
        Workspace::new(TARGETS).task("shown", &task)
    } else {
        let mut schedules = block.to_owned();
        if !keys.contains("targets") {
            schedules.push_str(TARGETS);
        }
        let needs_mail = ["email:", "escalate_to:"]
            .iter()
            .any(|key| block.contains(key));
        if needs_mail && !keys.contains("smtp") {
            schedules
                .push_str("smtp: { url: \"smtps://mail.example.com\", from: m@example.com }\n");
        }
        let mut workspace = Workspace::new(&schedules);
        for task in listed(block, "tasks: [") {
            workspace = workspace.task(task, "kind: analyze\ntarget: app\n");
        }
        workspace
    };
    if block.contains("inventory.json") {
        let url = "postgres://maint@db.example.com/shard";
        let text = format!("[{{ \"name\": \"shard_1\", \"url\": \"{url}\" }}]\n");
        workspace.file("inventory.json", &text);
    }
    for variable in block.split("${").skip(1) {
        let name: String = variable
            .chars()
            .take_while(|c| c.is_ascii_uppercase() || *c == '_')
            .collect();
        let value = match name.as_str() {
            "SMTP_URL" => "smtps://maint:word@mail.example.com",
            "MONGODB_URL" => "mongodb://db.example.com/app",
            name if name.contains("ARCHIVE") => "file:///var/lib/maint/archive",
            name if name.contains("SLACK") || name.contains("WEBHOOK") => "https://example.com/x",
            _ => "postgres://maint@db.example.com/app",
        };
        workspace = workspace.env(&name, value);
    }
    workspace
}

#[test]
fn every_file_in_the_book_passes_the_check() {
    let mut pages = pages();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    pages.insert("../README.md".to_owned(), readme);
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, text) in &pages {
        for (line, block) in blocks(text) {
            seen += 1;
            let output = folder_with(&block).run(["check"]);
            if output.code != 0 {
                wrong.push(format!("docs/{name}:{line}\n{}", output.stderr));
            }
        }
    }
    assert!(seen > 20, "only {seen} blocks were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever a page shows as a command is one.
#[test]
fn every_command_in_the_book_exists() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, text) in pages() {
        let mut code = false;
        for line in text.lines() {
            code ^= line.starts_with("```");
            let command = line.trim_start().strip_prefix("maint ").filter(|_| code);
            let Some(command) = command else { continue };
            let words: Vec<&str> = command
                .split_whitespace()
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
                .take_while(|word| !word.starts_with('-'))
                .collect();
            let flags = command.split(['#', '|', '>']).next().unwrap();
            let flags = flags
                .split_whitespace()
                .filter(|word| word.starts_with("--"));
            seen += 1;
            // The longest beginning that is a verb has a help with all its options.
            let help = (1..=words.len()).rev().find_map(|n| {
                let output = crate::support::workspace::maint()
                    .args(&words[..n])
                    .arg("--help")
                    .output()
                    .unwrap();
                output
                    .status
                    .success()
                    .then(|| String::from_utf8(output.stdout).unwrap())
            });
            let Some(help) = help else {
                wrong.push(format!("docs/{name}: maint {command}"));
                continue;
            };
            for flag in flags {
                let flag = flag.split('=').next().unwrap();
                if !help.contains(flag) {
                    wrong.push(format!("docs/{name}: maint {command}: no {flag}"));
                }
            }
        }
    }
    assert!(seen > 14, "only {seen} commands were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The book has every page of the list, links that lead somewhere, and words to search for.
#[test]
fn the_book_is_built_with_every_page_and_a_search() {
    let out = tempfile::tempdir().unwrap();
    let tools = std::env::var("MAINT_TEST_TOOLS").expect(
        "MAINT_TEST_TOOLS names the folder of the Python tools: run ./scripts/test, or export MAINT_TEST_TOOLS=$(./scripts/tools)",
    );
    let built = std::process::Command::new(format!("{tools}/bin/mdbook"))
        .args(["build", "docs", "--dest-dir"])
        .arg(out.path())
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "{said}");
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed = summary
        .split("](")
        .skip(1)
        .map(|rest| rest.split(".md").next().unwrap());
    let mut pages = 0;
    let mut broken = Vec::new();
    for page in listed {
        let page = if page == "README" { "index" } else { page };
        let html = std::fs::read_to_string(out.path().join(format!("{page}.html"))).unwrap();
        pages += 1;
        for link in html.split("href=\"").skip(1) {
            let link = link.split(['"', '#']).next().unwrap();
            let away = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
            if !away && !out.path().join(link).exists() {
                broken.push(format!("{page}.html: {link}"));
            }
        }
    }
    assert!(pages > 30, "only {pages} pages are listed");
    assert!(broken.is_empty(), "{broken:#?}");
    let index = std::fs::read_dir(out.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("searchindex"))
        .expect("a search index");
    assert!(std::fs::read_to_string(index).unwrap().contains("bloat"));
}

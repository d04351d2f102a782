//! Each relative link of the documents leads to a file, and each test named after the link is in that file:
//! ``[outages](crates/pool/tests/it/outage.rs) `an_exhausted_pool_…` `` names a test by its beginning.

#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A link to a file of the repository, and the tests named after it.
#[derive(Debug, PartialEq)]
struct Link {
    target: String,
    tests: Vec<String>,
}

/// The relative links of a Markdown text, code blocks left out.
fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (_, block) in text.split("```").enumerate().filter(|(i, _)| i % 2 == 0) {
        let mut rest = block;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else {
                break;
            };
            rest = after;
            if !target.contains("://") && !target.starts_with('#') {
                found.push(Link {
                    target: target.split('#').next().unwrap().to_owned(),
                    tests: names(after),
                });
            }
        }
    }
    found
}

/// The names in backquotes at the beginning of a text, with commas between them.
fn names(mut text: &str) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((name, after)) = text
        .trim_start_matches([',', ' ', '\n'])
        .strip_prefix('`')
        .and_then(|quoted| quoted.split_once('`'))
    {
        let is_test = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c);
        if name.contains('_') && name.chars().all(is_test) {
            names.push(name.to_owned());
        }
        text = after;
    }
    names
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let in_folder = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .collect::<Vec<_>>()
    };
    [root, &root.join("docs"), &root.join("examples")]
        .into_iter()
        .flat_map(in_folder)
        .collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_every_test_named_after_it_is_there() {
    let mut wrong = Vec::new();
    let mut named = 0;
    for document in documents() {
        for Link { target, tests } in links(&fs::read_to_string(&document).unwrap()) {
            let file = document.parent().unwrap().join(&target);
            if !file.exists() {
                wrong.push(format!("{}: no {target}", document.display()));
                continue;
            }
            if !target.ends_with(".rs") {
                continue;
            }
            let source = fs::read_to_string(&file).unwrap();
            for test in tests {
                named += 1;
                let beginning = test.strip_suffix('…');
                let wanted = match beginning {
                    Some(beginning) => format!("fn {beginning}"),
                    None => format!("fn {test}("),
                };
                if !source.contains(&wanted) {
                    wrong.push(format!("{}: no {test} in {target}", document.display()));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(
        named > 30,
        "only {named} tests are named: is the documents' form still understood?"
    );
}

#[test]
fn links_are_read_with_the_tests_named_after_them() {
    let text = "[a](x/y.rs) `one_test`, `another_…`; `no_test` [b](z.md#part) [c](https://d.e)\n\
                ```\n[in code](nowhere.rs)\n```\n[d](#here)";
    let link = |target: &str, tests: &[&str]| Link {
        target: target.to_owned(),
        tests: tests.iter().map(ToString::to_string).collect(),
    };
    let expected = [link("x/y.rs", &["one_test", "another_…"]), link("z.md", &[])];
    assert_eq!(links(text), expected);
}

/// The parts of an example between `// begin: name` and `// end: name`.
fn parts(source: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut lines = source.lines();
    while let Some(name) = lines.find_map(|line| line.strip_prefix("// begin: ")) {
        let end = format!("// end: {name}");
        let part: Vec<_> = lines.by_ref().take_while(|line| *line != end).collect();
        parts.push(part.join("\n"));
    }
    parts
}

#[test]
fn the_code_of_the_page_about_cached_tables_is_that_of_its_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/caching-your-own-table.md")).unwrap();
    let example = fs::read_to_string(root.join("examples/cached_table.rs")).unwrap();
    let codes: Vec<_> = page
        .split("```rust\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .collect();
    assert_eq!(codes.len(), 2);
    let parts = parts(&example);
    for (code, _) in codes {
        assert!(parts.iter().any(|part| part == code), "not in the example:\n{code}");
    }
    let sql: Vec<_> = page
        .split("```sql\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .collect();
    assert!(
        sql[0].0.lines().all(|line| example.contains(line)),
        "not in the example:\n{}",
        sql[0].0
    );
}

//! The reader against python-dotenv itself.

use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;

use super::*;

use cenote_testing::Oracle;

/// As `load_dotenv` does it, which leaves what the environment has as it is.
const PROGRAM: &str = r#"
import io, os
from dotenv.main import DotEnv
os.environ.clear()
os.environ["FROM_ENV"] = "outside"
os.environ["EMPTY"] = ""
def answer(text=b""):
    stream = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    pairs = DotEnv(dotenv_path=None, stream=stream, override=False).dict()
    return [field for name, value in pairs.items()
            for field in (name.encode(), b"-" if value is None else b"+" + value.encode())]
"#;

fn theirs(text: &str) -> HashMap<String, Option<String>> {
    static ORACLE: Mutex<Option<Oracle>> = Mutex::new(None);
    let ask = |oracle: &mut Option<Oracle>| {
        let oracle = oracle.get_or_insert_with(|| Oracle::start(PROGRAM));
        oracle.ask(&[text.as_bytes()]).unwrap()
    };
    let fields = ask(&mut ORACLE.lock().unwrap_or_else(PoisonError::into_inner));
    let mut fields = fields.into_iter().map(|field| String::from_utf8(field).unwrap());
    let mut pairs = HashMap::new();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        pairs.insert(name, value.strip_prefix('+').map(str::to_owned));
    }
    pairs
}

fn read(text: &str) -> (Vec<Assignment>, Vec<SyntaxError>) {
    parse(text, &|name| match name {
        "FROM_ENV" => Some("outside".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    })
}

fn ours(text: &str) -> HashMap<String, Option<String>> {
    let (assignments, _) = read(text);
    assignments.into_iter().map(|it| (it.name, it.value)).collect()
}

#[test]
fn lines_that_people_write_are_read_as_python_dotenv_reads_them() {
    for text in [
        "A=1",
        "A = 1 ",
        "export A=1",
        "export\tA=1",
        "export=1",
        "A=",
        "A=#x",
        "A=  # nothing",
        "A=a b",
        "A=a # note",
        "A=a#b",
        "A='a # b' # note",
        r#"A="a\"b\n\q""#,
        r"A='a\n'",
        r"A='a\'b'",
        r"A='a\'",
        r"A='a\\'",
        "A='a\\\nb'",
        "\u{feff}A=1",
        "A=pa$$w$rd",
        "A='${FROM_ENV}'",
        "A=x${FROM_ENV}y",
        "A=\"${NONE:-other}\"",
        "A=${EMPTY:-other}",
        "A=${NONE}",
        "A=${NONE:other}",
        "A=${x",
        "B=1\nA=${B}${B:-2}",
        "A=1\r",
        "A=1\r\nB=2\r\n",
        "A=\"x\r\ny\"",
        "A=\"x\ny\"\nB=2",
        "A=1\nA=2",
        "A",
        "A # note",
        "'A'=1",
        "'A B'=1",
        "A:1",
        "A: 1",
        "A='x' y\nB=2",
        "A='open\nB=2",
        "=x\nA=1",
        "no equals\nA=1",
        "A=1 # x\n  \n\n#\n B=2",
        "A.b-c=1",
        "é=1",
        "A==1",
        "A=\u{a0}x",
    ] {
        assert_eq!(ours(text), theirs(text), "{text:?}");
    }
}

#[test]
fn what_is_not_set_anywhere_is_noticed() {
    let (assignments, _) = read("A=${NONE}\nB=${NONE:-x}${EMPTY}\nC=${A}\n");
    let unresolved: Vec<_> = assignments.iter().map(|it| it.is_unresolved).collect();
    assert_eq!(unresolved, [true, false, false]);
}

#[test]
fn lines_are_counted_across_comments_and_quoted_line_breaks() {
    let (assignments, errors) = read("# one\n\nA='x\ny'\nB=2\n");
    assert_eq!(errors, []);
    let lines: Vec<_> = assignments.iter().map(|it| (it.name.as_str(), it.line)).collect();
    assert_eq!(lines, [("A", 3), ("B", 5)]);
}

#[test]
fn every_broken_line_is_named_and_the_others_still_count() {
    let (assignments, errors) = read("A=1\nno equals\n=x\nB=2\nexport C='x' y\nF=\"open\nG=3\n");
    assert_eq!(assignments.len(), 3);
    let found: Vec<_> = errors.iter().map(|error| (error.line, error.name.as_deref())).collect();
    assert_eq!(found, [(2, Some("no")), (3, None), (5, Some("C")), (6, Some("F"))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_file_is_read_as_python_dotenv_reads_it(
        text in "(A|B|export|export |FROM_ENV|=|=|= |'|\"|\\\\|#| #|\\$\\{|\\}|:-|:|\n|\n|\r\n|\r| |\t|\u{b}|\u{1c}|\u{85}|\u{a0}|x|n|é){0,24}"
    ) {
        prop_assert_eq!(ours(&text), theirs(&text), "{:?}", text);
    }

    #[test]
    fn any_line_is_read_as_python_dotenv_reads_it(
        lines in proptest::collection::vec(("(export )?[A-Z]{1,2}", " ?= ?", "(\\PC|['\"\\\\#$\\{\\}: \t]){0,12}"), 0..4),
        end in "\n?",
    ) {
        let lines: Vec<_> = lines.iter().map(|(name, equals, value)| format!("{name}{equals}{value}")).collect();
        let text = lines.join("\n") + &end;
        prop_assert_eq!(ours(&text), theirs(&text), "{:?}", text);
    }

    #[test]
    fn a_single_quoted_value_without_references_is_kept_as_it_is(value in "[^'\\\\$\r]{0,30}") {
        prop_assert_eq!(&ours(&format!("A='{value}'\n"))["A"], &Some(value));
    }
}

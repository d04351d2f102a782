//! The reader of SQL texts: nothing makes it panic, no statement is excused twice, and what stands in a comment counts
//! for nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|sql: &str| {
    let (hidden, harmless) = cenote_postgres::side_effects(sql);
    let statements = sql.matches(';').count() + 1;
    assert!(harmless as usize <= statements);
    let comment = sql.replace(['*', '/'], "");
    let (beside, more) = cenote_postgres::side_effects(&format!("/*{comment}*/{sql}"));
    assert_eq!(more, harmless);
    // Of a doubtful text anything that is mentioned counts.
    assert!(beside || !hidden);
});

//! Rows become values, and one that does not fit is an error.

use cenote_postgres::Error;

use crate::support::database;

#[tokio::test]
async fn rows_become_tuples_and_single_columns_values() {
    let pool = database().await.pool(1);
    let rows = "SELECT n::bigint, 'name ' || n, nullif(n, 2) FROM generate_series(1, $1) n";
    let all: Vec<(i64, String, Option<i32>)> = pool.query_as(rows, &[&2]).await.unwrap();
    assert_eq!(all, [(1, "name 1".to_owned(), Some(1)), (2, "name 2".to_owned(), None)]);
    let one: (i64, String, Option<i32>) = pool.query_one_as(rows, &[&1]).await.unwrap();
    assert_eq!(one, all[0]);
    let none: Option<(i64, String, Option<i32>)> = pool.query_opt_as(rows, &[&0]).await.unwrap();
    assert_eq!(none, None);

    let numbers = "SELECT n FROM generate_series(1, $1) n";
    assert_eq!(pool.query_scalar::<i32>(numbers, &[&3]).await.unwrap(), [1, 2, 3]);
    assert_eq!(pool.query_one_scalar::<i32>(numbers, &[&1]).await.unwrap(), 1);
    assert_eq!(pool.query_opt_scalar::<i32>(numbers, &[&0]).await.unwrap(), None);

    let mut transaction = pool.begin().await.unwrap();
    let savepoint = transaction.savepoint().await.unwrap();
    assert_eq!(savepoint.query_one_scalar::<i32>(numbers, &[&1]).await.unwrap(), 1);
    assert_eq!(savepoint.query_scalar::<i32>(numbers, &[&2]).await.unwrap(), [1, 2]);
    assert_eq!(
        savepoint.query_opt_scalar::<i32>(numbers, &[&1]).await.unwrap(),
        Some(1)
    );
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_an_error() {
    let pool = database().await.pool(1);
    let wrong_type = pool.query_one_scalar::<i64>("SELECT 1", &[]).await.unwrap_err();
    let null = pool.query_scalar::<i32>("SELECT NULL::int", &[]).await.unwrap_err();
    let wrong_count = pool.query_one_as::<(i32,)>("SELECT 1, 2", &[]).await.unwrap_err();
    for error in [&wrong_type, &null, &wrong_count] {
        assert!(matches!(error, Error::Decode(_)), "{error:?}");
    }
    let text = "cannot read a row: the row has 2 columns instead of 1";
    assert_eq!(wrong_count.to_string(), text);
    let several = pool
        .query_one_scalar::<i32>("SELECT generate_series(1, 3)", &[])
        .await
        .unwrap_err();
    assert!(matches!(several, Error::RowCount(3)), "{several:?}");
}

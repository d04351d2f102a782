//! A round trip of a value of each crate whose types the features of cenote-postgres pass through, and derived rows.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::fmt::Debug;

use cenote_local::PostgresServer;
use cenote_postgres::{
    Config, Error, FromRow, Pool,
    tokio_postgres::types::{FromSqlOwned, ToSql},
};

struct Database {
    pool: Pool,
    _server: PostgresServer,
}

async fn database() -> Database {
    let server = PostgresServer::temporary().start().await.unwrap();
    let pool = Pool::new(Config::from_url(&server.url()).unwrap()).unwrap();
    Database { pool, _server: server }
}

impl Database {
    async fn returns<T: ToSql + FromSqlOwned + PartialEq + Debug + Sync>(&self, kind: &str, value: T) {
        let sql = format!("SELECT $1::{kind}");
        let back: T = self.pool.query_one_scalar(&sql, &[&value]).await.unwrap();
        assert_eq!(back, value, "{kind}");
    }
}

#[tokio::test]
async fn values_of_each_crate_come_back_as_they_were_sent() {
    let database = database().await;
    database.returns("uuid", uuid::Uuid::from_u128(0x1234_5678)).await;
    let moment = chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap();
    database.returns("timestamptz", moment).await;
    database.returns("date", moment.date_naive()).await;
    let moment = time::OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap();
    database.returns("timestamptz", moment).await;
    database.returns("date", moment.date()).await;
    let moment = jiff::Timestamp::from_second(1_790_000_000).unwrap();
    database.returns("timestamptz", moment).await;
    database.returns("date", jiff::civil::date(2026, 11, 30)).await;
    database.returns("jsonb", serde_json::json!({ "pieces": [1, 2] })).await;
    database.returns("numeric", rust_decimal::Decimal::new(12_345, 2)).await;
    database.returns("int[]", [1, 2, 3]).await;
    database.returns("text", smol_str::SmolStr::new("lamp")).await;
    database
        .returns("varbit", bit_vec::BitVec::<u32>::from_bytes(&[0b1010_0000]))
        .await;
    database
        .returns("inet", "10.0.0.1/8".parse::<cidr::IpInet>().unwrap())
        .await;
    database
        .returns("macaddr", eui48::MacAddress::new([1, 2, 3, 4, 5, 6]))
        .await;
    database.returns("point", geo_types::Point::new(1.5, -2.5)).await;
}

#[derive(Debug, PartialEq, FromRow)]
struct Size {
    width: i32,
    height: Option<i32>,
}

#[derive(Debug, PartialEq, FromRow)]
struct Goods<T> {
    id: T,
    #[from_row(rename = "label")]
    name: String,
    r#type: String,
    #[from_row(flatten)]
    size: Size,
    #[from_row(skip)]
    selected: bool,
}

#[derive(Debug, PartialEq, FromRow)]
struct Pair(i32, #[from_row(rename = "label")] String);

#[tokio::test]
async fn derived_rows_read_each_field_from_its_column() {
    let database = database().await;
    let sql = "SELECT 7::bigint AS id, 'lamp' AS label, 'light' AS type, 3 AS width, NULL::int AS height";
    let goods: Goods<i64> = database.pool.query_one_as(sql, &[]).await.unwrap();
    let expected = Goods {
        id: 7,
        name: "lamp".to_owned(),
        r#type: "light".to_owned(),
        size: Size { width: 3, height: None },
        selected: false,
    };
    assert_eq!(goods, expected);
    let pair: Pair = database
        .pool
        .query_one_as("SELECT 7, 'lamp' AS label", &[])
        .await
        .unwrap();
    assert_eq!(pair, Pair(7, "lamp".to_owned()));
    let error = database
        .pool
        .query_one_as::<Size>("SELECT 1 AS width", &[])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Decode(_)), "{error:?}");
    assert!(error.to_string().contains("height"), "{error}");
}

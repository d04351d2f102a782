//! The name under which the server lists a connection.

use cenote_postgres::{Config, Pool};

use crate::support;

#[tokio::test]
async fn the_application_name_is_that_of_the_url_or_else_cenote() {
    let server = support::server().await;
    for (options, expected) in [("", "cenote"), ("application_name=till", "till")] {
        let config = Config::from_url(&format!("{}?{options}", server.url())).unwrap();
        let pool = Pool::new(config).unwrap();
        let connection = pool.get().await.unwrap();
        let own = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let row = connection.query_one(own, &[]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), expected);
    }
}

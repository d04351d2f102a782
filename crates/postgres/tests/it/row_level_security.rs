//! The code of docs/row-level-security.md: each caller sees the rows of its tenant, and no setting reaches another caller.

use cenote_postgres::{Connection, Decision, Error, Hooks, Pool, Result};

use crate::support::{Database, SOON, database};

tokio::task_local! {
    static TENANT: String;
}

/// Rows of two tenants, and a role that a policy applies to.
async fn tenants(role: &str) -> Database {
    let database = database().await;
    let set_up = format!(
        "CREATE ROLE {role};
         CREATE TABLE note (tenant text NOT NULL, text text NOT NULL);
         INSERT INTO note VALUES ('blue', 'sea'), ('blue', 'sky'), ('green', 'grass');
         GRANT SELECT, INSERT ON note TO {role};
         ALTER TABLE note ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON note USING (tenant = current_setting('app.tenant', true))"
    );
    database.watcher().await.run(&set_up).await;
    database
}

/// A role for every session, and the tenant of the caller's task for every use.
fn by_hook(role: &'static str) -> Hooks {
    Hooks::default()
        .after_connect(move |connection| {
            Box::pin(async move { connection.batch_execute(&format!("SET ROLE {role}")).await })
        })
        .before_acquire(|connection, _info| {
            Box::pin(async move {
                if let Ok(tenant) = TENANT.try_with(Clone::clone) {
                    let set = "SELECT set_config('app.tenant', $1, false)";
                    connection.execute(set, &[&tenant]).await?;
                }
                Ok(Decision::Keep)
            })
        })
}

async fn notes(connection: &Connection) -> Result<Vec<String>> {
    let rows = connection.query("SELECT text FROM note ORDER BY text", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn own_notes(pool: &Pool) -> Vec<String> {
    notes(&pool.get().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn each_task_sees_the_rows_of_its_tenant_and_a_task_without_one_sees_none() {
    let database = tenants("rls_by_hook").await;
    let mut config = database.config(2);
    config.pool.check_timeout = SOON;
    let pool = Pool::with_hooks(config, by_hook("rls_by_hook")).unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (tenant, expected) = match task % 3 {
                0 => (Some("blue"), vec!["sea", "sky"]),
                1 => (Some("green"), vec!["grass"]),
                _ => (None, vec![]),
            };
            let pool = pool.clone();
            let work = async move {
                for _ in 0..10 {
                    assert_eq!(own_notes(&pool).await, expected);
                }
            };
            match tenant {
                Some(tenant) => tokio::spawn(TENANT.scope(tenant.to_owned(), work)),
                None => tokio::spawn(work),
            }
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let foreign = async {
        let insert = "INSERT INTO note VALUES ('green', 'moss')";
        pool.execute(insert, &[]).await
    };
    let error = TENANT.scope("blue".to_owned(), foreign).await.unwrap_err();
    assert!(matches!(&error, Error::Database(_)), "{error:?}");
}

/// The setting ends with the transaction, so nothing needs to be reset.
async fn notes_of(pool: &Pool, tenant: &str) -> Result<Vec<String>> {
    let transaction = pool.begin().await?;
    let set = "SELECT set_config('app.tenant', $1, true)";
    transaction.execute(set, &[&tenant]).await?;
    let notes = notes(&transaction).await?;
    transaction.commit().await?;
    Ok(notes)
}

#[tokio::test]
async fn a_setting_of_a_transaction_ends_with_it_and_costs_no_reset() {
    let database = tenants("rls_by_transaction").await;
    let hooks = Hooks::default().after_connect(|connection| {
        Box::pin(async move { connection.batch_execute("SET ROLE rls_by_transaction").await })
    });
    let pool = Pool::with_hooks(database.config(1), hooks).unwrap();
    for _ in 0..3 {
        assert_eq!(notes_of(&pool, "blue").await.unwrap(), ["sea", "sky"]);
        assert_eq!(notes_of(&pool, "green").await.unwrap(), ["grass"]);
        assert_eq!(own_notes(&pool).await, [""; 0]);
    }
    assert_eq!(pool.stats().pool.cleaned, 0);
}

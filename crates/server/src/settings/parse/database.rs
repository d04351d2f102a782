//! Connection strings of PostgreSQL and of Redis. The libraries parse them.
//!
//! Invariant: the value is secret, because it may hold a password; what is shown has none.

use cenote_cache::RedisUrl;
use cenote_postgres::{ConnectionString, InvalidUrl};

use super::{is_invisible, kinds};

kinds! {
    /// A connection string of PostgreSQL whose options are known to be valid.
    DatabaseUrl: ConnectionString, "URL", "postgresql:// URL, or libpq key=value list", database_url,
        ConnectionString::to_string, {
        const SECRET: bool = true;

        fn allows(&self, c: char) -> bool {
            // White space of every kind separates the options of a list.
            c.is_ascii_whitespace() || !c.is_control() && !is_invisible(c)
        }
    };

    /// Where Redis is: a server, or several nodes of a cluster.
    RedisServers: Vec<RedisUrl>, "URL", "URL of Redis, or a comma-separated list of those of a cluster's nodes",
        |text| RedisUrl::parse_list(text).map_err(|invalid| invalid.to_string()),
        |servers: &Vec<RedisUrl>| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        { const SECRET: bool = true; };
}

fn database_url(text: &str) -> Result<ConnectionString, String> {
    let parsed: Result<ConnectionString, InvalidUrl> = text.trim().parse();
    let checked = parsed.and_then(|parsed| parsed.config().map(|_| parsed));
    checked.map_err(|problem| problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse::Kind;

    #[test]
    fn urls_of_postgresql_sqlalchemy_and_libpq_are_read_alike() {
        for text in [
            "postgresql://u:p@h:5433/d",
            "postgres://u:p@h:5433/d",
            "postgresql+asyncpg://u:p@h:5433/d",
            "postgresql+psycopg://u:p@h:5433/d",
            "postgres+psycopg2://u:p@h:5433/d",
            "  postgresql://u:p@h:5433/d\n",
            "host=h port=5433 user=u password=p dbname=d",
        ] {
            let dsn = DatabaseUrl.parse(text).unwrap();
            assert_eq!(dsn.config().unwrap().server.get_user(), Some("u"), "{text}");
            assert_eq!(dsn.config().unwrap().server.get_password(), Some(&b"p"[..]), "{text}");
            assert_eq!(DatabaseUrl.show(&dsn), "postgresql://u:***@h:5433/d", "{text}");
        }
    }

    #[test]
    fn complaints_continue_a_sentence_and_quote_no_secret() {
        for (text, expected) in [
            ("mysql://u:hunter2@h/d", "must start with"),
            ("postgresql+asyncpg://u:hun@ter2@h/d", "%40"),
            ("postgresql://h/d?sslmode=hunter2", "verify-full"),
            ("host=h password=oh hunter2=x", "unknown option"),
            ("jdbc:postgresql://h/d?password=hunter2", "remove that"),
        ] {
            let complaint = DatabaseUrl.parse(text).unwrap_err();
            assert!(complaint.contains(expected), "{text}: {complaint}");
            assert!(!complaint.contains("ter2"), "{text}: {complaint}");
        }
    }

    #[test]
    fn what_is_shown_says_how_far_the_server_is_trusted_and_which_one_will_do() {
        for (options, shown) in [
            ("", ""),
            ("?sslmode=require", "?sslmode=require"),
            ("?sslmode=allow", "?sslmode=allow"),
            (
                "?sslrootcert=system&target_session_attrs=primary",
                "?sslmode=verify-full&target_session_attrs=primary",
            ),
            ("?sslmode=verify-ca&sslrootcert=/ca", "?sslmode=verify-ca"),
        ] {
            let dsn = DatabaseUrl.parse(&format!("postgresql://h{options}"));
            let expected = format!("postgresql://h:5432{shown}");
            assert_eq!(DatabaseUrl.show(&dsn.unwrap()), expected);
        }
    }

    #[test]
    fn what_is_shown_is_a_url_whose_parts_cannot_be_taken_for_others() {
        for (text, shown) in [
            (
                "postgresql://db.example.org:5432/shop?password=hunter2&user=svc@corp.example",
                "postgresql://svc%40corp.example:***@db.example.org:5432/shop",
            ),
            (
                "postgresql://u%3Ahunter%40x@h/a%2Fb",
                "postgresql://u%3Ahunter%40x@h:5432/a%2Fb",
            ),
            ("postgresql://[::1]/d", "postgresql://[::1]:5432/d"),
            ("hostaddr=::1 user=u", "postgresql://u@[::1]:5432"),
            ("postgresql://%2Frun%2Fpg/d", "postgresql://%2Frun%2Fpg:5432/d"),
        ] {
            assert_eq!(DatabaseUrl.show(&DatabaseUrl.parse(text).unwrap()), shown);
        }
    }

    #[test]
    fn a_port_is_filled_in_only_where_the_text_leaves_it_open() {
        for (text, shown) in [
            ("postgresql://u:p@h/d", "postgresql://u:***@h:7/d"),
            (
                "postgresql://a,b/d?sslmode=require",
                "postgresql://a:7,b:7/d?sslmode=require",
            ),
            ("postgresql://[::1]", "postgresql://[::1]:7"),
            ("postgresql:///d?host=h", "postgresql://h:7/d"),
            ("host=h", "postgresql://h:7"),
        ] {
            let mut dsn = DatabaseUrl.parse(text).unwrap();
            assert!(dsn.fill_in("port", "7"), "{text}");
            assert_eq!(DatabaseUrl.show(&dsn), shown);
        }
        for text in ["postgresql://h:1", "postgresql://[::1]:1", "host=h port=1"] {
            assert!(!DatabaseUrl.parse(text).unwrap().fill_in("port", "7"), "{text}");
        }
    }
}

//! Where rows are read from.

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use cenote_cached::{Cached, Codec, Config, InvalidCached, Json, Load, Mode, Source, Sql, State, Versioned};
use serde::{Deserialize, Serialize};

use crate::world::{GOODS, Goods, SOON, World, read_goods};

#[tokio::test]
async fn a_row_is_read_from_the_database_once_and_then_from_redis_by_every_instance() {
    let world = World::start().await;
    let (one, other) = (
        world.instance(world.strong()).await,
        world.instance(world.strong()).await,
    );
    let first = one.goods.read(&7).await.unwrap();
    assert_eq!(first.source, Source::Database);
    for instance in [&one, &other] {
        let again = instance.goods.read(&7).await.unwrap();
        assert_eq!((again.source, again.version), (Source::Redis, first.version));
        assert_eq!(again.value, first.value);
        assert_eq!(again.age, Some(Duration::ZERO));
    }
    assert!(first.version > Some(0), "{first:?}");
}

#[tokio::test]
async fn a_missing_row_is_cached_too() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    for source in [Source::Database, Source::Redis] {
        let read = one.goods.read(&1_000).await.unwrap();
        assert_eq!((read.value, read.version, read.source), (None, None, source));
    }
}

#[tokio::test]
async fn several_rows_are_read_in_the_order_of_their_keys() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    assert_eq!(one.pieces(2).await, 100);
    let names = |rows: Vec<Option<Arc<Goods>>>| -> Vec<Option<String>> {
        rows.into_iter().map(|row| row.map(|row| row.name.clone())).collect()
    };
    let expected = [
        Some("goods 3".to_owned()),
        None,
        Some("goods 2".to_owned()),
        Some("goods 3".to_owned()),
    ];
    for _ in 0..2 {
        let rows = one.goods.get_many(&[3, 1_000, 2, 3]).await.unwrap();
        assert_eq!(names(rows), expected);
    }
    assert!(one.goods.get_many(&[]).await.unwrap().is_empty());
}

/// Counts how often a value is decoded.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Codec<Goods> for Counting {
    fn encode(&self, value: &Goods) -> Option<Bytes> {
        Json.encode(value)
    }

    fn decode(&self, bytes: &Bytes) -> Option<Goods> {
        self.0.fetch_add(1, SeqCst);
        Json.decode(bytes)
    }
}

#[tokio::test]
async fn a_row_that_is_kept_near_is_decoded_once_or_not_at_all() {
    let world = World::start().await;
    let other = world.instance(world.bounded()).await;
    assert_eq!(other.pieces(7).await, 100);
    for (mode, decoded) in [(world.bounded(), 1), (Mode::Local, 0)] {
        let cached = Cached::new(&world.pool, Config::new("shop", mode)).unwrap();
        let codec = Counting::default();
        let load = Sql::new(&world.pool, GOODS, read_goods).version("version");
        let goods = cached.table_with::<i64, _>("goods", load, codec.clone()).unwrap();
        assert_eq!(cached.ready(SOON).await, State::Ok);
        let first = goods.get(&7).await.unwrap().unwrap();
        // In `bounded` a near row is used only while its age is proven.
        crate::world::until("the row is near", async || {
            let read = goods.read(&7).await.unwrap();
            assert_eq!(read.value, Some(first.clone()));
            read.source == Source::Near
        })
        .await;
        let before = codec.0.load(SeqCst);
        let near = goods.near(&7).and_then(|read| read.value);
        assert!(near.is_none_or(|near| near == first));
        assert!(before >= decoded && codec.0.load(SeqCst) == before, "decoded again");
        if decoded == 0 {
            assert_eq!(before, 0);
            assert!(Arc::ptr_eq(&first, &goods.near(&7).unwrap().value.unwrap()));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct GoodsWithShelf {
    name: String,
    pieces: i64,
    shelf: i64,
}

#[tokio::test]
async fn what_an_earlier_version_of_the_program_cached_in_another_form_is_read_from_the_database() {
    let world = World::start().await;
    let earlier = world.instance(world.strong()).await;
    earlier.goods.get_many(&[1, 2, 3]).await.unwrap();

    let later = Cached::new(&world.pool, Config::new("shop", world.strong())).unwrap();
    let load = Sql::new(&world.pool, GOODS, |row| {
        let Goods { name, pieces } = read_goods(row)?;
        Ok(GoodsWithShelf { name, pieces, shelf: 4 })
    });
    let goods = later
        .table::<i64, GoodsWithShelf>("goods", load.version("version"))
        .unwrap();
    assert_eq!(later.ready(SOON).await, State::Ok);
    for _ in 0..2 {
        let read = goods.read(&2).await.unwrap();
        assert_eq!(read.source, Source::Database);
        assert_eq!(read.value.unwrap().shelf, 4);
        let many = goods.get_many(&[1, 50, 1_000, 3]).await.unwrap();
        let shelves: Vec<_> = many.iter().map(|row| row.as_ref().map(|row| row.shelf)).collect();
        assert_eq!(shelves, [Some(4), Some(4), None, Some(4)]);
    }
    // What the later version cached first, the earlier one reads: it ignores the field.
    assert_eq!(earlier.goods.read(&50).await.unwrap().source, Source::Redis);
}

#[tokio::test]
async fn each_table_keeps_its_rows_for_its_own_time() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    let load = Sql::new(&world.pool, GOODS, read_goods);
    let brief = one
        .cached
        .table::<i64, Goods>("brief", load)
        .unwrap()
        .with_ttl(Duration::from_secs(60));
    brief.get(&7).await.unwrap().unwrap();
    brief.get(&1_000).await.unwrap();
    one.goods.get(&7).await.unwrap().unwrap();
    for (key, range) in [
        ("brief:7", 5_000..=60_000),
        ("brief:1000", -2..=6_000),
        ("goods:7", 200_000..=300_000),
    ] {
        let find = "return redis.call('PTTL', redis.call('KEYS', ARGV[1])[1])";
        let left = world.redis.command(&["EVAL", find, "0", &format!("*:{key}")]).await;
        let left: i64 = left.unwrap().trim().parse().unwrap();
        assert!(range.contains(&left), "{key}: {left} ms");
    }
}

#[tokio::test]
async fn a_table_has_a_name_of_its_own() {
    let world = World::start().await;
    let one = world.instance(Mode::Local).await;
    let load = || Sql::new(&world.pool, GOODS, read_goods);
    let refused = one.cached.table::<i64, Goods>("goods", load()).unwrap_err();
    assert!(matches!(refused, InvalidCached::Taken(name) if name == "goods"));
    let refused = one.cached.table::<i64, Goods>("a:b", load()).unwrap_err();
    assert!(matches!(refused, InvalidCached::Config(_)));
}

/// A key of two columns, whose text does not parse back if the shelf has a slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    shelf: String,
    row: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shelf, self.row)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shelf, row) = text.split_once('/').ok_or(())?;
        let row = row.parse().map_err(|_| ())?;
        Ok(Self {
            shelf: shelf.to_owned(),
            row,
        })
    }
}

/// Finds a text for every place.
struct Places;

impl Load<Place, String> for Places {
    type Error = cenote_postgres::Error;

    async fn load(&self, keys: Vec<Place>) -> cenote_postgres::Result<Vec<Option<Versioned<String>>>> {
        let value = |key: Place| {
            Some(Versioned {
                version: 1,
                value: format!("at {key}"),
            })
        };
        Ok(keys.into_iter().map(value).collect())
    }
}

#[tokio::test]
async fn a_key_may_have_several_columns_and_one_that_cannot_be_told_from_its_text_is_not_cached() {
    let world = World::start().await;
    let one = world.instance(world.strong()).await;
    let places = one.cached.table("places", Places).unwrap();
    let place = |shelf: &str| Place {
        shelf: shelf.to_owned(),
        row: 3,
    };
    for (shelf, sources) in [("a", [Source::Database, Source::Redis]), ("a/b", [Source::Database; 2])] {
        for source in sources {
            let read = places.read(&place(shelf)).await.unwrap();
            assert_eq!(
                (read.value.unwrap().as_str(), read.source),
                (&*format!("at {shelf}/3"), source)
            );
        }
    }
    let many = places.get_many(&[place("a"), place("a/b")]).await.unwrap();
    assert_eq!(many[1].as_deref().map(String::as_str), Some("at a/b/3"));
}

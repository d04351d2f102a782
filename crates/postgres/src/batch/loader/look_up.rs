//! Runs one statement for the keys of many callers. Invariant: every caller gets the rows of its own keys and no
//! others.

use std::{
    collections::HashMap,
    hash::Hash,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use crate::{Batch, BatchCalls, Error, Pool, Pooled, Result, Weight, error::panic_text};

/// The value of a row, or why it could not be made. Returned by a loader's `read`.
///
/// `?` converts any error, such as that of [`Row::try_get`].
pub type Decoded<V> = std::result::Result<V, Box<dyn std::error::Error + Send + Sync>>;

/// An error shows at most this many characters of a key.
const SHOWN: usize = 100;

pub(super) struct LookUp<K, V, F> {
    pool: Pool,
    sql: Arc<str>,
    read: fn(Row) -> Decoded<V>,
    bytes: fn(&K) -> usize,
    /// The columns of the statement were checked.
    is_right: AtomicBool,
    found: std::marker::PhantomData<fn() -> F>,
}

/// The keys of one caller.
pub(super) enum LookUpRequest<K> {
    One(K),
    Many(Vec<K>),
}

/// The results for the keys of one caller.
pub(super) enum LookUpResponse<F> {
    One(Result<F>),
    Many(Vec<Result<F>>),
}

/// The rows that a key may have: at most one, or any number.
pub(super) trait Found<V>: Clone + Default + Send + Sync + 'static {
    /// Adds a value. Returns false if it is one too many.
    fn add(&mut self, value: V) -> bool;
}

impl<V: Clone + Send + Sync + 'static> Found<V> for Option<V> {
    fn add(&mut self, value: V) -> bool {
        self.replace(value).is_none()
    }
}

impl<V: Clone + Send + Sync + 'static> Found<V> for Vec<V> {
    fn add(&mut self, value: V) -> bool {
        self.push(value);
        true
    }
}

impl<K> LookUpRequest<K> {
    fn keys(&self) -> &[K] {
        match self {
            Self::One(key) => slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

impl<F: Default> LookUpResponse<F> {
    pub(super) fn one(self) -> Result<F> {
        match self {
            Self::One(found) => found,
            Self::Many(found) => found.into_iter().next().unwrap_or_else(|| Ok(F::default())),
        }
    }
}

impl<K, V, F> LookUp<K, V, F> {
    pub(super) fn new(pool: Pool, sql: Arc<str>, read: fn(Row) -> Decoded<V>, bytes: fn(&K) -> usize) -> Self {
        Self {
            pool,
            sql,
            read,
            bytes,
            is_right: AtomicBool::new(false),
            found: std::marker::PhantomData,
        }
    }
}

impl<K, V, F> Batch for LookUp<K, V, F>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Found<V>,
{
    type Request = LookUpRequest<K>;
    type Response = LookUpResponse<F>;

    fn weight(&self, wanted: &LookUpRequest<K>) -> Weight {
        let keys = wanted.keys();
        Weight {
            rows: keys.len(),
            bytes: keys.iter().map(self.bytes).sum(),
        }
    }

    fn key(&self, _: &LookUpRequest<K>) -> Option<u64> {
        None
    }

    async fn run(&self, connection: Pooled<'_>, calls: &BatchCalls<Self>) {
        let mut connection = Some(connection);
        // A stack of parts; the next one is on top.
        let mut parts = Vec::new();
        parts.push(0..calls.requests().len());
        while let Some(part) = parts.pop() {
            let wanted = &calls.requests()[part.clone()];
            match self.look_up(&mut connection, wanted).await {
                Ok(found) => answer(calls, part, found),
                // One key caused the error: halve the batch, so that the others are found.
                Err(error) if part.len() > 1 && error.is_about_data() => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([middle..part.end, part.start..middle]);
                }
                Err(error) => calls.answer_each(part, |_| Err(error.clone())),
            }
        }
    }
}

/// Answers each call of a part with the results of its keys.
fn answer<K, V, F>(calls: &BatchCalls<LookUp<K, V, F>>, part: Range<usize>, found: Vec<Result<F>>)
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Found<V>,
{
    let mut found = found.into_iter();
    calls.answer_each(part, |call| {
        Ok(match &calls.requests()[call] {
            LookUpRequest::One(_) => LookUpResponse::One(found.next().unwrap_or_else(|| Ok(F::default()))),
            LookUpRequest::Many(keys) => LookUpResponse::Many(found.by_ref().take(keys.len()).collect()),
        })
    });
}

impl<K, V, F> LookUp<K, V, F>
where
    K: ToSql + Eq + Hash + Send + Sync + 'static,
    V: Clone,
    F: Found<V>,
{
    /// Returns the results in the order of the keys. A key that is asked for several times is sent once.
    async fn look_up<'p>(
        &'p self,
        connection: &mut Option<Pooled<'p>>,
        wanted: &[LookUpRequest<K>],
    ) -> Result<Vec<Result<F>>> {
        let mut keys = Vec::with_capacity(wanted.len());
        let mut places = HashMap::with_capacity(wanted.len());
        let place = |key| {
            *places.entry(key).or_insert_with(|| {
                keys.push(key);
                keys.len() - 1
            })
        };
        let all = wanted.iter().flat_map(LookUpRequest::keys);
        let order: Vec<usize> = all.map(place).collect();
        let rows = self.ask(connection, &keys).await?;
        let mut found: Vec<Result<F>> = keys.iter().map(|_| Ok(F::default())).collect();
        for row in rows {
            let place = place_of(&row, keys.len())?;
            let Ok(values) = &mut found[place] else {
                continue;
            };
            let added = self.read(row).map(|value| values.add(value));
            match added {
                Ok(true) => {}
                Ok(false) => found[place] = Err(several_rows(keys[place])),
                Err(error) => found[place] = Err(error),
            }
        }
        if keys.len() == order.len() {
            return Ok(found);
        }
        let values = order.into_iter().map(|place| found[place].clone());
        Ok(values.collect())
    }

    /// Reads a row. An error or a panic concerns the callers of its key only.
    fn read(&self, row: Row) -> Result<V> {
        match catch_unwind(AssertUnwindSafe(|| (self.read)(row))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Error::Decode(error.into())),
            Err(panic) => {
                let text = format!("decoding it panicked: {}", panic_text(&*panic));
                let error: Box<dyn std::error::Error + Send + Sync> = text.into();
                Err(Error::Decode(error.into()))
            }
        }
    }

    /// Runs the statement on this connection; if that is lost, on another one.
    async fn ask<'p>(&'p self, connection: &mut Option<Pooled<'p>>, keys: &[&K]) -> Result<Vec<Row>> {
        let mut tries = self.pool.config().retry.tries();
        loop {
            let asked = match connection.take() {
                Some(connection) => connection,
                None => self.pool.get().await?,
            };
            match self.ask_once(&asked, keys).await {
                Err(error) if error.is_retryable() => {
                    drop(asked);
                    if !tries.again(&error).await {
                        return Err(error);
                    }
                }
                answer => {
                    *connection = Some(asked);
                    return answer;
                }
            }
        }
    }

    async fn ask_once(&self, connection: &Pooled<'_>, keys: &[&K]) -> Result<Vec<Row>> {
        if !self.is_right.load(Relaxed) {
            // The statement stays prepared for the query below, so this costs no round trip.
            connection.describe(&self.sql, is_right).await??;
            self.is_right.store(true, Relaxed);
        }
        connection.query(&self.sql, &[&keys]).await
    }
}

/// Checks that the first column can be a position. The name is required, so that no other number is taken for one by
/// accident.
fn is_right(columns: &[tokio_postgres::Column]) -> Result<()> {
    let wrong = |what: String| Err(Error::WrongStatement(what.into()));
    match columns.first() {
        Some(first) if first.name() != "position" => wrong(format!(
            "the first column of a loader's statement must be the `position` of a key, not `{}`",
            first.name()
        )),
        Some(first) if *first.type_() != Type::INT8 => wrong(format!(
            "the `position` in a loader's statement must be a bigint, not {}",
            first.type_()
        )),
        Some(_) => Ok(()),
        None => wrong("a loader's statement must return rows".to_owned()),
    }
}

/// Returns the index of the key to which a row belongs.
fn place_of(row: &Row, keys: usize) -> Result<usize> {
    let position: Option<i64> = match row.try_get(0) {
        Ok(position) => position,
        Err(error) => return Err(Error::WrongStatement(error.to_string().into())),
    };
    let place = position.and_then(|position| usize::try_from(position.checked_sub(1)?).ok());
    place.filter(|place| *place < keys).ok_or_else(|| {
        let position = position.map_or("null".to_owned(), |position| position.to_string());
        Error::WrongStatement(
            format!("a loader's statement returned a row with the position {position}, of {keys} keys").into(),
        )
    })
}

fn several_rows<K: ToSql>(key: &K) -> Error {
    let mut shown = format!("{key:?}");
    if let Some((end, _)) = shown.char_indices().nth(SHOWN) {
        shown.truncate(end);
        shown.push('…');
    }
    Error::SeveralRows { key: shown.into() }
}
